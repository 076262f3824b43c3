// Uses the page as somebody on call would, in a headless Chromium. Prints what it saw.
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";
import chromium from "@sparticuz/chromium";

const [address, installed, picture] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: installed || (await chromium.executablePath()),
  args: ["--no-sandbox", "--disable-gpu"], // Not those of the package: they switch the security of the web off.
  headless: installed ? true : "shell",
});
const page = await browser.newPage(), saw = { problems: [], violations: [], widths: [] };
page.on("pageerror", (error) => saw.problems.push(String(error)));
page.on("console", (message) => message.type() === "error" && saw.problems.push(message.text()));
page.on("dialog", (dialog) => { saw.question = dialog.message(); dialog.accept(); });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const text = (part) => page.$eval(part, (element) => element.innerText);
const find = async (id) => {
  await page.$eval("#event [name=id]", (input, id) => { input.value = id; }, id);
  await page.click("#event form button");
  await page.waitForSelector(`#event h3::-p-text(${id})`, { timeout: 60000 });
  await pause(500); // Until htmx has taken note of the new buttons.
};
const change = async (label) => {
  await page.click(`#event-body button::-p-text(${label})`);
  await page.waitForSelector("#event .notice, #event .bad");
  return `${saw.question} ${await text("#event .notice, #event .bad")}`;
};

await page.setViewport({ width: 1440, height: 900 });
await page.goto(address);
for (const words of ["script-event", "to-cancel", "to-move", "p99", "NotDelivered", "Oldest overdue"]) {
  while (!(await text("main")).includes(words)) await page.reload().then(() => pause(3000));
}
await page.click("#pending a::-p-text(Count again)"); // The first count was of a moment when not all were parked.
await page.waitForSelector("#pending svg");
await find("script-event");
saw.payload = await text("#event pre");
await page.evaluate(readFileSync(new URL("../../node_modules/axe-core/axe.min.js", import.meta.url), "utf8"));
for (const width of [390, 1440]) {
  await page.setViewport({ width, height: 900 });
  saw.widths.push((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
  for (const value of ["dark", "light"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
    const { violations } = await page.evaluate(() => axe.run());
    saw.violations.push(...violations.map(({ id, nodes }) => `${width} ${value} ${id}: ${nodes[0].html}`));
  }
}
await page.evaluate(() => scrollTo(0, 0));
if (picture) await page.screenshot({ path: picture });
await find("to-cancel");
saw.canceled = await change("Cancel");
await find("to-move");
await page.$eval("#event [name=at]", (input) => { input.value = "2030-01-01T10:00:05"; });
saw.moved = await change("Reschedule");
for (saw.due = ""; !saw.due.includes("2030-01-01 10:00:05"); await find("to-move")) {
  saw.due = await text("#event .verdict:not(.notice)");
}
saw.title = await page.title();
await browser.close();
console.log(JSON.stringify(saw));
