// Watches a run in the browser on several screens at the same time, generates from its checkpoint, stops the
// run, and opens its report. Every number on the pages is compared with metrics.jsonl.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { check, checkAccessibility, checkWidth, launch, newPage, screens } from "./common.mjs";

const [bin, work, shots] = process.argv.slice(2);
mkdirSync(work, { recursive: true });

function run(binary, args) {
  const ran = spawnSync(join(bin, binary), args.split(" "), { cwd: work, encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`${binary} ${args}: ${ran.stderr}`);
}

/** Starts a run; its address is in its messages. */
function train(args) {
  const process_ = spawn(join(bin, "train"), args.split(" "), { cwd: work });
  process_.ended = new Promise((resolve) => process_.on("exit", resolve));
  return new Promise((resolve, reject) => {
    let output = "";
    process_.stderr.on("data", (data) => {
      output += data;
      const found = /watch the run at (http:\/\/[\d.:]+)/.exec(output);
      if (found) resolve({ trainer: process_, origin: found[1] });
    });
    process_.on("exit", () => reject(new Error(output)));
  });
}

const lines = (outDir) => readFileSync(join(work, outDir, "metrics.jsonl"), "utf8").trim().split("\n")
  .map((line) => JSON.parse(line));
const of = (outDir, event) => lines(outDir).filter((line) => line.event === event);

/** The numbers on the live page, by name. */
const numbersOf = (page) => page.locator("#numbers div").evaluateAll((divs) => Object.fromEntries(
  divs.map((div) => [div.querySelector("dt").textContent, Number(div.querySelector("dd").textContent)])));

async function watch(page, name) {
  await page.locator("#chart-tokens_per_second polyline").waitFor();
  await page.locator("#chart-loss .dot").nth(1).waitFor();
  await page.locator("#samples article").nth(1).waitFor();
  const before = await page.locator("#progress-text").textContent();
  await page.waitForFunction((text) => document.getElementById("progress-text").textContent !== text, before);
  check(true, "the curves grow");
  await page.locator("#max_tokens").evaluate((input) => {
    input.value = "40";
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  await page.getByRole("button", { name: "Generate" }).click();
  await page.locator("#status", { hasText: "Done." }).waitFor();
  check(await page.locator(".token").count() > 10, "the newest checkpoint generates");
  await checkWidth(page, "while the run trains");
  await checkAccessibility(page, "while the run trains");
  await page.screenshot({ path: `${shots}/watch-${name}.png`, fullPage: true });
}

async function checkEnd(page, outDir) {
  await page.locator("#run-state", { hasText: "The run was stopped, and all its steps are saved." }).waitFor();
  await page.waitForTimeout(700);
  const [steps, evals, samples] = ["step", "eval", "sample"].map((event) => of(outDir, event));
  const [step, eval_] = [steps.at(-1), evals.at(-1)];
  const expected = {
    Loss: step.loss, "Learning rate": step.learning_rate, "Gradient norm": step.grad_norm,
    "Tokens per second": step.tokens_per_second, "Validation loss": eval_.val_loss,
    "Bits per byte": eval_.val_bits_per_byte,
  };
  const shown = await numbersOf(page);
  check(JSON.stringify(shown) === JSON.stringify(expected), `the numbers are those of metrics.jsonl ${JSON.stringify(shown)}`);
  const texts = await page.locator("#samples p").allTextContents();
  const written = samples.map(({ text }) => text.trim()).reverse().slice(0, 50);
  check(JSON.stringify(texts) === JSON.stringify(written), `all ${texts.length} samples are those of metrics.jsonl`);
  check(page.problems.length === 0, `the page had no errors ${page.problems}`);
}

/** The cells of the table with this label, row by row. */
const cells = (page, label) => page.locator(`[aria-label="${label}"] tbody tr`).evaluateAll(
  (rows) => rows.map((row) => Array.from(row.children, (cell) => cell.textContent)));

async function checkReport(browser, name, options, outDirs) {
  const url = pathToFileURL(join(work, "report.html")).href;
  const page = await newPage(browser, url, { ...options, javaScriptEnabled: true });
  await page.goto(url);
  for (const outDir of outDirs.slice(0, 1)) {
    const rows = await cells(page, `Evaluations of ${outDir}`);
    const expected = of(outDir, "eval").reverse().map((it) =>
      [it.iter, it.val_loss, it.train_loss, it.val_bits_per_byte, it.perplexity]);
    const shown = rows.map((row) => row.filter((_, i) => i !== 1).map((text) => Number(text.replaceAll(",", ""))));
    check(JSON.stringify(shown) === JSON.stringify(expected), `${rows.length} evaluations are those of metrics.jsonl`);
  }
  const results = Object.fromEntries(await cells(page, "Results"));
  const best = Math.min(...of(outDirs[0], "eval").map((it) => it.val_loss));
  check(Number(results["Lowest validation loss, nats per token"]) === best, "the lowest loss is that of metrics.jsonl");
  const n = await page.locator("figure").count();
  for (const axis of ["tokens", "seconds", "steps"]) {
    await page.getByLabel(axis, { exact: true }).check();
    check(await page.locator(`svg.by-${axis}:visible`).count() === n
      && await page.locator("figure svg:visible").count() === n, `${n} charts over ${axis}`);
  }
  await checkWidth(page, "in the report");
  await checkAccessibility(page, "in the report");
  await page.screenshot({ path: `${shots}/report-${outDirs.length}-${name}.png`, fullPage: true });
  if (name === "desktop-light") {
    const pdf = await page.pdf({ path: `${shots}/report-${outDirs.length}.pdf`, format: "A4" });
    check(pdf.length > 20_000, `it prints (${pdf.length} bytes of PDF)`);
  }
  check(page.problems.length === 0, `the report had no errors ${page.problems}`);
  await page.context().close();
}

async function checkRestart(browser) {
  const shape = "--init-from resume --out-dir out --max-iters 1000000";
  const first = await train(`${shape} --serve 0`);
  const page = await newPage(browser, first.origin, screens["desktop-light"]);
  await page.goto(first.origin);
  await page.locator("#chart-loss polyline").first().waitFor();
  first.trainer.kill("SIGKILL");
  await page.locator("#run-state", { hasText: "Connection lost" }).waitFor();
  const second = await train(`${shape} --serve ${first.origin.replace("http://", "")}`);
  await page.waitForFunction(() => document.getElementById("run-state").textContent === "");
  await page.waitForFunction(() => run.steps.length > 100);
  const iters = await page.evaluate(() => run.steps.map((step) => step.iter));
  check(iters.every((iter, i) => i === 0 || iter > iters[i - 1]), "after a crash and a resume the curve has each step once");
  second.trainer.kill("SIGINT");
  await second.trainer.ended;
  await page.context().close();
}

writeFileSync(join(work, "text.txt"), Array.from({ length: 3000 }, (_, i) =>
  `Line ${i}: the cat number ${i * 7} sat on mat ${i % 5}.\n`).join(""));
run("prepare", "--source text.txt --force");
const shape = "--dataset-name text --n-layer 2 --n-head 2 --n-embd 64 --block-size 64 --batch-size 8 "
  + "--eval-interval 100 --eval-iters 2 --threads 1 --overwrite";
const browser = await launch();
let trainer;
try {
  const started = await train(`${shape} --out-dir out --max-iters 1000000 --serve 0`);
  trainer = started.trainer;
  const names = ["desktop-light", "desktop-dark", "phone-light", "phone-dark"];
  const pages = [];
  for (const name of names) {
    console.log(`live, ${name}`);
    const page = await newPage(browser, started.origin, screens[name]);
    await page.goto(started.origin);
    await watch(page, name);
    pages.push(page);
  }
  trainer.kill("SIGINT");
  check(await trainer.ended === 130, "Ctrl-C ends the run while browsers watch");
  for (const page of pages) await checkEnd(page, "out");
  for (const page of pages) await page.context().close();
  console.log("restart");
  await checkRestart(browser);
  for (const outDir of ["first", "second"]) run("train", `${shape} --out-dir ${outDir} --max-iters 300`);
  for (const outDirs of [["first"], ["first", "second"]]) {
    run("train", `--report ${outDirs.join(" ")}`);
    for (const name of names) {
      console.log(`report of ${outDirs}, ${name}`);
      await checkReport(browser, name, screens[name], outDirs);
    }
  }
  const report = readFileSync(join(work, "report.html"), "utf8");
  check(/second: Equal: 300 steps, 4 evaluations and 4 samples/.test(report.replaceAll(/<[^>]*>/g, "")),
    "two runs of the same seed are equal");
} finally {
  await browser.close();
  trainer?.kill("SIGKILL");
}
console.log("all checks passed");
