// Opens report pages in headless Chromium and fails unless each is sound for everybody who may read it.
//
//   apt-get install chromium && npm install --prefix tests/browser
//   node tests/browser/check.mjs reports/flux1-dev-rtx-4090-12GiB/report.html [PAGE…] [--shots FOLDER]
//
// Held, in the light and the dark theme: no error in the console, no request but the page itself, no finding of
// axe-core (WCAG 2 A and AA), no sideways scrolling at 1280 and 380 pixels. By keyboard: Tab reaches the timeline, which
// zooms, pans and steps from mark to mark with a description each that Escape takes away; a copy and the compute it is
// for are marked together with the slack; every other chart's marks take the focus, too; tables sort and say so. Without
// JavaScript: the timeline and every table are there. Under 2 MB.
import { readFileSync, statSync, mkdirSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const LARGEST = 2_000_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const args = process.argv.slice(2);
const at = args.indexOf("--shots");
const shots = at < 0 ? null : args.splice(at, 2)[1];
if (shots) mkdirSync(shots, { recursive: true });
if (!args.length) {
  console.error("usage: node check.mjs PAGE… [--shots FOLDER]");
  process.exit(2);
}

let failed = 0;
const hold = (what, holds, detail = "") => {
  if (!holds) failed += 1;
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds || !detail ? "" : `: ${detail}`}`);
};

/** A page that records what it must not do. */
async function open(browser, file, options) {
  const context = await browser.newContext({ bypassCSP: true, ...options });
  const page = await context.newPage();
  const errors = [], requests = [];
  page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
  page.on("pageerror", (error) => errors.push(String(error)));
  const url = pathToFileURL(resolve(file)).href;
  page.on("request", (request) => { if (request.url() !== url) requests.push(request.url()); });
  await page.goto(url);
  return { context, page, errors, requests };
}

async function theme(browser, file, colorScheme, name) {
  // The page's own policy holds here: what it refuses would be an error in the console.
  const strict = await open(browser, file, { colorScheme, bypassCSP: false, viewport: { width: 1280, height: 900 } });
  hold(`${name}: no console error`, strict.errors.length === 0, strict.errors.join("; "));
  hold(`${name}: no request leaves`, strict.requests.length === 0, strict.requests.join(" "));
  const shot = (what) => `${shots}/${name.replace(/\W+/g, "-")}${what}.png`;
  if (shots) await strict.page.screenshot({ path: shot(""), fullPage: true });
  if (shots) await strict.page.setViewportSize({ width: 380, height: 900 });
  if (shots) await strict.page.screenshot({ path: shot("-380"), fullPage: true });
  await strict.context.close();
  for (const width of [1280, 380]) {
    const { context, page } = await open(browser, file, { colorScheme, viewport: { width, height: 900 } });
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
    const words = found.violations.map((one) => `${one.id} (${one.nodes.length}): ${one.nodes[0].target} ${one.nodes[0].failureSummary}`);
    hold(`${name} at ${width}: axe finds nothing in ${found.passes.length} rules`, words.length === 0, words.join("\n     "));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    hold(`${name} at ${width}: no sideways scrolling`, wide <= 0, `${wide} pixels too wide`);
    await context.close();
  }
}

/** Tabs until the focus is inside what is asked for. */
async function tabTo(page, selector) {
  for (let tabs = 0; tabs < 200; tabs += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((selector) => !!document.activeElement?.closest(selector), selector)) return true;
  }
  return false;
}

/** A timeline: reached, zoomed, panned, walked through; `ids` are what its page calls things. */
async function timeline(page, name, ids) {
  const shown = () => page.locator(ids.shown).textContent();
  const tip = () => page.locator("#tip").textContent();
  const label = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
  hold(`${name}: Tab reaches a mark of the timeline`, await tabTo(page, ids.chart));
  hold(`${name}: which is described at once`, (await label())?.length > 10 && (await tip()) === (await label()), `${await tip()} / ${await label()}`);
  let before = await shown();
  const changes = async (key, what) => {
    await page.keyboard.press(key);
    const now = await shown();
    hold(`${name}: ${what} (${key})`, now !== before, now);
    before = now;
    const inside = await page.evaluate((chart) => !!document.activeElement?.closest(chart), ids.chart);
    hold(`${name}: and the focus stays in the timeline`, inside);
  };
  await changes("+", "zooms in");
  await changes("Shift+ArrowRight", "pans");
  await changes("-", "zooms out");
  await page.keyboard.press("+");
  await page.keyboard.press("+");
  before = await shown();
  await changes("0", "shows all");
  const told = await label();
  await page.keyboard.press("ArrowRight");
  hold(`${name}: the next mark has the focus (ArrowRight)`, (await label()) !== told && / from .+ for |needed at/.test(await label()), await label());
  hold(`${name}: and is described below`, (await page.locator(ids.detail).textContent()).startsWith(await label()));
  const row = await label();
  await page.keyboard.press("ArrowDown");
  hold(`${name}: so has one of the next lane (ArrowDown)`, (await label()).split(":")[0] !== row.split(":")[0], await label());
  await page.keyboard.press("Escape");
  hold(`${name}: Escape takes the descriptions away`, (await page.locator(ids.detail).isHidden()) && (await page.locator("#tip").isHidden()));
}

/** A copy and what it is for: marked together, with the slack, both ways. */
async function link(page, name) {
  const label = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
  const linked = () => page.locator("#gantt rect.linked").count();
  await page.selectOption("#pass", "1").catch(() => page.selectOption("#pass", "0"));
  await page.locator("#gantt [tabindex=\"0\"]").focus();
  for (let rows = 0; rows < 4; rows += 1) await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Home");
  for (let marks = 0; marks < 40 && !/its .*cop.* ended at/.test(await label()); marks += 1) await page.keyboard.press("ArrowRight");
  const compute = await label();
  hold(`${name}: a compute says the slack of its copy`, /^compute: .*(slack .+|late)$/.test(compute), compute);
  hold(`${name}: both are marked and joined`, (await linked()) >= 2 && (await page.locator("#gantt .link").count()) >= 1, `${await linked()} marks`);
  await page.keyboard.press("Enter");
  const copy = await label();
  hold(`${name}: Enter goes to the copy, which says the same`, /^h2d: .*(slack .+|late)$/.test(copy) && copy.split(": ").pop() === compute.split(": ").pop(), copy);
  await page.keyboard.press("Enter");
  hold(`${name}: and back`, (await label()) === compute, await label());
  const box = await page.locator("#gantt rect.h2d.linked").first().boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  hold(`${name}: a click on a copy marks what it is for`, (await linked()) >= 2 && /^h2d/.test(await label()), await label());
  await page.keyboard.press("Escape");
}

/** Where components follow one another: a window for each boundary, with its line and name. */
async function boundaries(page, name) {
  const names = await page.locator('#pass option[value^="b"]').allTextContents();
  for (const [index, told] of names.entries()) {
    await page.selectOption("#pass", `b${index}`);
    const shown = await page.locator("#shown").textContent();
    hold(`${name}: ${told} can be chosen`, shown.includes(`the ${told},`), shown);
    const lines = await page.locator("#gantt path.boundary title").allTextContents();
    hold(`${name}: and has its line`, lines.some((line) => told === `boundary ${line}`), lines.join("; "));
  }
  if (names.length) hold(`${name}: the whole run marks each`, (await page.locator("#minimap rect.boundary").count()) === names.length);
  if (names.length) await page.selectOption("#pass", "0");
}

/** Every chart has one mark that Tab reaches, and arrows go on from it with a description each. */
async function charts(page, name) {
  const count = await page.locator("svg.chart[role=group]").count();
  for (let index = 0; index < count; index += 1) {
    const chart = page.locator("svg.chart[role=group]").nth(index);
    const what = await chart.evaluate((svg) => svg.id || svg.getAttribute("aria-label")?.slice(0, 40));
    const stops = chart.locator("[tabindex=\"0\"]");
    hold(`${name}: ${what}: one mark is reached by Tab`, (await stops.count()) === 1, `${await stops.count()}`);
    await page.evaluate(() => document.activeElement.blur());
    await stops.first().focus();
    const tip = await page.locator("#tip").textContent();
    hold(`${name}: ${what}: it is described on focus`, (await page.locator("#tip").isVisible()) && tip.length > 5, tip);
    const marks = await chart.evaluate((svg) => svg.querySelectorAll("[data-tip], [data-mark]").length);
    await page.keyboard.press("ArrowRight");
    if (marks > 1) hold(`${name}: ${what}: the next one too`, (await page.evaluate(() => document.activeElement.closest("svg.chart") !== null)) && (await page.locator("#tip").isVisible()));
    await page.keyboard.press("Escape");
    hold(`${name}: ${what}: Escape hides it`, await page.locator("#tip").isHidden());
  }
  hold(`${name}: ${count} charts can be walked through`, count > 0);
}

async function keyboard(browser, file, name) {
  const { context, page, errors } = await open(browser, file, { viewport: { width: 1280, height: 900 } });
  const foreign = await page.locator("svg.zooms[id^=lanes]").first();
  if (await page.locator("#gantt").count()) {
    await timeline(page, name, { chart: "#gantt", shown: "#shown", detail: "#detail" });
    await link(page, name);
    await boundaries(page, name);
  } else if (await foreign.count()) {
    const id = (await foreign.getAttribute("id")).slice("lanes".length);
    await timeline(page, name, { chart: `#lanes${id}`, shown: `#shown${id}`, detail: `#detail${id}` });
  }
  await charts(page, name);
  const heads = page.locator("table.sortable th button:visible");
  if (await heads.count()) {
    const head = heads.nth(1);
    const column = () => head.evaluate((button) => {
      const cell = button.closest("th"), rows = [...button.closest("table").tBodies[0].rows];
      return rows.map((row) => Number(row.cells[cell.cellIndex].dataset.k));
    });
    await head.focus();
    await page.keyboard.press("Enter");
    const values = await column();
    hold(`${name}: a table sorts by keyboard`, values.every((value, index) => index === 0 || !(values[index - 1] < value)), values.join(" "));
    hold(`${name}: and says so`, (await head.evaluate((button) => button.closest("th").getAttribute("aria-sort"))) === "descending");
  }
  const dark = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const was = await dark();
  await page.locator("#theme").focus();
  await page.keyboard.press("Enter");
  hold(`${name}: the theme is switched by keyboard`, (await dark()) !== was);
  hold(`${name}: no error on the way`, errors.length === 0, errors.join("; "));
  await context.close();
}

