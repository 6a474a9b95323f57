// The page of a run: its timeline with stalls and the prediction behind, VRAM, the whole run in miniature.
const d = JSON.parse(byId("data").textContent);
const GUTTER = 76, MEMORY = 150;
const SPAN = { component: 5, block: 6, pass: 7, bytes: 8, wait: 9, needed: 10 };
const LANES = ["compute", "h2d", "d2h", "disk", "host"];
const STALLS = d.lanes.length;

const blockName = (component, block) => {
  const one = d.components[component];
  const local = one && one.blocks[block] !== undefined ? one.blocks[block] : "?";
  return d.components.length > 1 && one ? `${one.name}.${local}` : local;
};
const labelOf = (span) => {
  const one = d.components[span[SPAN.component]];
  return (one && one.labels[span[SPAN.block]]) || ["", "", 0];
};
const useOf = (span) => `${span[SPAN.component]}.${span[SPAN.block]}.${span[SPAN.pass]}`;
const laneOf = (span) => d.lanes[span[AT.row]];

// What was copied for what: by use, the compute and the copies to the device. Spans that share a mark have no partner.
const uses = new Map();
for (const span of d.spans) {
  if (span[AT.count] > 1 || !["compute", "h2d"].includes(laneOf(span))) continue;
  const use = uses.get(useOf(span)) || { copies: [], compute: null };
  if (laneOf(span) === "compute") use.compute = span; else use.copies.push(span);
  uses.set(useOf(span), use);
}
// Pairs of a copy and its compute for a span of either; of a stall, those of the use that waited.
function partners(span) {
  const use = uses.get(useOf(span));
  if (!use || !use.compute || span[AT.count] > 1) return [];
  const pair = (copy) => [copy, use.compute];
  return laneOf(span) === "h2d" ? [pair(span)] : span[AT.row] === STALLS || laneOf(span) === "compute" ? use.copies.map(pair) : [];
}
const slack = (needed, end) => needed >= end ? `slack ${time(needed - end)}` : `${time(end - needed)} late`;

function describe(span) {
  const name = blockName(span[SPAN.component], span[SPAN.block]);
  if (span[AT.row] === STALLS) {
    return `${span[AT.count] > 1 ? `${span[AT.count]} stalls from` : "stall:"} ${name}, pass ${span[SPAN.pass]}; `
      + `needed at ${time(span[AT.start])}, ${time(span[AT.busy])} late; ${d.causes[span[SPAN.bytes]]}`;
  }
  const many = span[AT.count] > 1 ? `${span[AT.count]} spans, the longest ` : "";
  const parts = [`${laneOf(span)}: ${many}${name}, pass ${span[SPAN.pass]}`, `from ${time(span[AT.start])} for ${time(span[AT.length])}`];
  if (span[AT.count] > 1) return parts.join("; ");
  if (span[SPAN.bytes]) parts.push(`${size(span[SPAN.bytes])} at ${rate(span[SPAN.bytes], span[AT.length])}`);
  if (span[SPAN.wait] >= 0) parts.push(`waited for ${LANES[span[SPAN.wait]]}`);
  const use = uses.get(useOf(span));
  if (use && use.compute && laneOf(span) === "h2d") {
    const needed = use.compute[SPAN.needed];
    parts.push(`for the compute that was free to start at ${time(needed)}: ${slack(needed, endOf(span))}`);
  }
  if (use && laneOf(span) === "compute" && use.copies.length) {
    const last = Math.max(...use.copies.map(endOf));
    const many = use.copies.length > 1 ? `${use.copies.length} copies, the last` : "copy";
    parts.push(`its ${many} ended at ${time(last)}: ${slack(span[SPAN.needed], last)}`);
  }
  return parts.join("; ");
}

function tell(span) {
  const out = byId("detail"), pairs = span ? partners(span) : [];
  const hint = pairs.length ? ` Enter goes to ${laneOf(span) === "h2d" ? "what it is for" : "its copy"}.` : "";
  out.hidden = !span;
  out.textContent = span ? describe(span) + "." + hint : "";
}

// Intervals of lanes, from so far below a row's top on and so tall; what falls into a pixel already drawn is left away.
function drawStrips(intervals, css, down, height, { plot, x, shown }) {
  const drawn = [];
  for (const [lane, start, length] of intervals) {
    if (start >= shown.end || start + length <= shown.start) continue;
    const left = x(start), right = x(start + length);
    if (right < (drawn[lane] || 0) + 0.5) continue;
    drawn[lane] = right;
    node(plot, "rect", { class: css, x: left.toFixed(1), y: lane * PITCH + down, width: Math.max(0.5, right - left).toFixed(1), height });
  }
}

