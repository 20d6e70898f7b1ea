// The page: asks the server it came from to write, and shows what comes, token by token.
// Text of the model only ever becomes text nodes.
"use strict";

const $ = (id) => document.getElementById(id);
const SLIDERS = Array.from(document.querySelectorAll("input[type=range]"), (input) => input.id);
const MAX_SEED = 2147483647;
// The likeliest tokens are left plain, the least likely are the most coloured.
const LEVELS = [0.9, 0.5, 0.2, 0.05];

let apiKey = sessionStorage.getItem("key") || "";
let writing = null; // The AbortController of the request under way.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function headers() {
  const all = { "Content-Type": "application/json" };
  if (apiKey) all.Authorization = `Bearer ${apiKey}`;
  return all;
}

// ---- Controls ------------------------------------------------------------------------------

function showValues() {
  for (const name of SLIDERS) $(`${name}-value`).value = $(name).value;
}

function setControls(values) {
  for (const name of [...SLIDERS, "prompt", "seed"]) {
    if (values[name] !== undefined) $(name).value = values[name];
  }
  $("stop-text").value = values.stop || "";
  showValues();
}

/** What the address holds, so that it can be shared: all that decides the texts. */
function toFragment() {
  const values = new URLSearchParams();
  for (const name of ["prompt", "seed", ...SLIDERS]) values.set(name, $(name).value);
  if ($("stop-text").value) values.set("stop", $("stop-text").value);
  history.replaceState(null, "", `#${values}`);
}

/** Takes over what the address holds; a link with a seed is a text, which is written at once. */
function fromFragment() {
  const values = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (Object.keys(values).length === 0) return;
  setControls(values);
  $("keep").checked = values.seed !== undefined;
  if (values.seed !== undefined) write();
}

/** The line break, tab or backslash that an escape stands for. */
function unescape(text) {
  const meant = { n: "\n", r: "\r", t: "\t", "\\": "\\" };
  return text.replace(/\\([nrt\\])/g, (_, letter) => meant[letter]);
}

function request() {
  if (!$("keep").checked || $("seed").value === "") {
    $("seed").value = Math.floor(Math.random() * MAX_SEED);
  }
  const body = { prompt: $("prompt").value, seed: Number($("seed").value) };
  for (const name of SLIDERS) body[name] = Number($(name).value);
  if ($("stop-text").value) body.stop = unescape($("stop-text").value);
  return { ...body, logprobs: 5, stream: true };
}

// ---- Texts ---------------------------------------------------------------------------------

/** One of the texts side by side. */
class Text {
  constructor(index, prompt) {
    this.text = prompt; // Prompt and all that was written.
    this.tokens = 0;
    this.begun = performance.now();
    this.offset = null; // Characters so far, counted as the server does.
    this.body = element("div", {
      class: "body", role: "group", "aria-label": `Text ${index + 1}, token by token`,
    });
    if (prompt) this.body.append(element("span", { class: "given" }, prompt));
    const copy = element("button", { class: "plain small", type: "button" }, "Copy");
    copy.setAttribute("aria-label", `Copy text ${index + 1}`);
    copy.addEventListener("click", () => this.copy(copy));
    this.note = element("p", { class: "quiet" });
    this.more = element("button", { class: "plain small", type: "button", hidden: "" }, "Continue");
    this.more.setAttribute("aria-label", `Continue text ${index + 1}`);
    this.more.addEventListener("click", () => continueText(this, this.text));
    this.article = element("article", { class: "panel text writing" },
      element("header", {}, element("h2", {}, `Text ${index + 1}`), copy), this.body,
      element("footer", {}, this.note, this.more));
  }

  /** Goes back to what was written before `span`, adds `text`, and is ready for what follows. */
  resume(span, text) {
    if (span) {
      // The space before the word stands outside of it.
      while (this.body.lastChild !== span) this.body.lastChild.remove();
      span.remove();
      const last = this.body.lastChild;
      if (last?.nodeType === Node.TEXT_NODE && span.told.space) {
        last.data = last.data.slice(0, last.data.length - span.told.space.length);
      }
      this.text = span.told.before;
    }
    if (text) this.body.append(element("span", { class: "given" }, text));
    this.text += text;
    this.tokens = 0;
    this.offset = null;
    this.begun = performance.now();
    this.article.classList.add("writing");
    this.note.textContent = "";
    this.more.hidden = true;
  }

