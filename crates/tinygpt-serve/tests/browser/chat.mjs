// Chats on the page by mouse, by keyboard and on a phone: sends, stops, edits and retries messages, and keeps one of
// several answers. axe-core checks accessibility.
import { check, checkAccessibility, checkWidth, open, set, visitAll } from "./common.mjs";

const [sample, outDir, shots] = process.argv.slice(2);

const status = (page, word) => page.locator("#status", { hasText: word }).waitFor();
const turns = (page) => page.locator("#chat .text .body").allTextContents();
const answers = (page) => page.locator("#texts .text:visible .body").allTextContents();
const button = (page, name) => page.getByRole("button", { name, exact: true });

async function setAll(page, values) {
  for (const [id, value] of Object.entries(values)) await set(page, id, value);
}

/** Sends a message and waits for its answers. */
async function send(page, message) {
  await page.locator("#prompt").fill(message);
  await page.locator("#prompt").press("Enter");
  await status(page, "Done.");
}

/** Makes the page receive the events of a stream with a pause before each: a small model answers at once. */
async function slowDown(page) {
  await page.evaluate(() => {
    const original = window.fetch;
    window.undo = () => { window.fetch = original; };
    window.fetch = async (...request) => {
      const response = await original(...request);
      const [decoder, encoder] = [new TextDecoder(), new TextEncoder()];
      const slow = new TransformStream({
        async transform(part, controller) {
          for (const event of decoder.decode(part, { stream: true }).split(/(?<=\n\n)/)) {
            await new Promise((resolve) => { setTimeout(resolve, 100); });
            request[1].signal.throwIfAborted();
            controller.enqueue(encoder.encode(event));
          }
        },
      });
      return new Response(response.body.pipeThrough(slow), response);
    };
  });
}

/** Sends a message and stops its answers. */
async function stops(page) {
  await slowDown(page);
  await setAll(page, { max_tokens: 100, n: 4, temperature: 1, top_k: 0 });
  await page.locator("#prompt").fill("What is your name?");
  await page.locator("#prompt").press("Enter");
  await page.locator(".token").nth(3).waitFor();
  check(await page.locator("#prompt").inputValue() === "", "a message that is sent leaves the form");
  await button(page, "Stop").click();
  await status(page, "Stopped.");
  const stopped = await page.locator(".token").count();
  await page.waitForTimeout(300);
  check(await page.locator(".token").count() === stopped, `it stops (after ${stopped} tokens)`);
  await page.evaluate(() => window.undo());
}

/** Several answers to the last message, of which the second is kept. */
async function chooses(page, options, name) {
  await setAll(page, { n: 3, temperature: 1.5, top_k: 0, max_tokens: 40 });
  await button(page, "Retry").click();
  await status(page, "Done.");
  const all = await answers(page);
  check(all.length === 3, `three answers: ${JSON.stringify(all)}`);
  const boxes = await page.locator("#texts .text").evaluateAll((them) => them.map((it) => it.getBoundingClientRect().x));
  const columns = new Set(boxes.map(Math.round)).size;
  const expected = options.viewport.width > 1200 ? 2 : 1;
  check(columns === expected, `the answers are in ${columns} columns`);
  const token = page.locator("#texts .token").first();
  if (options.hasTouch) await token.tap(); else await token.hover();
  await page.locator("#tip").waitFor();
  check(await page.locator("#tip tr").count() >= 5, "alternatives are shown at a token");
  check(await page.locator("#tip button").count() === 0, "an answer does not continue from an alternative");
  await page.screenshot({ path: `${shots}/chat-${name}-answers.png`, fullPage: true });
  await checkAccessibility(page, "with three answers");
  await page.keyboard.press("Escape");
  await button(page, "Keep answer 2").click();
  check(JSON.stringify(await answers(page)) === JSON.stringify([all[1]]), "the answer that is kept is the only one");
  await setAll(page, { n: 1, temperature: 0 });
  await send(page, "What do you like to eat?");
  const said = await turns(page);
  check(said.length === 5 && said[3] === all[1], `the conversation continues with the kept answer: ${said[3]}`);
}

/** With a fixed seed, the answers are the same again. */
async function repeats(page) {
  check(await page.locator("#seed-chat").isVisible() && await page.locator("#seed-prompt").isHidden(),
    "the help of the seed is about answers");
  await setAll(page, { temperature: 1.5, top_k: 0, max_tokens: 40 });
  await page.locator("#keep").check();
  const retry = async () => {
    await button(page, "Retry").click();
    await status(page, "Done.");
    return JSON.stringify(await answers(page));
  };
  check(await retry() === await retry(), "with a fixed seed, Retry repeats an answer");
  await page.locator("#keep").uncheck();
  await setAll(page, { temperature: 0, max_tokens: 100 });
}

async function visit(browser, origin, name, options) {
  console.log(name);
  const page = await open(browser, origin, options);
  check(await page.locator("#chat-on").isChecked() && await button(page, "Send").isVisible(), "the page chats");
  await checkAccessibility(page, "at first");
  await stops(page);
  await button(page, "Clear").click();
  check((await turns(page)).length + (await answers(page)).length === 0, "a conversation is cleared");

  await setAll(page, { n: 1, temperature: 0, max_tokens: 100 });
  await send(page, "What is your name?");
  const [first] = await answers(page);
  check(first.trim().length > 0, `an answer: ${first}`);
  await send(page, "What can you do?");
  const said = await turns(page);
  check(JSON.stringify(said) === JSON.stringify(["What is your name?", first, "What can you do?"]),
    "the answer is a turn once there is a next message");
  await page.screenshot({ path: `${shots}/chat-${name}.png`, fullPage: true });
  await checkWidth(page, "with a conversation");
  await repeats(page);
  await chooses(page, options, name);

  await button(page, "Edit message 1").click();
  check(await page.locator("#prompt").inputValue() === "What is your name?" && (await turns(page)).length === 0,
    "a message is edited: it is in the form again, and what follows is gone");
  await send(page, "What is your name?");
  check((await answers(page))[0] === first, "the same message has the same answer at temperature 0");
  await page.locator("#system").fill("word ".repeat(400));
  await page.locator("#prompt").fill("Hello");
  await page.locator("#prompt").press("Enter");
  await page.locator("#fault").waitFor();
  const fault = await page.locator("#fault").textContent();
  check(/expected at most/.test(fault), `an error is shown: ${fault}`);
  check(await page.locator("#prompt").inputValue() === "Hello", "a message without an answer is in the form again");
  check((await turns(page)).length === 2, "and not in the conversation");
  await page.locator("#system").fill("");
  await send(page, "Hello");
  await page.locator("#chat-on").uncheck();
  check(await button(page, "Generate").isVisible() && (await answers(page)).length === 0, "the prompt view is there");
  check(await page.locator("#seed-prompt").isVisible() && await page.locator("#seed-chat").isHidden(),
    "the help of the seed is about prompts");
  await page.evaluate(() => document.querySelectorAll("details").forEach((it) => { it.open = true; }));
  await checkWidth(page, "with everything open");
  // The refused message.
  const problems = page.problems.filter((it) => !it.includes("400"));
  check(problems.length === 0, `the page had no errors ${problems}`);
  await page.context().close();
}

await visitAll(sample, outDir, visit);
