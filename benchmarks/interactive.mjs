// How soon a page answers: node interactive.mjs MODULES CHROMIUM ADDRESS SLOWDOWN ROUNDS
// Prints, for each round, the milliseconds from the navigation's start until the table that a first word in the filter
// leaves is painted. The page's own clock: how long the driver takes is not in it.
import { createRequire } from "node:module";

const [modules, executablePath, address, slowdown, rounds] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/`)("playwright-core");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const times = [];
  for (let round = 0; round < Number(rounds); round += 1) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript(() => {
      addEventListener("DOMContentLoaded", () => {
        const filter = document.querySelector("input[type=search]");
        filter.value = "1";
        filter.dispatchEvent(new Event("input"));
        // The first frame after this one has been painted.
        requestAnimationFrame(() => requestAnimationFrame(() => { globalThis.answered = performance.now(); }));
      });
    });
    const session = await context.newCDPSession(page);
    await session.send("Emulation.setCPUThrottlingRate", { rate: Number(slowdown) });
    await page.goto(address);
    await page.waitForFunction(() => globalThis.answered);
    times.push(await page.evaluate(() => {
      if (!document.querySelector(".tools [role=status]").textContent.includes(" of ")) throw new Error("not filtered");
      return globalThis.answered;
    }));
    await context.close();
  }
  process.stdout.write(JSON.stringify(times));
} finally {
  await browser.close();
}