  /** Adds a piece: its text, cut at its tokens' offsets. */
  add(choice) {
    const { tokens, token_logprobs, top_logprobs, text_offset } = choice.logprobs;
    const characters = Array.from(choice.text);
    if (this.offset === null && tokens.length > 0) this.offset = text_offset[0];
    const begin = this.offset || 0;
    tokens.forEach((_, i) => {
      const end = i + 1 < tokens.length ? text_offset[i + 1] - begin : characters.length;
      const text = characters.slice(text_offset[i] - begin, end).join("");
      if (!text) return;
      // The space before a word stays plain: at the end of a line it would be a coloured rest.
      const space = /^ +(?=\S)/.exec(text)?.[0] || "";
      const word = text.slice(space.length);
      const told = {
        name: tokens[i], probability: Math.exp(token_logprobs[i]), top: top_logprobs[i], space,
        before: this.text,
      };
      if (space) this.body.append(space);
      this.body.append(this.token(word, told));
      this.text += text;
    });
    if (tokens.length === 0 && choice.text) {
      this.body.append(choice.text);
      this.text += choice.text;
    }
    this.offset = begin + characters.length;
    this.tokens += tokens.length;
    if (choice.finish_reason) this.end(choice.finish_reason);
  }

  token(text, told) {
    const level = LEVELS.findIndex((least) => told.probability >= least);
    const span = element("span", { class: `token l${level < 0 ? LEVELS.length : level}` }, text);
    span.tabIndex = this.body.querySelector(".token") ? -1 : 0;
    span.told = told;
    span.owner = this;
    return span;
  }

  end(reason) {
    this.article.classList.remove("writing");
    const seconds = (performance.now() - this.begun) / 1000;
    const speed = Math.round(this.tokens / Math.max(seconds, 0.001)).toLocaleString("en");
    const why = { stop: "End of text", length: "Length reached" }[reason] || reason;
    this.note.textContent = `${why} · ${this.tokens} tokens · ${speed} tokens/s`;
    this.more.hidden = false;
  }

  async copy(button) {
    const text = this.body.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } catch {
      getSelection().selectAllChildren(this.body);
    }
  }
}

// ---- What else might have come -------------------------------------------------------------