async function plain(browser, file, name) {
  const { context, page } = await open(browser, file, { javaScriptEnabled: false });
  const marks = await page.locator("svg.chart rect").count(), tables = await page.locator("table").count();
  const silent = await page.locator("svg.chart").evaluateAll((charts) =>
    charts.filter((chart) => !chart.querySelector("title") && !chart.getAttribute("aria-label")).length).catch(() => 0);
  hold(`${name}: without JavaScript every chart has a title`, silent === 0, `${silent} have none`);
  hold(`${name}: without JavaScript there are marks and tables`, marks > 0 && tables > 0, `${marks} marks, ${tables} tables`);
  await page.emulateMedia({ media: "print" });
  const paper = await page.evaluate(() => 0).catch(() => null);
  hold(`${name}: and it can be laid out for print`, paper === null || (await page.pdf()).length > 0);
  await context.close();
}

const browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS, headless: true });
try {
  for (const file of args) {
    const name = `${basename(dirname(resolve(file)))}/${basename(file)}`;
    const size = statSync(file).size;
    hold(`${name}: ${size} bytes, at most ${LARGEST}`, size <= LARGEST);
    for (const scheme of ["light", "dark"]) await theme(browser, file, scheme, `${name} ${scheme}`);
    await keyboard(browser, file, name);
    await plain(browser, file, name);
  }
} finally {
  await browser.close();
}
console.log(failed ? `${failed} do not hold` : "everything holds");
process.exit(failed ? 1 : 0);
