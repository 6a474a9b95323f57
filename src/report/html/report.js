// Redraws the timeline for any window, sorts tables, switches the theme. Every number comes from the page's data.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const d = JSON.parse(byId("data").textContent);
  const GUTTER = 76, ROW = 34, PITCH = 42, MEMORY = 150, RIGHT = 12;
  const SPAN = { lane: 0, start: 1, length: 2, component: 3, block: 4, pass: 5, bytes: 6, count: 7, wait: 8, busy: 9, until: 10 };
  const LANES = ["compute", "h2d", "d2h", "disk", "host"];
  const SVG = "http://www.w3.org/2000/svg";
  document.documentElement.classList.add("js");

  // --- numbers as text, rounded as the Rust side rounds them: to the nearest, halves up, in whole numbers throughout
  const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "us"], [1, "ns"]];
  const rounded = (value, unit, decimals) => {
    const scaled = (value * 10n ** BigInt(decimals) * 2n + unit) / (2n * unit);
    const digits = scaled.toString().padStart(decimals + 1, "0");
    return decimals ? `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}` : digits;
  };
  const time = (ns) => {
    if (ns < 1000) return `${ns} ns`;
    const value = BigInt(ns);
    // A value that rounds to 1000 of a unit is 1 of the next.
    for (const [unit, name] of [[1000n, "us"], [1000000n, "ms"], [1000000000n, "s"]]) {
      for (const [below, decimals] of [[10, 3], [100, 2], [1000, 1]]) {
        const text = rounded(value, unit, decimals);
        if (Number(text) < below || (name === "s" && decimals === 1)) return `${text} ${name}`;
      }
    }
    return "";
  };
  const size = (bytes) => {
    const units = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
    const [scale, name] = units.find(([scale]) => bytes >= scale) || [1, "B"];
    return scale === 1 ? `${bytes} B` : `${rounded(BigInt(bytes), BigInt(scale), 1)} ${name}`;
  };
  const rate = (bytes, ns) => {
    const value = BigInt(bytes) * 1000000000n / BigInt(Math.max(ns, 1));
    const [scale, name] = [[10n ** 12n, "T"], [10n ** 9n, "G"], [10n ** 6n, "M"], [1000n, "k"]].find(([scale]) => value >= scale) || [1n, ""];
    return `${rounded(value, scale, 1)} ${name}B/s`;
  };
  const blockName = (component, block) => {
    const one = d.components[component];
    const local = one && one.blocks[block] !== undefined ? one.blocks[block] : "?";
    return d.components.length > 1 && one ? `${one.name}.${local}` : local;
  };
  const labelOf = (span) => {
    const one = d.components[span[SPAN.component]];
    return (one && one.labels[span[SPAN.block]]) || ["", "", 0];
  };

  // --- drawing
  const node = (parent, name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  };
  const gantt = byId("gantt"), vram = byId("vram"), mini = byId("minimap"), brush = byId("brush");
  const STALLS = d.lanes.length;
  const perLane = d.lanes.map((_, lane) => d.spans.filter((span) => span[SPAN.lane] === lane));
  // The row of stalls is a lane like the others; where a span has what it waited for, a stall has its cause.
  perLane.push(d.stalls.map(([start, length, component, block, pass, cause, count, busy]) =>
    [STALLS, start, length, component, block, pass, 0, count, cause, busy]));
  let shown = { start: d.shown[0], end: d.shown[1] };
  let selected = null;
  let links = new Map();
  const width = () => Math.max(320, Math.floor(byId("charts").clientWidth));
  const scale = (plot) => (at) =>
    GUTTER + (Math.min(Math.max(at, shown.start), shown.end) - shown.start) / (shown.end - shown.start) * plot;

  function prepare(svg, height) {
    const w = width();
    svg.setAttribute("viewBox", `0 0 ${w} ${height}`);
    const plot = svg.querySelector(".plot");
    plot.textContent = "";
    return [plot, w - GUTTER - RIGHT];
  }

  function step(length, most) {
    const power = 10 ** Math.floor(Math.log10(Math.max(length / most, 1)));
    return [1, 2, 5, 10].map((factor) => factor * power).find((one) => one * most >= length) || power;
  }

  function axis(plot, y, wide) {
    const x = scale(wide);
    node(plot, "path", { class: "axis", d: `M${GUTTER} ${y}h${wide}` });
    const every = step(shown.end - shown.start, Math.max(2, Math.floor(wide / 75)));
    const [unit, name] = shown.end >= 1e10 ? UNITS[0] : UNITS.slice(1).find(([scale]) => shown.end >= scale) || UNITS[3];
    const digits = Math.max(0, Math.ceil(-Math.log10(every / unit) - 1e-9));
    for (let at = Math.ceil(shown.start / every) * every; at <= shown.end; at += every) {
      node(plot, "path", { class: "axis", d: `M${x(at)} ${y}v5` });
      const anchor = x(at) > GUTTER + wide - 24 ? "end" : "middle";
      node(plot, "text", { class: "tick", x: x(at), y: y + 19, "text-anchor": anchor }, `${(at / unit).toFixed(digits)} ${name}`);
    }
  }

  function describe(span) {
    const name = blockName(span[SPAN.component], span[SPAN.block]);
    if (span[SPAN.lane] === STALLS) {
      return `${span[SPAN.count] > 1 ? `${span[SPAN.count]} stalls from` : "stall:"} ${name}, pass ${span[SPAN.pass]}; `
        + `needed at ${time(span[SPAN.start])}, ${time(span[SPAN.busy])} late; ${d.causes[span[SPAN.wait]]}`;
    }
    const many = span[SPAN.count] > 1 ? `${span[SPAN.count]} spans from ` : "";
    const parts = [`${d.lanes[span[SPAN.lane]]}: ${many}${name}, pass ${span[SPAN.pass]}`,
      `from ${time(span[SPAN.start])} for ${time(span[SPAN.length])}`];
    if (span[SPAN.bytes] && span[SPAN.count] === 1) {
      parts.push(`${size(span[SPAN.bytes])} at ${rate(span[SPAN.bytes], span[SPAN.length])}`);
    }
    if (span[SPAN.wait] >= 0) parts.push(`waited for ${LANES[span[SPAN.wait]]}`);
    return parts.join("; ");
  }
  const useOf = (span) => `${span[SPAN.component]}.${span[SPAN.block]}.${span[SPAN.pass]}`;

  function tell(text, use) {
    const out = byId("detail");
    out.hidden = !text;
    out.textContent = text;
    for (const marks of links.values()) for (const mark of marks) mark.classList.remove("linked");
    for (const mark of links.get(use) || []) mark.classList.add("linked");
  }

  function drawMark(plot, row, span, css, x) {
    const left = x(span[SPAN.start]), wide = Math.max(1, x(span[SPAN.start] + span[SPAN.length]) - left);
    const [label, index, shade] = labelOf(span);
    // Several spans in one mark must not look busier than they are.
    const share = span[SPAN.count] > 1 ? Math.min(1, span[SPAN.busy] / Math.max(1, span[SPAN.until] - span[SPAN.start])) : 1;
    const tall = Math.max(1, Math.round(ROW * share));
    const shaded = css === "stall" ? css : `${css} l${shade}`;
    const mark = node(plot, "rect", { class: wide < 4 ? `${shaded} thin` : shaded, x: left.toFixed(1),
      y: row * PITCH + ROW - tall, width: wide.toFixed(1), height: tall });
    const text = span[SPAN.count] > 1 || css === "stall" ? undefined
      : [label, index].find((one) => one && wide > 6.5 * one.length + 4);
    if (text) {
      node(plot, "text", { class: `on-${css}`, x: (left + wide / 2).toFixed(1), y: row * PITCH + ROW / 2 + 4, "text-anchor": "middle" }, text);
    }
    return mark;
  }

  // The marks of a lane: spans that start less than a column apart are one, which lasts until the next begins.
  function marksOf(lane, column) {
    const out = [];
    for (const span of perLane[lane]) {
      const end = span[SPAN.start] + span[SPAN.length];
      if (end <= shown.start) continue;
      if (span[SPAN.start] >= shown.end) break;
      const last = out[out.length - 1];
      if (last && span[SPAN.start] < last[SPAN.start] + column) {
        last[SPAN.length] = Math.max(end, last[SPAN.start] + last[SPAN.length]) - last[SPAN.start];
        last[SPAN.count] += span[SPAN.count];
        last[SPAN.busy] += span[SPAN.busy];
      } else {
        out.push(span.slice());
      }
    }
    out.forEach((mark, index) => {
      const end = Math.min(mark[SPAN.start] + mark[SPAN.length], shown.end);
      mark[SPAN.until] = index + 1 < out.length ? Math.max(end, out[index + 1][SPAN.start]) : end;
    });
    return out;
  }

  function drawLane(plot, lane, wide) {
    const x = scale(wide), column = (shown.end - shown.start) / wide;
    let merged = 0;
    for (const span of marksOf(lane, column)) {
      merged += span[SPAN.count] - 1;
      const mark = drawMark(plot, lane, span, d.lanes[lane] || "stall", x);
      mark.addEventListener("pointerenter", () => tell(describe(span), useOf(span)));
      links.set(useOf(span), (links.get(useOf(span)) || []).concat(mark));
    }
    return lane === STALLS ? 0 : merged;
  }

  // Below each lane, the same lane of the planned run; what falls into a pixel already drawn is left away.
  function drawPlanned(plot, wide) {
    const x = scale(wide), drawn = [];
    for (const [lane, start, length] of d.planned) {
      if (start >= shown.end || start + length <= shown.start) continue;
      const left = x(start), right = x(start + length);
      if (right < (drawn[lane] || 0) + 0.5) continue;
      drawn[lane] = right;
      node(plot, "rect", { class: "planned", x: left.toFixed(1), y: lane * PITCH + ROW + 1, width: Math.max(0.5, right - left).toFixed(1), height: 5 });
    }
  }

  function drawGantt() {
    const rows = d.lanes.length + 1;
    const [plot, wide] = prepare(gantt, rows * PITCH + 26);
    links = new Map();
    let merged = 0;
    [...d.lanes, "stalls"].forEach((name, row) =>
      node(plot, "text", { class: "lane", x: GUTTER - 8, y: row * PITCH + ROW / 2 + 5, "text-anchor": "end" }, name));
    drawPlanned(plot, wide);
    perLane.forEach((_, lane) => { merged += drawLane(plot, lane, wide); });
    axis(plot, rows * PITCH, wide);
    const pass = d.passes.find(([, start, end]) => start === shown.start && end === shown.end);
    const all = shown.start === d.start && shown.end === d.end;
    byId("shown").textContent = `Shown: ${pass ? pass[0] : all ? "the whole run" : "a part of the run"}, `
      + `${time(shown.end - shown.start)} of ${time(d.end - d.start)} (${d.origin}), from ${time(shown.start)}`
      + (merged > 1 ? `; ${merged} spans merged into neighbours, marks as high as the lane is busy.`
        : merged ? "; 1 span merged into its neighbour." : ".");
  }

  function drawMemory() {
    const [plot, wide] = prepare(vram, MEMORY + 30);
    const x = scale(wide), peak = d.reserve + d.slab, top = Math.max(d.budget, peak) * 1.08;
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
    axis(plot, MEMORY + 4, wide);
  }

  // The page holds the whole run's marks for a width of 1000; they move to where the timeline above has its own.
  const marks = [...mini.querySelectorAll("rect")].filter((mark) => mark !== brush)
    .map((mark) => ({ mark, x: Number(mark.getAttribute("x")) - GUTTER, wide: Number(mark.getAttribute("width")) }));
  function fitMinimap(wide) {
    const share = wide / (1000 - GUTTER - RIGHT), box = mini.getAttribute("viewBox").split(" ");
    mini.setAttribute("viewBox", `0 0 ${width()} ${box[3]}`);
    for (const one of marks) {
      one.mark.setAttribute("x", (GUTTER + one.x * share).toFixed(1));
      one.mark.setAttribute("width", Math.max(one.wide * share, 0.7).toFixed(1));
    }
  }

  function draw() {
    drawGantt();
    drawMemory();
    const wide = width() - GUTTER - RIGHT, whole = d.end - d.start;
    fitMinimap(wide);
    brush.setAttribute("x", GUTTER + (shown.start - d.start) / whole * wide);
    brush.setAttribute("width", Math.max(2, (shown.end - shown.start) / whole * wide));
    const at = d.passes.findIndex(([, start, end]) => start === shown.start && end === shown.end);
    byId("pass").value = String(at);
    byId("prev").disabled = byId("next").disabled = d.passes.length < 2;
  }

  // --- moving about
  function show(start, end) {
    const length = Math.min(Math.max(end - start, 1000), d.end - d.start);
    const from = Math.min(Math.max(start, d.start), d.end - length);
    shown = { start: Math.round(from), end: Math.round(from + length) };
    draw();
  }
  const zoom = (factor, share = 0.5) => {
    const at = shown.start + (shown.end - shown.start) * share, length = (shown.end - shown.start) * factor;
    show(at - length * share, at + length * (1 - share));
  };
  const pan = (share) => { const by = (shown.end - shown.start) * share; show(shown.start + by, shown.end + by); };
  const whole = () => show(d.start, d.end);

  function toPass(by) {
    const middle = (shown.start + shown.end) / 2;
    let at = d.passes.findIndex(([, , end]) => end > middle);
    if (at < 0) at = d.passes.length - 1;
    const next = d.passes[Math.min(Math.max(at + by, 0), d.passes.length - 1)];
    if (next) show(next[1], next[2]);
  }

  function stepSpan(by) {
    const inside = d.spans.filter((span) => span[SPAN.start] < shown.end && span[SPAN.start] + span[SPAN.length] > shown.start)
      .sort((a, b) => a[SPAN.start] - b[SPAN.start] || a[SPAN.lane] - b[SPAN.lane]);
    if (!inside.length) return;
    const at = inside.indexOf(selected);
    selected = inside[at < 0 ? 0 : (at + by + inside.length) % inside.length];
    tell(describe(selected), useOf(selected));
  }

  function keyboard(event) {
    const act = { ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.5), "=": () => zoom(0.5),
      "-": () => zoom(2), 0: whole, n: () => stepSpan(1), p: () => stepSpan(-1), Escape: () => tell("", "") }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  function dragging() {
    let grip = null;
    gantt.addEventListener("pointerdown", (event) => {
      grip = { x: event.clientX, start: shown.start, end: shown.end };
      gantt.classList.add("dragging");
    });
    window.addEventListener("pointermove", (event) => {
      if (!grip) return;
      const by = (grip.x - event.clientX) / (width() - GUTTER - RIGHT) * (grip.end - grip.start);
      show(grip.start + by, grip.end + by);
    });
    window.addEventListener("pointerup", () => { grip = null; gantt.classList.remove("dragging"); });
    gantt.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const box = gantt.getBoundingClientRect();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, Math.min(Math.max((event.clientX - box.left - GUTTER) / (box.width - GUTTER - RIGHT), 0), 1));
    }, { passive: false });
    mini.addEventListener("click", (event) => {
      const left = mini.getBoundingClientRect().left + GUTTER;
      const at = d.start + (event.clientX - left) / (width() - GUTTER - RIGHT) * (d.end - d.start);
      const half = (shown.end - shown.start) / 2;
      show(at - half, at + half);
    });
  }

  // --- tables and theme
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.appendChild(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const cell = row.cells[column];
          return cell.dataset.k === undefined ? cell.textContent : Number(cell.dataset.k);
        };
        const order = (a, b) => typeof a === "number" && typeof b === "number"
          ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
        [...body.rows].sort((a, b) => order(key(a), key(b)) * (down ? -1 : 1)).forEach((row) => body.appendChild(row));
      });
    });
  }

  function theme() {
    const root = document.documentElement, button = byId("theme");
    const store = { get: () => { try { return localStorage.getItem("vramplan-theme"); } catch { return null; } },
      set: (value) => { try { localStorage.setItem("vramplan-theme", value); } catch { /* not kept, still shown */ } } };
    const saved = store.get();
    if (saved === "dark" || saved === "light") root.dataset.theme = saved;
    button.hidden = false;
    button.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      store.set(root.dataset.theme);
    });
  }

  theme();
  document.querySelectorAll("table.sortable").forEach(sortable);
  if (d.spans.length) {
    const select = byId("pass");
    const option = (value, text) => {
      const made = document.createElement("option");
      made.value = value;
      made.textContent = text;
      select.appendChild(made);
    };
    option("-1", "other window");
    d.passes.forEach(([name], index) => option(String(index), name));
    select.addEventListener("change", () => { const one = d.passes[Number(select.value)]; if (one) show(one[1], one[2]); });
    byId("prev").addEventListener("click", () => toPass(-1));
    byId("next").addEventListener("click", () => toPass(1));
    byId("in").addEventListener("click", () => zoom(0.5));
    byId("out").addEventListener("click", () => zoom(2));
    byId("all").addEventListener("click", whole);
    gantt.addEventListener("keydown", keyboard);
    dragging();
    byId("controls").hidden = false;
    let pending = 0;
    window.addEventListener("resize", () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(draw); });
    draw();
  }
})();