/** A token as one can see it: spaces and line ends are visible. */
function visible(name) {
  return name.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

function percent(probability) {
  const value = 100 * probability;
  return value >= 0.1 ? `${value.toFixed(value < 10 ? 1 : 0)}%` : "< 0.1%";
}

let pinned = null; // The token whose alternatives stay and can be chosen.

/** An alternative: a button if the text can continue with it. */
function alternative(span, name) {
  const shown = visible(name);
  // The end of a document and parts of characters are no text.
  const isText = name !== "<|endoftext|>" && !name.startsWith("bytes:\\x");
  if (span !== pinned || !isText) return shown;
  const button = element("button", { type: "button" }, shown);
  button.setAttribute("aria-label", `Continue with ${shown}`);
  button.addEventListener("click", () => {
    const { owner, told } = span;
    hideTip();
    owner.resume(span, name);
    continueText(owner, told.before + name);
  });
  return button;
}

function showTip(span) {
  const { name, probability, top } = span.told;
  const rows = Object.entries(top).map(([other, logprob]) => element(
    "tr", { class: other === name ? "chosen" : "" },
    element("td", {}, alternative(span, other)),
    element("td", {}, percent(Math.exp(logprob)))));
  const tip = $("tip");
  tip.replaceChildren(
    element("p", {}, `“${visible(name)}”: probability ${percent(probability)} at temperature 1`),
    element("table", {}, element("tbody", {}, ...rows)));
  tip.classList.toggle("pinned", span === pinned);
  tip.hidden = false;
  const box = span.getClientRects()[0];
  const left = Math.min(Math.max(box.left, 8), innerWidth - tip.offsetWidth - 8);
  const below = box.bottom + tip.offsetHeight + 12 < innerHeight;
  const top_ = below ? box.bottom + 8 : box.top - tip.offsetHeight - 8;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${top_ + scrollY}px`;
  span.setAttribute("aria-describedby", "tip");
}

function hideTip() {
  pinned = null;
  $("tip").hidden = true;
}

/** Lets the alternatives of a token stay until another place is clicked. */
function pinTip(span) {
  pinned = span;
  showTip(span);
}

function tokenOf(event) {
  return event.target instanceof Element ? event.target.closest(".token") : null;
}

/** One stop for Tab in each text; the arrow keys walk through its tokens. */
function walk(event) {
  const token = tokenOf(event);
  if (!token) return;
  if (event.key === "Escape") return hideTip();
  if (event.key === "Enter") {
    event.preventDefault();
    pinTip(token);
    $("tip").querySelector("button")?.focus();
    return undefined;
  }
  const tokens = Array.from(token.parentElement.querySelectorAll(".token"));
  const place = tokens.indexOf(token);
  const goal = {
    ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tokens.length - 1,
  }[event.key];
  if (goal === undefined || !tokens[goal]) return;
  event.preventDefault();
  token.tabIndex = -1;
  tokens[goal].tabIndex = 0;
  tokens[goal].focus();
}

// ---- Writing -------------------------------------------------------------------------------

/** The objects of a stream of events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n\n");
    rest = whole.pop();
    for (const event of whole) {
      const data = event.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function faultOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

/** What there is to know of the prompt. */
function showWarnings(warnings) {
  const items = warnings.map((warning) => element("p", {}, `Note: ${warning}.`));
  $("warnings").append(...items);
  $("warnings").hidden = $("warnings").childElementCount === 0;
}

async function stream(texts, body, controller) {
  const response = await fetch("/v1/completions", {
    method: "POST", headers: headers(), body: JSON.stringify(body), signal: controller.signal,
  });
  if (response.status === 401) $("key-form").hidden = false;
  if (!response.ok) throw new Error(await faultOf(response));
  for await (const object of events(response)) {
    if (object.error) throw new Error(object.error.message);
    if (object.warnings) showWarnings(object.warnings);
    for (const choice of object.choices) texts[choice.index].add(choice);
  }
}

/** Writes new texts from the prompt. */
function write() {
  const texts = Array.from({ length: Number($("n").value) }, (_, i) => new Text(i, $("prompt").value));
  $("texts").replaceChildren(...texts.map((text) => text.article));
  const body = request();
  toFragment();
  return writeInto(texts, body);
}

/** Continues one of the texts after `prompt`, which is what it shows. */
function continueText(text, prompt) {
  if (!text.article.classList.contains("writing")) text.resume(null, "");
  return writeInto([text], { ...request(), prompt, n: 1 });
}

async function writeInto(texts, body) {
  if (writing) writing.abort();
  const controller = new AbortController();
  writing = controller;
  for (const text of texts) text.controller = controller;
  $("legend").hidden = false;
  $("fault").hidden = true;
  $("warnings").replaceChildren();
  $("warnings").hidden = true;
  $("stop").disabled = false;
  $("status").textContent = "Writing …";
  hideTip();
  let word = "Done.";
  try {
    await stream(texts, body, controller);
  } catch (error) {
    if (controller.signal.aborted) {
      word = "Stopped.";
    } else {
      word = "";
      $("fault").textContent = `It did not work: ${error.message}`;
      $("fault").hidden = false;
    }
  }
  for (const text of texts) {
    const isOurs = text.controller === controller && text.article.classList.contains("writing");
    if (isOurs) text.end(word ? "Stopped here" : "Broken off");
  }
  if (writing !== controller) return; // Another has begun.
  writing = null;
  $("stop").disabled = true;
  $("status").textContent = word;
}

// ---- Who it is -----------------------------------------------------------------------------

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The curve of the loss, as far as it was recorded. */
function drawCurve({ train, val }, reached) {
  const points = [...train, ...val];
  if (points.length < 2) return;
  const [width, height, left, bottom, top] = [300, 150, 34, 20, 8];
  const last = Math.max(1, ...points.map(([iter]) => iter));
  const losses = points.map(([, loss]) => loss);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const x = (iter) => left + (width - left - 6) * (iter / last);
  const y = (loss) => top + (height - top - bottom) * ((high - loss) / Math.max(high - low, 1e-6));
  const line = (name, values) => svg("polyline", {
    class: name, points: values.map(([iter, loss]) => `${x(iter).toFixed(1)},${y(loss).toFixed(1)}`).join(" "),
  });
  const label = (at, up, text, anchor) => svg("text", { x: at, y: up, "text-anchor": anchor }, text);
  const parts = [
    svg("line", { class: "axis", x1: left, x2: width - 6, y1: height - bottom, y2: height - bottom }),
    label(left - 6, y(high) + 8, high.toFixed(1), "end"),
    label(left - 6, y(low) + 2, low.toFixed(1), "end"),
    label(left, height - 5, "0", "start"),
    label(width - 6, height - 5, `${last.toLocaleString("en")} updates`, "end"),
    line("train", train), line("val", val),
  ];
  const here = val.filter(([iter]) => iter === reached).pop();
  if (here) parts.push(svg("circle", { class: "here", cx: x(here[0]), cy: y(here[1]), r: 4 }));
  const ends = val.length > 1 ? val : train;
  const told = `The loss fell from ${ends[0][1].toFixed(2)} to ${ends[ends.length - 1][1].toFixed(2)} `
    + `nats a token in ${last} updates.`;
  $("curve").replaceChildren(svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told,
  }, ...parts));
}

function count(number) {
  const units = [[1e9, " billion"], [1e6, " million"], [1e3, " thousand"]];
  const [unit, name] = units.find(([unit]) => number >= unit) || [1, ""];
  return `${+(number / unit).toPrecision(3)}${name}`;
}

function showCard(card) {
  document.title = `${card.name} · TinyGPT`;
  $("name").textContent = card.name;
  const heads = `${card.n_layer} layers, ${card.n_head} heads, ${card.n_embd} wide`;
  const last = card.curve.val.filter(([iter]) => iter === card.n_iters).pop();
  $("summary").textContent = `A GPT-2 of ${count(card.n_params)} weights`
    + (card.dataset ? `, trained on ${card.dataset}` : "") + ".";
  const facts = {
    Weights: count(card.n_params),
    Shape: heads,
    Context: `${card.block_size.toLocaleString("en")} tokens`,
    Vocabulary: `${card.vocab_size.toLocaleString("en")} ${card.tokens}`,
    Dataset: card.dataset,
    Updates: card.n_iters?.toLocaleString("en"),
    "Validation loss": last && `${last[1].toFixed(3)} nats a token`,
  };
  const known = Object.entries(facts).filter(([, value]) => value);
  $("facts").replaceChildren(...known.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, value)]));
  drawCurve(card.curve, card.n_iters);
  const key = apiKey ? ' -H "Authorization: Bearer $KEY"' : "";
  $("curl").textContent = `curl ${location.origin}/v1/completions${key} \\\n`
    + "  -H 'Content-Type: application/json' \\\n"
    + `  -d '{"prompt": "Once", "max_tokens": 50}'`;
  $("card").hidden = false;
}

async function open() {
  const response = await fetch("/card", { headers: headers() });
  $("key-form").hidden = response.status !== 401;
  if (!response.ok) {
    if (response.status !== 401) throw new Error(await faultOf(response));
    return;
  }
  const card = await response.json();
  setControls(card.defaults);
  fromFragment();
  showCard(card);
}

function start() {
  for (const name of SLIDERS) $(name).addEventListener("input", showValues);
  $("seed").addEventListener("input", () => { $("keep").checked = true; });
  $("form").addEventListener("submit", (event) => { event.preventDefault(); write(); });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) write();
  });
  $("stop").addEventListener("click", () => writing && writing.abort());
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    apiKey = $("key").value.trim();
    sessionStorage.setItem("key", apiKey);
    open();
  });
  const texts = $("texts");
  for (const name of ["pointerover", "focusin"]) {
    texts.addEventListener(name, (event) => {
      const token = tokenOf(event);
      if (event.type === "focusin" && token !== pinned) pinned = null;
      if (token && !pinned) showTip(token);
    });
  }
  for (const name of ["pointerout", "focusout"]) {
    texts.addEventListener(name, () => { if (!pinned) hideTip(); });
  }
  document.addEventListener("click", (event) => {
    const token = tokenOf(event);
    if (token) pinTip(token);
    else if (!$("tip").contains(event.target)) hideTip();
  });
  texts.addEventListener("keydown", walk);
  $("tip").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const token = pinned;
    hideTip();
    token?.focus();
  });
  addEventListener("hashchange", fromFragment);
  open().catch((error) => {
    $("fault").textContent = `The server cannot be reached: ${error.message}`;
    $("fault").hidden = false;
  });
}

start();
