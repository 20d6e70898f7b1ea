// Uses the page as people do, by mouse, by keyboard and on a phone: types a prompt, stops generation, opens the
// alternatives of a token, continues with one of them, and shares a link. axe-core checks accessibility.
import { check, checkAccessibility, open, set, visitAll } from "./common.mjs";

const [sample, outDir, shots] = process.argv.slice(2);

const tokens = (page) => page.locator(".token").count();
const texts = (page) => page.locator(".text .body").allTextContents();
const status = (page, word) => page.locator("#status", { hasText: word }).waitFor();

async function generateAll(page, values) {
  for (const [id, value] of Object.entries(values)) await set(page, id, value);
  await page.getByRole("button", { name: "Generate" }).click();
  await status(page, "Done.");
}

/** Chooses an alternative of a token, then continues the finished text. */
async function continueWith(page, options, token) {
  const body = page.locator(".text .body").first();
  const target = page.locator(".text").first().locator(".token.l2, .token.l3, .token.l4").first();
  const before = await target.evaluate((span) => span.info.before);
  if (options.hasTouch) {
    await target.tap();
  } else {
    await target.focus();
    await page.keyboard.press("Enter");
  }
  const button = page.locator("#tip button").first();
  await button.waitFor();
  const label = await button.getAttribute("aria-label");
  const chosen = label.replace("Continue with ", "").replaceAll("·", " ").replaceAll("↵", "\n");
  await page.screenshot({ path: `${shots}/alternatives-${options.viewport.width}.png` });
  await button.click();
  await status(page, "Done.");
  const text = await body.textContent();
  check(text.startsWith(before + chosen) && text.length > (before + chosen).length,
    `a text continues with the alternative “${chosen}”`);
  // The mouse may be over another token now, whose alternatives are shown but not pinned.
  check(await page.locator("#tip.pinned").isHidden(), "the alternatives are closed");
  await page.getByRole("button", { name: "Continue sample 1" }).click();
  await status(page, "Done.");
  const longer = await body.textContent();
  check(longer.startsWith(text) && longer.length >= text.length, "a finished text is continued");
}

/** Generates from a prompt and expects a warning about it. */
async function noteOf(page, prompt, part) {
  await page.locator("#prompt").fill(prompt);
  await generateAll(page, { max_tokens: 10, n: 1 });
  const notes = await page.locator("#warnings").textContent();
  check(notes.includes(part), `a warning is shown: ${notes}`);
}

async function visit(browser, origin, name, options) {
  console.log(name);
  const page = await open(browser, origin, options);
  await checkAccessibility(page, "at first");

  await page.locator("#prompt").fill("One day, a fox");
  // So hot that no text ends by itself.
  const hot = { max_tokens: 1000, n: 6, temperature: 2, top_k: 0 };
  for (const [id, value] of Object.entries(hot)) await set(page, id, value);
  await page.evaluate(() => {
    window.counts = new Set();
    const count = () => window.counts.add(document.querySelectorAll(".token").length);
    new MutationObserver(count).observe(document.getElementById("texts"), { childList: true, subtree: true });
  });
  await page.keyboard.press("Control+Enter");
  await page.locator(".token").nth(12).waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  await status(page, "Stopped.");
  const stopped = await tokens(page);
  await page.waitForTimeout(300);
  check(await tokens(page) === stopped && stopped < 6000, `it stops (after ${stopped} tokens)`);
  const steps = await page.evaluate(() => window.counts.size);
  check(steps > 5, `text is streamed (it grew ${steps} times)`);

  await generateAll(page, { max_tokens: 110, n: 2, seed: 7, temperature: 0.8 });
  const written = await texts(page);
  check(written.length === 2 && written.every((text) => text.startsWith("One day, a fox")),
    "two texts are shown");

  const token = page.locator(".token.l2, .token.l3, .token.l4").first();
  if (options.hasTouch) await token.tap(); else await token.hover();
  await page.locator("#tip").waitFor();
  const rows = await page.locator("#tip tr").count();
  check(rows >= 5, `${rows} alternatives are shown at a token`);
  const box = await page.locator("#tip").boundingBox();
  check(box.x >= 0 && box.x + box.width <= options.viewport.width, "the alternatives are in view");
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: options.viewport.width < 600 });
  await checkAccessibility(page, "with texts and alternatives");

  await page.locator(".text .token").first().focus();
  const first = await page.locator("#tip p").textContent();
  await page.keyboard.press("ArrowRight");
  check(await page.locator("#tip p").textContent() !== first, "the arrow keys move between tokens");
  await page.keyboard.press("Escape");
  check(await page.locator("#tip").isHidden(), "Escape closes the alternatives");
  const address = new URL(page.url()).hash;
  await continueWith(page, options, token);
  await noteOf(page, "One day, a fox ".repeat(100), "sees the last");
  await page.evaluate(() => document.querySelectorAll("details").forEach((it) => { it.open = true; }));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, "nothing is wider than the screen, with everything open");
  await page.screenshot({ path: `${shots}/${name}-open.png`, fullPage: true });
  await checkAccessibility(page, "with everything open");

  const shared = await open(browser, origin, options, `/${address}`);
  await status(shared, "Done.");
  check(JSON.stringify(await texts(shared)) === JSON.stringify(written),
    "a link gives the same texts, at once");
  for (const visited of [page, shared]) {
    check(visited.problems.length === 0, `the page had no errors ${visited.problems}`);
    await visited.context().close();
  }
}

await visitAll(sample, outDir, visit);
