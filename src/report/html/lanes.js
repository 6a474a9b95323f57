// A timeline that zooms: rows of spans, of which those that start less than a pixel apart share a mark. Every span is a
// list that begins with [row, start, length, spans that it stands for, how long they were busy]; what follows is the
// page's own.
const AT = { row: 0, start: 1, length: 2, count: 3, busy: 4 };
const ROW = 34, PITCH = 42, RIGHT = 12;
const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "us"], [1, "ns"]];
const endOf = (span) => span[AT.start] + span[AT.length];

// `one` has: svg, gutter, rows [{name, css, spans}], start, end, shown [start, end]; describe(span), text(span) gives
// labels, shade(span), partners(span), under(plot, x, wide), over(plot, x, wide), told(span), drawn(shown, merged, row).
function lanes(one) {
  const { svg, gutter, rows } = one;
  const whole = one.end - one.start;
  let shown = { start: one.shown[0], end: one.shown[1] };
  let current = null, told = false, quiet = false, marks = [];
  const width = () => Math.max(300, Math.floor(svg.parentElement.clientWidth));
  const wide = () => width() - gutter - RIGHT;
  const x = (at) => gutter + (Math.min(Math.max(at, shown.start), shown.end) - shown.start) / (shown.end - shown.start) * wide();

  function prepare(chart, height) {
    chart.setAttribute("viewBox", `0 0 ${width()} ${height}`);
    const plot = chart.querySelector(".plot");
    plot.textContent = "";
    return plot;
  }

  function step(length, most) {
    const power = 10 ** Math.floor(Math.log10(Math.max(length / most, 1)));
    return [1, 2, 5, 10].map((factor) => factor * power).find((one) => one * most >= length) || power;
  }

  function axis(plot, y) {
    node(plot, "path", { class: "axis", d: `M${gutter} ${y}h${wide()}` });
    const every = step(shown.end - shown.start, Math.max(2, Math.floor(wide() / 75)));
    const [unit, name] = shown.end >= 1e10 ? UNITS[0] : UNITS.slice(1).find(([scale]) => shown.end >= scale) || UNITS[3];
    const digits = Math.max(0, Math.ceil(-Math.log10(every / unit) - 1e-9));
    for (let at = Math.ceil(shown.start / every) * every; at <= shown.end; at += every) {
      node(plot, "path", { class: "axis", d: `M${x(at)} ${y}v5` });
      const anchor = x(at) > gutter + wide() - 24 ? "end" : "middle";
      node(plot, "text", { class: "tick", x: x(at), y: y + 19, "text-anchor": anchor }, `${(at / unit).toFixed(digits)} ${name}`);
    }
  }

  // The marks of a row: each lasts until the next begins.
  function marksOf(spans) {
    const column = (shown.end - shown.start) / wide(), out = [];
    for (const span of spans) {
      if (endOf(span) <= shown.start) continue;
      if (span[AT.start] >= shown.end) break;
      const last = out[out.length - 1];
      if (last && span[AT.start] < last.span[AT.start] + column) {
        if (last.of === last.span) last.span = last.span.slice();
        last.span[AT.length] = Math.max(endOf(span), endOf(last.span)) - last.span[AT.start];
        last.span[AT.count] += span[AT.count];
        last.span[AT.busy] += span[AT.busy];
      } else {
        out.push({ of: span, span });
      }
    }
    out.forEach((mark, index) => {
      const end = Math.min(endOf(mark.span), shown.end);
      mark.until = index + 1 < out.length ? Math.max(end, out[index + 1].span[AT.start]) : end;
    });
    return out;
  }

  function drawMark(plot, mark, row) {
    const { span } = mark, css = rows[row].css;
    const left = x(span[AT.start]), across = Math.max(1, x(endOf(span)) - left);
    // Several spans in one mark must not look busier than they are.
    const share = span[AT.count] > 1 ? Math.min(1, span[AT.busy] / Math.max(1, mark.until - span[AT.start])) : 1;
    const tall = Math.max(1, Math.round(ROW * share));
    const shaded = `${css} ${one.shade(mark.of)}`;
    mark.row = row;
    mark.node = node(plot, "rect", { class: across < 4 ? `${shaded} thin` : shaded, x: left.toFixed(1),
      y: row * PITCH + ROW - tall, width: across.toFixed(1), height: tall, "data-mark": marks.length });
    marks.push(mark);
    const text = span[AT.count] > 1 ? undefined : one.text(span).find((label) => label && across > 6.5 * label.length + 4);
    if (text) {
      node(plot, "text", { class: `on-${css}`, x: (left + across / 2).toFixed(1), y: row * PITCH + ROW / 2 + 4, "text-anchor": "middle" }, text);
    }
  }

  // The mark that a span is in, or the nearest in its row.
  function markOf(span) {
    const middle = span[AT.start] + span[AT.length] / 2;
    const far = (mark) => {
      if (mark.of === span) return -1;
      return span[AT.start] >= mark.span[AT.start] && span[AT.start] < mark.until ? 0
        : Math.abs(mark.span[AT.start] + mark.span[AT.length] / 2 - middle);
    };
    let best = null;
    for (const mark of marks) if (mark.row === span[AT.row] && (!best || far(mark) < far(best))) best = mark;
    return best;
  }

  // A line from what was copied to what it was copied for.
  function drawLinks(plot) {
    if (!told || !current) return;
    for (const [from, to] of one.partners(current)) {
      for (const end of [from, to]) markOf(end)?.node.classList.add("linked");
      if (endOf(from) < shown.start && to[AT.start] < shown.start || endOf(from) > shown.end && to[AT.start] > shown.end) continue;
      const y = (span) => span[AT.row] * PITCH + ROW / 2;
      node(plot, "path", { class: "link", d: `M${x(endOf(from)).toFixed(1)} ${y(from)}L${x(to[AT.start]).toFixed(1)} ${y(to)}` });
      node(plot, "circle", { class: "link-end", cx: x(to[AT.start]).toFixed(1), cy: y(to), r: 4 });
    }
  }

  function draw() {
    const focused = svg.contains(document.activeElement);
    // The focus that a redrawn mark takes over is no choice of the reader's.
    quiet = true;
    const plot = prepare(svg, rows.length * PITCH + 26);
    marks = [];
    let merged = 0;
    rows.forEach(({ name }, row) =>
      node(plot, "text", { class: "lane", x: gutter - 8, y: row * PITCH + ROW / 2 + 5, "text-anchor": "end" }, name));
    if (one.under) one.under(plot, x, shown);
    rows.forEach(({ spans, css }, row) => {
      for (const mark of marksOf(spans)) {
        drawMark(plot, mark, row);
        if (css !== "stall") merged += mark.span[AT.count] - 1;
      }
    });
    axis(plot, rows.length * PITCH);
    drawLinks(plot);
    const mark = (current && markOf(current)) || marks[0];
    if (mark) reachable(svg, mark.node, one.describe(mark.span), focused);
    if (mark && focused && told) showTip(mark.node, one.describe(mark.span));
    quiet = false;
    one.drawn({ ...shown }, merged, { x, axis, prepare, width: wide(), full: width() });
  }

  function show(start, end) {
    const length = Math.min(Math.max(end - start, Math.min(1000, whole)), whole);
    const from = Math.min(Math.max(start, one.start), one.end - length);
    shown = { start: Math.round(from), end: Math.round(from + length) };
    draw();
  }
  // Zooms around the mark that has the focus, else around the middle.
  function zoom(factor, share) {
    const middle = current && svg.contains(document.activeElement) ? current[AT.start] + current[AT.length] / 2 : NaN;
    const own = (middle - shown.start) / (shown.end - shown.start);
    const around = share ?? (own >= 0 && own <= 1 ? own : 0.5);
    const at = shown.start + (shown.end - shown.start) * around, length = (shown.end - shown.start) * factor;
    show(at - length * around, at + length * (1 - around));
  }
  const pan = (share) => { const by = (shown.end - shown.start) * share; show(shown.start + by, shown.end + by); };

  // --- one mark is the current one; its description is a tooltip, and below the chart once it was chosen
  function choose(span, mark) {
    current = span;
    told = true;
    if (span[AT.start] >= shown.end || endOf(span) <= shown.start) {
      const half = (shown.end - shown.start) / 2, middle = span[AT.start] + span[AT.length] / 2;
      show(middle - half, middle + half);
    } else {
      draw();
    }
    const found = mark && marks.includes(mark) ? mark : markOf(span);
    if (!found) return;
    quiet = true;
    reachable(svg, found.node, one.describe(found.span), true);
    quiet = false;
    found.node.classList.add("linked");
    showTip(found.node, one.describe(found.span));
    one.told(found.span[AT.count] > 1 ? found.span : span);
  }
  function forget() {
    told = false;
    hideTip();
    one.told(null);
    draw();
  }

  function neighbour(by) {
    if (!current) return marks[0] && choose(marks[0].of);
    const inRow = marks.filter((mark) => mark.row === current[AT.row]), at = inRow.indexOf(markOf(current));
    const next = inRow[at + by];
    if (next) return choose(next.of);
    // Beyond the window: the next span of the row, which brings the window along.
    const spans = rows[current[AT.row]].spans, edge = spans.indexOf(inRow[at]?.of ?? current);
    const last = by > 0 ? spans.find((span) => span[AT.start] >= shown.end) : spans.slice(0, Math.max(edge, 0)).findLast((span) => endOf(span) <= shown.start);
    if (last) choose(last);
  }
  function otherRow(by) {
    if (!current) return marks[0] && choose(marks[0].of);
    const middle = current[AT.start] + current[AT.length] / 2;
    for (let row = current[AT.row] + by; row >= 0 && row < rows.length; row += by) {
      const inRow = marks.filter((mark) => mark.row === row);
      const far = (mark) => Math.max(mark.span[AT.start] - middle, middle - endOf(mark.span), 0);
      const near = inRow.reduce((best, mark) => (!best || far(mark) < far(best) ? mark : best), null);
      if (near) return choose(near.of);
    }
  }
  function edge(last) {
    const inRow = marks.filter((mark) => mark.row === (current ? current[AT.row] : 0));
    const mark = last ? inRow[inRow.length - 1] : inRow[0];
    if (mark) choose(mark.of);
  }
  function partner() {
    if (!current) return;
    const pairs = one.partners(current), pair = pairs[pairs.length - 1];
    if (!pair) return;
    const to = pairs.some(([from]) => from === current) ? pair[1] : pair[0];
    // Where it shares its mark with others, both of them are shown from nearby.
    if (markOf(to)?.span[AT.count] > 1 || to[AT.start] >= shown.end || endOf(to) <= shown.start) {
      const from = Math.min(pair[0][AT.start], pair[1][AT.start]), until = Math.max(endOf(pair[0]), endOf(pair[1]));
      show(from - (until - from) / 4, until + (until - from) / 4);
    }
    choose(to);
  }

  const KEYS = { ArrowLeft: () => neighbour(-1), ArrowRight: () => neighbour(1), ArrowUp: () => otherRow(-1), ArrowDown: () => otherRow(1),
    Home: () => edge(false), End: () => edge(true), PageUp: () => pan(-0.5), PageDown: () => pan(0.5), "+": () => zoom(0.5),
    "=": () => zoom(0.5), "-": () => zoom(2), 0: () => show(one.start, one.end), Enter: partner, c: partner, Escape: forget };
  svg.addEventListener("keydown", (event) => {
    const act = event.shiftKey && event.key === "ArrowLeft" ? () => pan(-0.2)
      : event.shiftKey && event.key === "ArrowRight" ? () => pan(0.2) : KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  const markAt = (event) => marks[event.target.dataset?.mark];
  svg.addEventListener("pointerover", (event) => {
    const mark = markAt(event);
    if (mark) hoverTip(event, mark.node, one.describe(mark.span)); else if (!inChart()) hideTip();
  });
  svg.addEventListener("pointerleave", () => { if (!inChart()) hideTip(); });
  // On the parent: a drawing that listens for the focus would be a stop for Tab by that alone.
  svg.parentElement.addEventListener("focusin", (event) => {
    const mark = svg.contains(event.target) ? markAt(event) : null;
    if (mark && !quiet) choose(current && markOf(current) === mark ? current : mark.of, mark);
  });

  let grip = null, moved = false;
  svg.addEventListener("pointerdown", (event) => { grip = { x: event.clientX, start: shown.start, end: shown.end, mark: markAt(event) }; moved = false; });
  window.addEventListener("pointermove", (event) => {
    if (!grip || (!moved && Math.abs(event.clientX - grip.x) < 4)) return;
    moved = true;
    svg.classList.add("dragging");
    const by = (grip.x - event.clientX) / wide() * (grip.end - grip.start);
    show(grip.start + by, grip.end + by);
  });
  window.addEventListener("pointerup", () => {
    if (grip && !moved && grip.mark) choose(grip.mark.of, grip.mark);
    grip = null;
    svg.classList.remove("dragging");
  });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, Math.min(Math.max((event.clientX - box.left - gutter) / wide(), 0), 1));
  }, { passive: false });
  let pending = 0;
  window.addEventListener("resize", () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(draw); });
  group(svg, "ArrowLeft ArrowRight ArrowUp ArrowDown + - 0 Enter Escape");
  return { draw, show, zoom, pan, shown: () => ({ ...shown }), whole: () => show(one.start, one.end) };
}