// Behind the marks where the plan has them, below copies when collectives held their link.
function drawUnder(on) {
  drawStrips(d.planned, "ghost", 4, ROW + 2, on);
  drawStrips(d.held, "held", ROW + 1, 5, on);
}

// Where one component follows another.
function drawBoundaries(plot, x, shown, height) {
  for (const [name, at] of d.boundaries) {
    if (at <= shown.start || at >= shown.end) continue;
    const line = node(plot, "path", { class: "boundary", d: `M${x(at).toFixed(1)} 0v${height}` });
    node(line, "title", {}, name);
  }
}

const vram = byId("vram"), mini = byId("minimap"), brush = byId("brush");
function drawMemory(shown, { x, axis, prepare, width: wide }) {
  const focused = vram.contains(document.activeElement);
  const plot = prepare(vram, MEMORY + 30);
  const peak = d.reserve + d.slab, top = Math.max(d.budget, peak) * 1.08;
  const y = (bytes) => 4 + MEMORY - bytes / top * MEMORY;
  const every = 2 ** Math.ceil(Math.log2(top / 5)), unit = top >= 2 ** 30 ? [2 ** 30, "GiB"] : [2 ** 20, "MiB"];
  for (let at = 0; at <= top; at += every) {
    node(plot, "path", { class: "grid", d: `M${GUTTER} ${y(at)}h${wide}` });
    node(plot, "text", { class: "tick", x: GUTTER - 8, y: y(at) + 4, "text-anchor": "end" }, `${Math.floor(at * 1000 / unit[0]) / 1000} ${unit[1]}`);
  }
  let path = `M${GUTTER} ${y(d.reserve)}`, column = -1, high = 0;
  const until = d.vram.findIndex((sample) => sample[0] >= shown.end);
  const last = until < 0 ? d.vram.length : until;
  let first = d.vram.findIndex((sample) => sample[0] > shown.start);
  first = Math.max(0, (first < 0 ? d.vram.length : first) - 1);
  for (let index = first; index < last; index++) {
    const at = x(d.vram[index][0]).toFixed(1), level = y(d.reserve + d.vram[index][1]).toFixed(1);
    // Within one column only the highest use and the last one can be seen.
    if (at === column && d.vram[index][1] < high) { if (index + 1 < last && x(d.vram[index + 1][0]).toFixed(1) === at) continue; }
    high = at === column ? Math.max(high, d.vram[index][1]) : d.vram[index][1];
    column = at;
    path += `H${at}V${level}`;
  }
  node(plot, "path", { class: "inuse", d: `${path}H${GUTTER + wide}V${y(d.reserve)}Z` });
  node(plot, "rect", { class: "reserve", x: GUTTER, y: y(d.reserve), width: wide, height: MEMORY + 4 - y(d.reserve) });
  const level = (bytes, css, name, left) => {
    node(plot, "path", { class: css, d: `M${GUTTER} ${y(bytes)}h${wide}` });
    node(plot, "text", { class: "level", x: left ? GUTTER + 6 : GUTTER + wide - 6, "text-anchor": left ? "start" : "end",
      y: left ? y(bytes) + 14 : Math.max(10, y(bytes) - 4) }, `${name} ${size(bytes)}`);
  };
  level(peak, "peak", "peak", true);
  level(d.budget, "budget", `headroom ${size(Math.max(0, d.budget - peak))} of budget`, false);
  axis(plot, MEMORY + 4);
  probes(plot, shown, x, wide, first, last);
  walkable(vram);
  if (focused) vram.querySelector("[tabindex=\"0\"]")?.focus({ preventScroll: true });
}

// What can be asked of the area: its highest use in each of some columns.
function probes(plot, shown, x, wide, first, last) {
  const columns = Math.max(1, Math.min(80, Math.floor(wide / 12))), length = (shown.end - shown.start) / columns;
  let index = first;
  for (let column = 0; column < columns; column++) {
    const from = shown.start + column * length, to = from + length;
    let most = index < d.vram.length && d.vram[index][0] < to ? d.vram[index][1] : 0;
    while (index + 1 < last && d.vram[index + 1][0] < to) { index += 1; most = Math.max(most, d.vram[index][1]); }
    const probe = node(plot, "rect", { class: "hit", x: x(from).toFixed(1), y: 4, width: (wide / columns).toFixed(1), height: MEMORY });
    probe.dataset.tip = `at ${time(Math.round(from))}: at most ${size(d.reserve + most)} in use, ${size(most)} of the slab's ${size(d.slab)}`;
  }
}

