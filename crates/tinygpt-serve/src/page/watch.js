// A run that trains: reads its events and draws its curves. Uses the functions of page.js.
"use strict";

// The most steps that are kept. Beyond that, only every second, fourth, eighth … of those before the newest is.
const MAX_POINTS = 4096;
const RECENT_POINTS = 1024;
const MAX_DRAWN = 400;
// How often the curves are drawn again, and how long to wait for a lost connection, in milliseconds.
const REDRAW = 500;
const RETRY = 3000;
// Samples on the page; older ones are in metrics.jsonl.
const MAX_SAMPLES = 50;

const CHARTS = [
  { id: "loss", name: "Loss", unit: "nats per token", step: "loss", eval: "val_loss" },
  { id: "learning_rate", name: "Learning rate", unit: "", step: "learning_rate" },
  { id: "grad_norm", name: "Gradient norm", unit: "before clipping", step: "grad_norm", log: true },
  { id: "tokens_per_second", name: "Speed", unit: "tokens per second", step: "tokens_per_second", smooth: true },
];

const run = { steps: [], stride: 1, evals: [], samples: [], max_iters: 0, last_id: "", drawn: true };

function forget() {
  run.steps = [];
  run.stride = 1;
  run.evals = [];
  run.samples = [];
  $("samples").replaceChildren();
}

// ---- Events --------------------------------------------------------------------------------

function take({ id, event, data }) {
  if (id) {
    // The part before the dash changes when the run is started again.
    if (id.split("-")[0] !== run.last_id.split("-")[0]) forget();
    run.last_id = id;
  }
  const record = JSON.parse(data);
  if (event === "step") {
    run.steps.push(record);
    if (run.steps.length > MAX_POINTS) thinSteps(record.iter - RECENT_POINTS);
  } else if (event === "eval") {
    run.evals.push(record);
  } else if (event === "sample") {
    addSample(record);
  }
  run.drawn = false;
}

/** Drops steps before `recent`, evenly. */
function thinSteps(recent) {
  while (run.steps.length > MAX_POINTS / 2) {
    run.steps = run.steps.filter(({ iter }) => iter >= recent || iter % run.stride === 0);
    if (run.steps.length > MAX_POINTS / 2) run.stride *= 2;
  }
}

function addSample({ iter, text }) {
  const title = element("h3", {}, `After ${iter.toLocaleString("en")} steps`);
  const sample = element("article", {}, title, element("p", {}, text.trim()));
  $("samples").prepend(sample);
  while ($("samples").childElementCount > MAX_SAMPLES) $("samples").lastChild.remove();
  $("samples-panel").hidden = false;
}

/** Reads events until the run ends, again and again if the connection is lost. */
async function follow() {
  for (;;) {
    try {
      const last = run.last_id ? { "Last-Event-ID": run.last_id } : {};
      const response = await fetch("/events", { headers: { ...headers(), ...last } });
      if (!response.ok) throw new Error(await errorMessage(response));
      $("run-state").textContent = "";
      for await (const event of events(response)) {
        if (event.event === "end") {
          $("run-state").textContent = `${JSON.parse(event.data)} This page no longer changes.`;
          return;
        }
        take(event);
      }
    } catch {
      // The program has ended or the network is down: try again.
    }
    $("run-state").textContent = "Connection lost. Trying again …";
    await new Promise((resolve) => { setTimeout(resolve, RETRY); });
  }
}

// ---- Curves --------------------------------------------------------------------------------

/** Round numbers from `low` to `high`. */
function ticks(low, high, n) {
  const rough = (high - low) / n;
  if (!(rough > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const every = power * ([1, 2, 5].find((factor) => factor * power >= rough) || 10);
  const first = Math.ceil(low / every - 1e-9);
  return Array.from({ length: Math.floor(high / every + 1e-9) - first + 1 }, (_, i) => (first + i) * every);
}

/** Powers of ten from `low` to `high`, which are logarithms; with their multiples by 2 and 5 if there are few. */
function logTicks(low, high) {
  const factors = high - low <= 3 ? [1, 2, 5] : [1];
  const [first, last] = [Math.floor(low), Math.ceil(high)];
  const every = Math.max(1, Math.ceil((last - first) / 6));
  const powers = Array.from({ length: Math.floor((last - first) / every) + 1 }, (_, i) => first + i * every);
  return powers.flatMap((power) => factors.map((factor) => Math.log10(factor) + power))
    .filter((tick) => tick >= low && tick <= high);
}

function tickLabel(tick) {
  const size = Math.abs(tick);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e13) return `${+tick.toPrecision(3)}`;
  const [unit, letter] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]].find(([unit]) => size >= unit) || [1, ""];
  return `${+(tick / unit).toFixed(4)}${letter}`;
}

/** The mean over a fiftieth of the points around each. */
function smoothed(points) {
  const half = Math.floor(points.length / 100);
  const sums = [0];
  for (const [, y] of points) sums.push(sums[sums.length - 1] + y);
  return points.map(([x], i) => {
    const reach = Math.min(half, i, points.length - 1 - i);
    return [x, (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)];
  });
}

