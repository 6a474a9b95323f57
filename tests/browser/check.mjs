// Opens report pages in headless Chromium and fails unless each is sound for everybody who may read it.
//
//   apt-get install chromium && npm install --prefix tests/browser
//   node tests/browser/check.mjs reports/flux1-dev-rtx-4090-12GiB/report.html [PAGE…] [--shots FOLDER]
//
// Held, in the light and the dark theme: no error in the console, no request but the page itself, no finding of
// axe-core (WCAG 2 A and AA), no sideways scrolling at 1280 and 390 pixels. Where the page has a timeline: it can be reached by
// Tab, zoomed and panned by keyboard, steps through spans with a description, and Escape takes that away; tables sort by
// keyboard and say so. Without JavaScript: the timeline and every table are there. Under 2 MB.
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
  if (shots) await strict.page.screenshot({ path: `${shots}/${name.replace(/\W+/g, "-")}.png`, fullPage: true });
  await strict.context.close();
  for (const width of [1280, 390]) {
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

async function keyboard(browser, file, name) {
  const { context, page, errors } = await open(browser, file, { viewport: { width: 1280, height: 900 } });
  const shown = () => page.locator("#shown").textContent();
  for (let tabs = 0; tabs < 60; tabs += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement?.id === "gantt")) break;
  }
  hold(`${name}: Tab reaches the timeline`, await page.evaluate(() => document.activeElement?.id === "gantt"));
  let before = await shown();
  const changes = async (key, what) => {
    await page.keyboard.press(key);
    const now = await shown();
    hold(`${name}: ${what} (${key})`, now !== before, now);
    before = now;
  };
  await changes("+", "zooms in");
  await changes("ArrowRight", "pans");
  await changes("-", "zooms out");
  await changes("0", "shows the whole run");
  await page.keyboard.press("n");
  const told = await page.locator("#detail").textContent();
  hold(`${name}: a span is described by keyboard (n)`, /pass \d+; from .+ for /.test(told), told);
  await page.keyboard.press("n");
  hold(`${name}: the next one too`, (await page.locator("#detail").textContent()) !== told);
  await page.keyboard.press("Escape");
  hold(`${name}: Escape takes it away`, await page.locator("#detail").isHidden());
  const heads = page.locator("table.sortable th button");
  if (await heads.count()) {
    const head = heads.nth(2);
    const column = () => head.evaluate((button) => {
      const cell = button.closest("th"), rows = [...button.closest("table").tBodies[0].rows];
      return rows.map((row) => Number(row.cells[cell.cellIndex].dataset.k));
    });
    await head.focus();
    await page.keyboard.press("Enter");
    const values = await column();
    hold(`${name}: a table sorts by keyboard`, values.every((value, index) => index === 0 || values[index - 1] >= value), values.join(" "));
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
    const scripted = readFileSync(file, "utf8").includes("id=\"gantt\"");
    if (scripted) await keyboard(browser, file, name);
    await plain(browser, file, name);
  }
} finally {
  await browser.close();
}
console.log(failed ? `${failed} do not hold` : "everything holds");
process.exit(failed ? 1 : 0);
