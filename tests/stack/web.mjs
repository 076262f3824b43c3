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
const see = (words, part) => page.waitForFunction(
  (words, part) => document.querySelector(part).innerText.includes(words), { timeout: 60000 }, words, part);
const find = async (id) => {
  await page.$eval("#event input[name=id]", (input, id) => { input.value = id; }, id);
  await page.click("#event .filters button");
  await page.waitForFunction((id) => document.querySelector("#event h3")?.textContent === id && !document.querySelector("#event [class*=htmx-]"), {}, id);
  await new Promise((resolve) => setTimeout(resolve, 300)); // Until htmx has taken note of the new buttons.
};
const confirm = async (label) => {
  await page.evaluate((label) => [...document.querySelectorAll("#event .actions button")].find((button) => button.textContent === label).click(), label);
  await page.waitForSelector("#confirmation[open]");
  const question = await page.$eval("#question", (element) => element.textContent);
  await page.click("#confirmation .danger");
  await page.waitForSelector("#event .notice, #event .problem");
  return `${question} ${await page.$eval("#event .notice, #event .problem", (element) => element.textContent)}`;
};
const check = async (width, scheme) => {
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  saw.widths.push((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
  const found = await page.evaluate(() => axe.run());
  saw.violations.push(...found.violations.map(({ id, nodes }) => `${width} ${scheme} ${id}: ${nodes[0].html}`));
};

await page.setViewport({ width: 1440, height: 900 });
await page.goto(address);
for (const [words, part] of [["script-event", "#pending"], ["p99", "#lateness"], ["NotDelivered", "#failed"]]) await see(words, part);
await see("Lateness", "#now");
saw.title = await page.title();
await find("script-event");
await page.$eval("#event pre", (element) => element.innerText);
await page.addScriptTag({ content: "" }).catch(() => { saw.inlineScript = "blocked"; });
saw.problems = saw.problems.filter((problem) => !problem.includes("Content Security Policy"));
await page.evaluate(readFileSync(new URL("../../node_modules/axe-core/axe.min.js", import.meta.url), "utf8"));
for (const width of [390, 1440]) for (const scheme of ["dark", "light"]) await check(width, scheme);
if (picture) await page.screenshot({ path: picture });
saw.payload = await page.$eval("#event pre", (element) => element.textContent);
await find("to-cancel");
saw.canceled = await confirm("Cancel");
await find("to-move");
await page.$eval("#event input[name=at]", (input) => { input.value = "2030-01-01T10:00:05"; });
saw.moved = await confirm("Reschedule");
for (saw.due = ""; !saw.due.includes("2030-01-01 10:00:05"); await new Promise((resolve) => setTimeout(resolve, 500))) {
  await find("to-move");
  saw.due = await page.$eval("#event .verdict", (element) => element.textContent);
}
saw.titleAtEnd = await page.title();
await browser.close();
console.log(JSON.stringify(saw));
