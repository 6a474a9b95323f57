// The page of another profiler's trace: a timeline per device that zooms.
const t = JSON.parse(byId("data").textContent);
const GUTTER = 96, ROWOF = { name: 5, stream: 6, bytes: 7 };

theme();
document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll("svg.chart:not(.zooms)").forEach(walkable);
for (const device of t.devices) {
  const find = (what) => byId(`${what}${device.id}`);
  const describe = (span) => {
    const lane = device.lanes[span[AT.row]][0], name = t.names[span[ROWOF.name]];
    const parts = [`${lane}: ${span[AT.count] > 1 ? `${span[AT.count]} rows from ` : ""}${name}`,
      `from ${time(span[AT.start])} for ${time(span[AT.length])}`];
    if (span[AT.count] > 1) {
      parts.push(`busy for ${time(span[AT.busy])}`);
    } else {
      parts.push(`stream ${span[ROWOF.stream]}`);
      if (span[ROWOF.bytes] >= 0) parts.push(`${size(span[ROWOF.bytes])} at ${rate(span[ROWOF.bytes], span[AT.length])}`);
    }
    return parts.join("; ");
  };
  const rows = device.lanes.map(([name, css], lane) => ({ name, css, spans: device.spans.filter((span) => span[AT.row] === lane) }));
  const chart = lanes({ svg: find("lanes"), gutter: GUTTER, rows, start: device.start, end: device.end, shown: [device.start, device.end],
    describe, partners: () => [], text: () => [], shade: () => "",
    told: (span) => { find("detail").hidden = !span; find("detail").textContent = span ? `${describe(span)}.` : ""; },
    drawn: (shown, merged) => {
      const all = shown.start === device.start && shown.end === device.end;
      find("shown").textContent = `Shown: ${all ? "the whole trace" : "a part of the trace"}, ${time(shown.end - shown.start)} of `
        + `${time(device.end - device.start)} (${t.origin}), from ${time(shown.start)}`
        + (merged ? `; ${merged} rows merged into neighbours, marks as high as the lane is busy.` : ".");
    } });
  find("in").addEventListener("click", () => chart.zoom(0.5));
  find("out").addEventListener("click", () => chart.zoom(2));
  find("left").addEventListener("click", () => chart.pan(-0.5));
  find("right").addEventListener("click", () => chart.pan(0.5));
  find("all").addEventListener("click", chart.whole);
  find("controls").hidden = false;
  chart.draw();
}
