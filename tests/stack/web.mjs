// Uses the page as somebody on call would, in a headless Chromium: node web.mjs ADDRESS PICTURE. Prints what it saw.
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";
import chromium from "@sparticuz/chromium";

const [address, picture] = process.argv.slice(2), installed = process.env.CHROMIUM;
const browser = await puppeteer.launch({
  executablePath: installed || (await chromium.executablePath()),
  args: ["--no-sandbox", "--disable-gpu"], // Not those of the package: they switch the security of the web off.
  headless: installed ? true : "shell",
});
const page = await browser.newPage(), saw = { problems: [], violations: [], widths: [] };
page.on("pageerror", (error) => saw.problems.push(String(error)));
page.on("console", (message) => message.type() === "error" && saw.problems.push(message.text()));
page.on("dialog", (dialog) => { saw.question = dialog.message(); dialog.accept(); });
const see = (words, part) => page.waitForFunction(
  (words, part) => document.querySelector(part)?.innerText.includes(words), { timeout: 60000 }, words, part,
).catch(async () => { throw new Error(`no ${words} in ${part}: ${await page.$eval("main", (main) => main.innerText)}`); });
const find = async (id) => {
  await page.$eval("#event input[name=id]", (input, id) => { input.value = id; }, id);
  await page.click("#event .filters button");
  await see(id, "#event h3");
  await new Promise((resolve) => setTimeout(resolve, 500)); // Until htmx has taken note of the new buttons.
};
const change = async (label) => {
  const buttons = await page.$$eval("#event .actions button", (buttons) => buttons.map((button) => button.textContent));
  await (await page.$$("#event .actions button"))[buttons.indexOf(label)].click();
  const notice = await page.waitForSelector("#event .notice, #event .problem");
  return `${saw.question} ${await notice.evaluate((element) => element.textContent)}`;
};

await page.setViewport({ width: 1440, height: 900 });
await page.goto(address);
await Promise.all([see("script-event", "#pending"), see("p99", "#lateness"), see("NotDelivered", "#failed"), see("Lateness", "#now")]);
await find("script-event");
saw.payload = await page.$eval("#event pre", (element) => element.textContent);
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
if (picture) await page.screenshot({ path: picture });
await find("to-cancel");
saw.canceled = await change("Cancel");
await find("to-move");
await page.$eval("#event input[name=at]", (input) => { input.value = "2030-01-01T10:00:05"; });
saw.moved = await change("Reschedule");
for (saw.due = ""; !saw.due.includes("2030-01-01 10:00:05"); await find("to-move")) {
  saw.due = await page.$eval("#event .verdict", (element) => element.textContent);
}
saw.title = await page.title();
await browser.close();
console.log(JSON.stringify(saw));