// The page holds the whole run's marks for a width of 1000; they move to where the timeline above has its own.
const small = [...mini.querySelectorAll("rect")].filter((mark) => mark !== brush)
  .map((mark) => ({ mark, x: Number(mark.getAttribute("x")) - GUTTER, wide: Number(mark.getAttribute("width")) }));
function fitMinimap(shown, { width: wide, full }) {
  const share = wide / (1000 - GUTTER - RIGHT), box = mini.getAttribute("viewBox").split(" "), whole = Math.max(1, d.end - d.start);
  mini.setAttribute("viewBox", `0 0 ${full} ${box[3]}`);
  for (const one of small) {
    one.mark.setAttribute("x", (GUTTER + one.x * share).toFixed(1));
    one.mark.setAttribute("width", Math.max(one.wide * share, 0.7).toFixed(1));
  }
  brush.setAttribute("x", GUTTER + (shown.start - d.start) / whole * wide);
  brush.setAttribute("width", Math.max(2, (shown.end - shown.start) / whole * wide));
}

function drawn(shown, merged, chart) {
  const pass = d.passes.findIndex(([, start, end]) => start === shown.start && end === shown.end);
  const all = shown.start === d.start && shown.end === d.end;
  const crossing = d.boundaries.findIndex(([, , start, end]) => start === shown.start && end === shown.end);
  byId("shown").textContent = `Shown: ${pass >= 0 ? d.passes[pass][0] : crossing >= 0 ? `the boundary ${d.boundaries[crossing][0]}` : all ? "the whole run" : "a part of the run"}, `
    + `${time(shown.end - shown.start)} of ${time(d.end - d.start)} (${d.origin}), from ${time(shown.start)}`
    + (merged > 1 ? `; ${merged} spans merged into neighbours, marks as high as the lane is busy.`
      : merged ? "; 1 span merged into its neighbour." : ".");
  byId("pass").value = pass < 0 && crossing >= 0 ? `b${crossing}` : String(pass);
  byId("prev").disabled = byId("next").disabled = d.passes.length < 2;
  drawMemory(shown, chart);
  fitMinimap(shown, chart);
}

theme();
document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll("svg.chart").forEach((chart) => { if (!["gantt", "vram", "minimap"].includes(chart.id)) walkable(chart); });
if (d.spans.length) {
  const rows = d.lanes.map((name, lane) => ({ name, css: name, spans: d.spans.filter((span) => span[AT.row] === lane) }));
  // The row of stalls is a lane like the others; where a span has its bytes, a stall has its cause.
  rows.push({ name: "stalls", css: "stall", spans: d.stalls });
  const chart = lanes({ svg: byId("gantt"), gutter: GUTTER, rows, start: d.start, end: d.end, shown: d.shown, describe, partners, drawn,
    text: (span) => (span[AT.row] === STALLS ? [] : labelOf(span).slice(0, 2)), told: tell,
    under: (plot, x, shown) => { drawUnder({ plot, x, shown }); drawBoundaries(plot, x, shown, rows.length * PITCH); },
    shade: (span) => (span[AT.row] === STALLS ? "" : `l${labelOf(span)[2]}`) });
  const select = byId("pass");
  const option = (value, text) => {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    select.appendChild(made);
  };
  option("-1", "other window");
  d.passes.forEach(([name], index) => option(String(index), name));
  d.boundaries.forEach(([name], index) => option(`b${index}`, `boundary ${name}`));
  select.addEventListener("change", () => {
    const crossing = d.boundaries[Number(select.value.slice(1))], one = d.passes[Number(select.value)];
    if (select.value.startsWith("b")) chart.show(crossing[2], crossing[3]); else if (one) chart.show(one[1], one[2]);
  });
  const toPass = (by) => {
    const { start, end } = chart.shown(), middle = (start + end) / 2;
    let at = d.passes.findIndex(([, , end]) => end > middle);
    if (at < 0) at = d.passes.length - 1;
    const next = d.passes[Math.min(Math.max(at + by, 0), d.passes.length - 1)];
    if (next) chart.show(next[1], next[2]);
  };
  byId("prev").addEventListener("click", () => toPass(-1));
  byId("next").addEventListener("click", () => toPass(1));
  byId("in").addEventListener("click", () => chart.zoom(0.5));
  byId("out").addEventListener("click", () => chart.zoom(2));
  byId("all").addEventListener("click", chart.whole);
  mini.addEventListener("click", (event) => {
    const box = mini.getBoundingClientRect(), wide = box.width - GUTTER - RIGHT, { start, end } = chart.shown();
    const at = d.start + (event.clientX - box.left - GUTTER) / wide * (d.end - d.start), half = (end - start) / 2;
    chart.show(at - half, at + half);
  });
  byId("controls").hidden = false;
  chart.draw();
}
