// What a person does with the registry's pages, in a browser: node pages.mjs MODULES CHROMIUM SITE NAME
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, executablePath, site, name] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf-8");

const MODEL = "m/model-000/index.html";
const VERSION = "m/model-000/v53.html";
const PAGES = ["index.html", MODEL, "m/model-000/versions-1.html", VERSION, "m/model-000/v7.html", "m/model-000/v51.html",
  "compare.html?model=model-000&a=2&b=53"];

const base = /^https?:/.test(site) ? site : pathToFileURL(`${site}/`).href;
const address = (path) => base + path;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const problems = [];

const open = async (path, options = {}) => {
  const context = await browser.newContext({ bypassCSP: false, ...options });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error") problems.push(`${path}: ${message.text()}`); });
  page.on("pageerror", (error) => problems.push(`${path}: ${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith("data:")) problems.push(`${path} asks for ${request.url()}`);
  });
  page.on("requestfailed", (request) => problems.push(`${path}: ${request.url()} is not there`));
  await page.goto(address(path));
  return page;
};

const shown = (page, selector) => page.locator(selector).evaluateAll((rows) =>
  rows.filter((row) => row.getClientRects().length).map((row) => row.cells?.[0].innerText ?? row.innerText));

const cases = {
  async links() {
    const seen = new Set();
    const left = ["index.html"];
    const page = await open("index.html");
    while (left.length) {
      const path = left.pop();
      if (seen.has(path)) continue;
      seen.add(path);
      const answer = await page.goto(address(path));
      assert.ok(answer === null || answer.ok(), path);
      assert.ok((await page.locator("h1").innerText()).length > 0, path);
      for (const link of await page.locator("a[href]").evaluateAll((all) => all.map((one) => one.href))) {
        const inside = link.startsWith(base) ? link.slice(base.length).split("#")[0] : "";
        if (inside && inside.includes(".html") && (seen.size < 20 || !/\/v\d+\.html/.test(inside))) left.push(inside);
      }
    }
    assert.ok(seen.size > 15, [...seen].join(" "));
  },

  async filter() {
    const page = await open(MODEL);
    const all = await shown(page, "table[data-filter] tbody tr");
    await page.getByLabel("Filter versions").fill("rejected");
    const left = await shown(page, "table[data-filter] tbody tr");
    assert.equal(left.length, 1, left.join());
    assert.match(left[0], /v51/);
    assert.equal(await page.locator(".tools [role=status]").innerText(), `1 of ${all.length}`);
    await page.getByLabel("Filter versions").fill("");
    await page.getByRole("button", { name: "Only problems: 1", pressed: false }).click();
    assert.deepEqual(await shown(page, "table[data-filter] tbody tr"), left);
    await page.getByLabel("Filter versions").fill("v52");
    assert.deepEqual(await shown(page, "table[data-filter] tbody tr"), []);
    await page.getByLabel("Filter versions").fill("");
    await page.getByRole("button", { name: "Only problems: 1", pressed: true }).click();
    assert.deepEqual(await shown(page, "table[data-filter] tbody tr"), all);
  },

  async sort() {
    const page = await open(MODEL);
    const first = async () => (await shown(page, "table[data-filter] tbody tr"))[0];
    assert.match(await first(), /v53/);
    const button = page.getByRole("button", { name: "Version", exact: true });
    await button.focus();
    await page.keyboard.press("Enter");
    assert.match(await first(), /v26/);
    assert.equal(await page.locator("th[aria-sort=ascending]").count(), 1);
    await page.keyboard.press("Enter");
    assert.match(await first(), /v53/);
  },

  async compare() {
    const page = await open(MODEL);
    await page.getByLabel("Compare v30").check();
    await page.getByLabel("Compare v52").check();
    await page.getByLabel("Compare v53").check(); // the first one chosen gives way
    assert.equal(await page.getByLabel("Compare v30").isChecked(), false);
    await page.getByRole("button", { name: "Compare v52 with v53" }).click();
    await page.getByRole("heading", { name: "model-000: v52 and v53" }).waitFor();
    await page.getByText("differences.").waitFor();
    assert.ok((await page.locator("#tables").innerText()).includes("fp32 latency"));
    await page.getByLabel("From version").fill("v2");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "model-000: v2 and v53" }).waitFor();
    await page.getByLabel("From version").fill("7");
    await page.getByRole("button", { name: "Compare" }).click();
    await page.getByText("v7 cannot be compared: it is not there, or sealed.").waitFor();
  },

  async comparison_of_nothing() {
    for (const query of ["", "?model=../../evil&a=1&b=2", "?model=model-000&a=1&b=%3Cimg%20src%3Dx%3E"]) {
      const page = await open(`compare.html${query}`);
      if (query) await page.getByText("Choose two versions on a model's page").waitFor();
      assert.equal(await page.locator("#tables table, #compared img").count(), 0);
    }
  },

  async differences() {
    // The same table as modeldrop diff gives: process.stdout has it for the test to compare.
    const page = await open("compare.html?model=model-000&a=2&b=53");
    await page.getByText("differences.").waitFor();
    const rows = await page.locator("#tables tbody tr").evaluateAll((all) =>
      all.map((row) => [...row.cells].map((cell) => cell.innerText)));
    process.stdout.write(JSON.stringify(rows));
  },

  async copy() {
    const page = await open(VERSION, { permissions: ["clipboard-read", "clipboard-write"] });
    const button = page.locator(".command button").first();
    await button.click();
    await page.getByRole("status").getByText("Copied").waitFor(); // the button says so for a moment alone
    const field = page.locator("body");
    await field.evaluate((body) => { body.append(Object.assign(document.createElement("textarea"), { id: "pasted" })); });
    await page.locator("#pasted").focus();
    await page.keyboard.press("Control+V");
    const pasted = await page.locator("#pasted").inputValue();
    assert.equal(pasted, await page.locator(".command pre").first().innerText());
    assert.match(pasted, /^modeldrop fetch .*@v53$/);
  },

  async hostile() {
    for (const path of ["index.html", "m/hostile/index.html", "m/hostile/v1.html"]) {
      const page = await open(path);
      page.on("dialog", () => problems.push(`${path} ran a script`));
      assert.equal(await page.locator("main img, main b b, main script:not([type])").count(), 0);
    }
    assert.ok((await (await open("m/hostile/v1.html")).locator("main").innerText()).includes("<script>alert(1)</script>"));
  },

  async without_javascript() {
    for (const path of PAGES) {
      const page = await open(path, { javaScriptEnabled: false });
      assert.equal(await page.locator(".tools, .command button, input, #compare:visible").count(), path.includes("compare") ? 2 : 0, path);
    }
    const page = await open(MODEL, { javaScriptEnabled: false });
    assert.equal((await shown(page, "table[data-filter] tbody tr")).length, 28);
    await page.getByRole("link", { name: "v53" }).first().click();
    assert.match(await page.locator("h1").innerText(), /model-000 v53/);
    const comparison = await open("compare.html", { javaScriptEnabled: false });
    assert.ok(await comparison.getByText("This page needs JavaScript.").isVisible());
  },

  async phone() {
    for (const path of PAGES) {
      const page = await open(path, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `${path} is ${width} pixels wide`);
    }
  },

  async dark() {
    const background = async (colorScheme) =>
      (await open("index.html", { colorScheme })).evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.notEqual(await background("dark"), await background("light"));
  },

  async accessible() {
    for (const [colorScheme, width] of [["light", 1280], ["dark", 1280], ["light", 360]]) {
      for (const path of PAGES) {
        // axe itself is put in from outside, which the pages' policy would refuse.
        const page = await open(path, { colorScheme, viewport: { width, height: 800 }, bypassCSP: true });
        if (path.startsWith("compare")) await page.getByText("differences.").waitFor();
        await page.evaluate(axe);
        const { violations } = await page.evaluate("axe.run({ preload: false, resultTypes: ['violations'] })");
        for (const one of violations) {
          const where = one.nodes.slice(0, 3).map((node) => node.html).join(" | ");
          problems.push(`${path}, ${colorScheme}, ${width} pixels: ${one.id}: ${where}`);
        }
        await page.context().close();
      }
    }
  },

  async keyboard() {
    const page = await open(MODEL);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the page");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Models" }).waitFor();
  },
};

try {
  await cases[name]();
  assert.deepEqual([...new Set(problems)], []);
} finally {
  await browser.close();
}
