// What the scripts share: a browser, pages whose errors are recorded, and accessibility checks.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const executablePath = process.env.CHROMIUM
  || ["/usr/bin/chromium", "/usr/bin/google-chrome"].find((path) => existsSync(path));

export const launch = () => chromium.launch({ executablePath, args: ["--no-sandbox"] });

export function check(holds, what) {
  if (!holds) throw new Error(`failed: ${what}`);
  console.log(`  ok: ${what}`);
}

export async function checkAccessibility(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  for (const { id, impact, nodes } of violations) console.log(`  axe: ${impact} ${id}`, nodes[0].html);
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  check(serious.length === 0, `axe-core finds no serious problem ${where} (${violations.length} lesser)`);
}

/** A new page; records console errors and requests to other places than `origin`. */
export async function newPage(browser, origin, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.problems = [];
  page.on("console", (message) => message.type() === "error" && page.problems.push(message.text()));
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(origin)) page.problems.push(`requested ${request.url()}`);
  });
  return page;
}

/** Starts the server on a free port; its address is on its first line. */
function serve(sample, outDir) {
  const server = spawn(sample, ["--out-dir", outDir, "--serve", "127.0.0.1:0"]);
  return new Promise((resolve, reject) => {
    let output = "";
    server.stderr.on("data", (data) => {
      output += data;
      const found = /http:\/\/[\d.:]+/.exec(output);
      if (found) resolve({ server, origin: found[0] });
    });
    server.on("exit", () => reject(new Error(output)));
  });
}

/** A page of the server, once it has the model card. */
export async function open(browser, origin, options, path = "/") {
  const page = await newPage(browser, origin, options);
  await page.goto(origin + path);
  await page.locator("#card").waitFor();
  return page;
}

/** Moves a control. */
export async function set(page, id, value) {
  await page.locator(`#${id}`).evaluate((input, value) => {
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }, String(value));
}

export async function checkWidth(page, where) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, `nothing is wider than the screen ${where}`);
}

const desktop = { viewport: { width: 1280, height: 860 } };
const tablet = { viewport: { width: 1000, height: 860 } };
const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

/** The screens on which a page is used, by name. */
export const screens = Object.fromEntries(Object.entries({ desktop, tablet, phone })
  .flatMap(([name, options]) => ["light", "dark"]
    .map((colorScheme) => [`${name}-${colorScheme}`, { ...options, colorScheme }])));

/** Serves a model and calls `visit(browser, origin, name, options)` for each screen. */
export async function visitAll(sample, outDir, visit) {
  const { server, origin } = await serve(sample, outDir);
  let browser;
  try {
    browser = await launch();
    for (const [name, options] of Object.entries(screens)) await visit(browser, origin, name, options);
  } finally {
    await browser?.close();
    server.kill("SIGINT");
  }
  console.log("all checks passed");
}
