// What every page of ours does with a script: numbers as text, tooltips on pointer and focus, marks that arrow keys
// reach, sortable tables, the theme. Every number comes from the page itself.
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
document.documentElement.classList.add("js");

// --- numbers as text, rounded as the Rust side rounds them: to the nearest, halves up, in whole numbers throughout
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

const node = (parent, name, attributes, text) => {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
};

// --- tooltips: one box beside the mark that the pointer or the focus is on; Escape takes it away
const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.appendChild(tip);
function showTip(mark, text) {
  tip.textContent = text;
  tip.hidden = !text;
  if (!text) return;
  const at = mark.getBoundingClientRect(), own = tip.getBoundingClientRect(), edge = document.documentElement.clientWidth;
  const left = Math.min(Math.max(at.left, 0) + Math.min(at.width, 40) / 2, edge - own.width - 8);
  const below = at.bottom + own.height + 14 < innerHeight;
  tip.style.setProperty("left", `${Math.max(8, left)}px`);
  tip.style.setProperty("top", `${below ? at.bottom + 8 : Math.max(4, at.top - own.height - 8)}px`);
}
const hideTip = () => { tip.hidden = true; };
// What moves while it has the focus takes its description along.
window.addEventListener("scroll", () => {
  const mark = document.activeElement?.closest?.("[data-tip], [data-mark]");
  if (mark && !tip.hidden) showTip(mark, tip.textContent); else hideTip();
}, { passive: true, capture: true });
// Escape takes a description away until the pointer moves, even where a mark is drawn anew below it.
let dismissed = "";
const placeOf = (event) => `${event.clientX} ${event.clientY}`;
const hoverTip = (event, mark, text) => { if (placeOf(event) !== dismissed) showTip(mark, text); };
let pointer = "";
window.addEventListener("pointermove", (event) => { pointer = placeOf(event); }, { passive: true });
window.addEventListener("keydown", (event) => { if (event.key === "Escape") dismissed = pointer; }, { capture: true });

// Makes one mark of a chart the one that Tab reaches. A chart with marks is a group: an image has nothing inside.
function reachable(chart, mark, text, focus) {
  const before = chart.querySelector("[tabindex=\"0\"]");
  if (before && before !== mark) before.setAttribute("tabindex", "-1");
  if (!mark) return;
  mark.setAttribute("tabindex", "0");
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", text);
  if (focus) mark.focus({ preventScroll: true });
}
function group(chart, keys) {
  chart.setAttribute("role", "group");
  chart.setAttribute("aria-roledescription", "chart");
  chart.setAttribute("aria-keyshortcuts", keys);
}

// A still chart: its marks are what has a title; arrow keys walk through them. The listeners are the document's, for a
// mark that listens for the focus would be a stop for Tab by that alone.
function walkable(chart) {
  for (const title of chart.querySelectorAll("rect > title, path > title, circle > title")) {
    title.parentElement.dataset.tip = title.textContent;
    title.remove();
  }
  const first = chart.querySelector("[data-tip]");
  if (!first) return;
  group(chart, "ArrowLeft ArrowRight Home End Escape");
  reachable(chart, first, first.dataset.tip, false);
}
const tipped = (event) => event.target.closest?.("[data-tip]");
const ofChart = (mark) => mark.closest("svg.chart");
const inChart = () => document.activeElement?.closest?.("svg.chart");
document.addEventListener("pointerover", (event) => {
  const mark = tipped(event);
  if (mark) hoverTip(event, mark, mark.dataset.tip); else if (!inChart() && !event.target.closest?.(".zooms")) hideTip();
});
document.addEventListener("focusin", (event) => { const mark = tipped(event); if (mark) showTip(mark, mark.dataset.tip); });
// A mark that is drawn anew loses the focus for a moment: what counts is where it is afterwards.
document.addEventListener("focusout", () => setTimeout(() => { if (!inChart()) hideTip(); }));
document.addEventListener("click", (event) => { const mark = tipped(event); if (mark) reachable(ofChart(mark), mark, mark.dataset.tip, true); });
document.addEventListener("keydown", (event) => {
  const mark = tipped(event);
  if (!mark || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") hideTip();
  const marks = [...ofChart(mark).querySelectorAll("[data-tip]")], index = marks.indexOf(mark);
  const to = { ArrowLeft: index - 1, ArrowUp: index - 1, ArrowRight: index + 1, ArrowDown: index + 1, Home: 0, End: marks.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = marks[Math.min(Math.max(to, 0), marks.length - 1)];
  next.scrollIntoView({ block: "nearest", inline: "nearest" });
  reachable(ofChart(mark), next, next.dataset.tip, true);
  showTip(next, next.dataset.tip);
});

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
        return cell.dataset.k === undefined ? cell.textContent : BigInt(cell.dataset.k);
      };
      const order = (a, b) => typeof a === "bigint" && typeof b === "bigint"
        ? (a < b ? -1 : a > b ? 1 : 0) : String(a).localeCompare(String(b), "en", { numeric: true });
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