/** Of each interval the first, the lowest, the highest and the last point. */
function thinned(points) {
  const every = Math.max(4, Math.ceil(points.length / (MAX_DRAWN / 4)));
  const kept = [];
  for (let at = 0; at < points.length; at += every) {
    const chunk = points.slice(at, at + every);
    if (chunk.length <= 4) { kept.push(...chunk); continue; }
    let [low, high] = [0, 0];
    chunk.forEach(([, y], i) => {
      if (y < chunk[low][1]) low = i;
      if (y > chunk[high][1]) high = i;
    });
    const indices = [...new Set([0, low, high, chunk.length - 1])].sort((a, b) => a - b);
    kept.push(...indices.map((i) => chunk[i]));
  }
  return kept;
}

/** A chart of `lines`, each with a class and points. */
function chart(spec, lines, longest) {
  const [width, height, left, right, top, bottom] = [480, 230, 54, 10, 10, 24];
  const points = lines.flatMap((line) => line.points);
  const values = points.map(([, y]) => (spec.log ? Math.log10(Math.max(y, 1e-12)) : y));
  const [low, high] = values.reduce(([low, high], y) => [Math.min(low, y), Math.max(high, y)], [Infinity, -Infinity]);
  const room = Math.max((high - low) * 0.05, Math.abs(high) * 1e-6, 1e-12);
  const [from, to] = [low - room, high + room];
  const x = (iter) => left + (width - left - right) * (iter / Math.max(1, longest));
  const y = (value) => {
    const at = spec.log ? Math.log10(Math.max(value, 1e-12)) : value;
    return top + (height - top - bottom) * ((to - at) / (to - from));
  };
  const text = (at, up, anchor, content) => svg("text", { x: at, y: up, "text-anchor": anchor }, content);
  const parts = [];
  for (const tick of spec.log ? logTicks(from, to) : ticks(from, to, 4)) {
    const up = top + (height - top - bottom) * ((to - tick) / (to - from));
    parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: up, y2: up }));
    parts.push(text(left - 6, up + 4, "end", tickLabel(spec.log ? +(10 ** tick).toPrecision(3) : tick)));
  }
  for (const tick of ticks(0, longest, 5)) parts.push(text(x(tick), height - 7, "middle", tickLabel(tick)));
  for (const line of lines) {
    const at = ([iter, value]) => `${x(iter).toFixed(1)},${y(value).toFixed(1)}`;
    parts.push(svg("polyline", { class: line.class, points: thinned(line.points).map(at).join(" ") }));
    if (line.dots) {
      parts.push(...thinned(line.points).map(([iter, value]) => svg("circle",
        { class: "dot", cx: x(iter).toFixed(1), cy: y(value).toFixed(1), r: 2.5 })));
    }
  }
  const last = lines[lines.length - 1].points;
  const summary = `${spec.name} over steps` + (last.length > 0 ? `, now ${last[last.length - 1][1]}` : "");
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary }, ...parts);
}

function drawCharts() {
  const steps = run.steps;
  const last = steps[steps.length - 1];
  const longest = Math.max(last ? last.iter + 1 : 0, ...run.evals.map(({ iter }) => iter));
  for (const spec of CHARTS) {
    const raw = steps.map((step) => [step.iter, step[spec.step]]);
    const lines = [];
    if (spec.id === "loss") {
      lines.push({ class: "faint", points: raw }, { class: "train", points: smoothed(raw) });
      lines.push({ class: "val", points: run.evals.map((it) => [it.iter, it[spec.eval]]), dots: true });
    } else {
      lines.push({ class: "train", points: spec.smooth ? smoothed(raw) : raw });
    }
    const drawn = lines.filter(({ points }) => points.length > 0);
    if (drawn.length > 0) $(`chart-${spec.id}`).replaceChildren(chart(spec, drawn, longest));
  }
}

/** The newest numbers, as they stand in metrics.jsonl. */
function showNumbers() {
  const step = run.steps[run.steps.length - 1];
  const eval_ = run.evals[run.evals.length - 1];
  const made = Math.max(step ? step.iter + 1 : 0, eval_ ? eval_.iter : 0);
  $("progress").value = made;
  $("progress-text").textContent = `${made.toLocaleString("en")} of ${run.max_iters.toLocaleString("en")} steps`;
  const numbers = {
    Loss: step?.loss, "Learning rate": step?.learning_rate, "Gradient norm": step?.grad_norm,
    "Tokens per second": step?.tokens_per_second, "Validation loss": eval_?.val_loss,
    "Bits per byte": eval_?.val_bits_per_byte,
  };
  const known = Object.entries(numbers).filter(([, value]) => value !== undefined);
  $("numbers").replaceChildren(...known.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, `${value}`))));
}

/** Shows the run of the card and follows it. */
function watch({ max_iters }) {
  run.max_iters = max_iters;
  $("progress").max = max_iters;
  for (const { id, name, unit } of CHARTS) {
    const caption = element("figcaption", {}, element("strong", {}, name));
    if (unit) caption.append(` ${unit}`);
    $("charts").append(element("figure", {}, caption, element("div", { id: `chart-${id}` })));
  }
  $("watch").hidden = false;
  follow();
  setInterval(() => {
    // A page in the background draws nothing; it is drawn when it is shown again.
    if (run.drawn || document.hidden) return;
    run.drawn = true;
    showNumbers();
    drawCharts();
  }, REDRAW);
}
