// The page: sends completion requests to its own server and shows the text token by token. chat.js chats.
// Text of the model is only ever added as text nodes, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const SLIDERS = Array.from(document.querySelectorAll("input[type=range]"), (input) => input.id);
const MAX_SEED = 2147483647;
// The probability of each colour level: likely tokens have no colour, unlikely ones the strongest.
const LEVELS = [0.9, 0.5, 0.2, 0.05];

let apiKey = sessionStorage.getItem("key") || "";
let current = null; // The AbortController of the request in progress.

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

/** Stores everything that determines the texts in the address, so that it can be shared. */
function toFragment() {
  const values = new URLSearchParams();
  for (const name of ["prompt", "seed", ...SLIDERS]) values.set(name, $(name).value);
  if ($("stop-text").value) values.set("stop", $("stop-text").value);
  history.replaceState(null, "", `#${values}`);
}

/** Restores the settings from the address. With a seed, the texts are generated at once. */
function fromFragment() {
  const values = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (Object.keys(values).length === 0) return;
  setControls(values);
  $("keep").checked = values.seed !== undefined;
  if (values.seed !== undefined) generate();
}

/** Replaces escapes by the line break, tab or backslash they stand for. */
function unescape(text) {
  const characters = { n: "\n", r: "\r", t: "\t", "\\": "\\" };
  return text.replace(/\\([nrt\\])/g, (_, letter) => characters[letter]);
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

/** One of the generated texts. */
class Sample {
  constructor(index, prompt, name = "Sample") {
    this.text = prompt; // The prompt and everything generated.
    this.tokens = 0;
    this.started = performance.now();
    this.offset = null; // Characters so far, counted as the server does.
    this.body = element("div", {
      class: "body", role: "group", "aria-label": `${name} ${index + 1}, token by token`,
    });
    if (prompt) this.body.append(element("span", { class: "given" }, prompt));
    const copy = element("button", { class: "plain small", type: "button" }, "Copy");
    copy.setAttribute("aria-label", `Copy ${name.toLowerCase()} ${index + 1}`);
    copy.addEventListener("click", () => this.copy(copy));
    this.note = element("p", { class: "quiet" });
    this.more = element("button", { class: "plain small", type: "button", hidden: "" }, "Continue");
    this.more.setAttribute("aria-label", `Continue sample ${index + 1}`);
    this.more.addEventListener("click", () => continueSample(this, this.text));
    this.article = element("article", { class: "panel text generating" },
      element("header", {}, element("h2", {}, `${name} ${index + 1}`), copy), this.body,
      element("footer", {}, this.note, this.more));
  }

  /** Removes everything from `span` on, adds `text`, and gets ready for what follows. */
  resume(span, text) {
    if (span) {
      // The space before the word is a text node of its own.
      while (this.body.lastChild !== span) this.body.lastChild.remove();
      span.remove();
      const last = this.body.lastChild;
      if (last?.nodeType === Node.TEXT_NODE && span.info.space) {
        last.data = last.data.slice(0, last.data.length - span.info.space.length);
      }
      this.text = span.info.before;
    }
    if (text) this.body.append(element("span", { class: "given" }, text));
    this.text += text;
    this.tokens = 0;
    this.offset = null;
    this.started = performance.now();
    this.article.classList.add("generating");
    this.note.textContent = "";
    this.more.hidden = true;
  }

  /** Adds the text of a delta, split at the offsets of its tokens. */
  add(choice) {
    const { tokens, token_logprobs, top_logprobs, text_offset } = choice.logprobs;
    const characters = Array.from(choice.text);
    if (this.offset === null && tokens.length > 0) this.offset = text_offset[0];
    const start = this.offset || 0;
    tokens.forEach((_, i) => {
      const end = i + 1 < tokens.length ? text_offset[i + 1] - start : characters.length;
      const text = characters.slice(text_offset[i] - start, end).join("");
      if (!text) return;
      // The space before a word has no colour: it would be visible at the end of a line.
      const space = /^ +(?=\S)/.exec(text)?.[0] || "";
      const word = text.slice(space.length);
      const info = {
        name: tokens[i], probability: Math.exp(token_logprobs[i]), top: top_logprobs[i], space,
        before: this.text,
      };
      if (space) this.body.append(space);
      this.body.append(this.token(word, info));
      this.text += text;
    });
    if (tokens.length === 0 && choice.text) {
      this.body.append(choice.text);
      this.text += choice.text;
    }
    this.offset = start + characters.length;
    this.tokens += tokens.length;
    if (choice.finish_reason) this.end(choice.finish_reason);
  }

  token(text, info) {
    const level = LEVELS.findIndex((least) => info.probability >= least);
    const span = element("span", { class: `token l${level < 0 ? LEVELS.length : level}` }, text);
    span.tabIndex = this.body.querySelector(".token") ? -1 : 0;
    span.info = info;
    span.owner = this;
    return span;
  }

  end(reason) {
    this.article.classList.remove("generating");
    const seconds = (performance.now() - this.started) / 1000;
    const speed = Math.round(this.tokens / Math.max(seconds, 0.001)).toLocaleString("en");
    const why = { stop: "End of text", length: "Max tokens reached" }[reason] || reason;
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

// ---- Alternatives --------------------------------------------------------------------------

/** A token with visible spaces and line breaks. */
function visible(name) {
  return name.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

function percent(probability) {
  const value = 100 * probability;
  return value >= 0.1 ? `${value.toFixed(value < 10 ? 1 : 0)}%` : "< 0.1%";
}

let pinned = null; // The token whose alternatives stay open and can be chosen.

/** An alternative: a button if the text can continue with it. */
function alternative(span, name) {
  const shown = visible(name);
  // The end of a document and parts of characters are not text.
  const isText = name !== "<|endoftext|>" && !name.startsWith("bytes:\\x");
  if (span !== pinned || !isText || span.owner.isAnswer) return shown;
  const button = element("button", { type: "button" }, shown);
  button.setAttribute("aria-label", `Continue with ${shown}`);
  button.addEventListener("click", () => {
    const { owner, info } = span;
    hideTip();
    owner.resume(span, name);
    continueSample(owner, info.before + name);
  });
  return button;
}

function showTip(span) {
  const { name, probability, top } = span.info;
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

/** Keeps the alternatives of a token open until something else is clicked. */
function pinTip(span) {
  pinned = span;
  showTip(span);
}

function tokenOf(event) {
  return event.target instanceof Element ? event.target.closest(".token") : null;
}

/** One Tab stop in each text; the arrow keys move between its tokens. */
function moveFocus(event) {
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
  const index = tokens.indexOf(token);
  const target = {
    ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tokens.length - 1,
  }[event.key];
  if (target === undefined || !tokens[target]) return;
  event.preventDefault();
  token.tabIndex = -1;
  tokens[target].tabIndex = 0;
  tokens[target].focus();
}

// ---- Generating ----------------------------------------------------------------------------

/** The events of a stream of server-sent events: the fields of each by name. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const complete = (rest + value).split("\n\n");
    rest = complete.pop();
    for (const text of complete) {
      const event = {};
      for (const line of text.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) event[line.slice(0, at)] = line.slice(at + 2);
      }
      // A comment that only keeps the connection alive has no data.
      if (event.data !== undefined) yield event;
    }
  }
}

async function errorMessage(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server responded with status ${response.status}`;
  }
}

/** Shows warnings about the prompt. */
function showWarnings(warnings) {
  const items = warnings.map((warning) => element("p", {}, `Note: ${warning}.`));
  $("warnings").append(...items);
  $("warnings").hidden = $("warnings").childElementCount === 0;
}

async function stream(samples, body, controller) {
  const path = body.messages ? "/v1/chat/completions" : "/v1/completions";
  const response = await fetch(path, {
    method: "POST", headers: headers(), body: JSON.stringify(body), signal: controller.signal,
  });
  if (response.status === 401) $("key-form").hidden = false;
  if (!response.ok) throw new Error(await errorMessage(response));
  for await (const { data } of events(response)) {
    if (data === "[DONE]") return;
    const object = JSON.parse(data);
    if (object.error) throw new Error(object.error.message);
    if (object.warnings) showWarnings(object.warnings);
    for (const choice of object.choices) samples[choice.index].add(choice);
  }
}

/** Generates new texts from the prompt. */
function generate() {
  const samples = Array.from({ length: Number($("n").value) }, (_, i) => new Sample(i, $("prompt").value));
  $("texts").replaceChildren(...samples.map((sample) => sample.article));
  const body = request();
  toFragment();
  return generateInto(samples, body);
}

function submit() {
  return chat.isOn ? chat.send() : generate();
}

/** Continues one of the texts after `prompt`, which is the text it shows. */
function continueSample(sample, prompt) {
  if (!sample.article.classList.contains("generating")) sample.resume(null, "");
  return generateInto([sample], { ...request(), prompt, n: 1 });
}

async function generateInto(samples, body) {
  if (current) current.abort();
  const controller = new AbortController();
  current = controller;
  for (const sample of samples) sample.controller = controller;
  $("legend").hidden = false;
  $("fault").hidden = true;
  $("warnings").replaceChildren();
  $("warnings").hidden = true;
  $("stop").disabled = false;
  $("status").textContent = "Generating …";
  hideTip();
  let word = "Done.";
  try {
    await stream(samples, body, controller);
  } catch (error) {
    if (controller.signal.aborted) {
      word = "Stopped.";
    } else {
      word = "";
      $("fault").textContent = `Error: ${error.message}`;
      $("fault").hidden = false;
    }
  }
  for (const sample of samples) {
    const isOurs = sample.controller === controller && sample.article.classList.contains("generating");
    if (isOurs) sample.end(word ? "Stopped" : "Failed");
  }
  if (current !== controller) return; // Another request has started.
  current = null;
  $("stop").disabled = true;
  $("status").textContent = word;
}

// ---- About this model ----------------------------------------------------------------------

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Draws the loss curve, if it was recorded. */
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
    label(width - 6, height - 5, `${last.toLocaleString("en")} steps`, "end"),
    line("train", train), line("val", val),
  ];
  const here = val.filter(([iter]) => iter === reached).pop();
  if (here) parts.push(svg("circle", { class: "here", cx: x(here[0]), cy: y(here[1]), r: 4 }));
  const ends = val.length > 1 ? val : train;
  const summary = `The loss fell from ${ends[0][1].toFixed(2)} to ${ends[ends.length - 1][1].toFixed(2)} `
    + `nats per token in ${last} steps.`;
  $("curve").replaceChildren(svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary,
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
  const heads = `${card.n_layer} layers, ${card.n_head} heads, width ${card.n_embd}`;
  const last = card.curve.val.filter(([iter]) => iter === card.n_iters).pop();
  const trained = card.live ? "training" : "trained";
  $("summary").textContent = `A GPT-2 with ${count(card.n_params)} parameters`
    + (card.dataset ? `, ${trained} on ${card.dataset}` : "") + ".";
  const facts = {
    Parameters: count(card.n_params),
    Architecture: heads,
    Context: `${card.block_size.toLocaleString("en")} tokens`,
    Vocabulary: `${card.vocab_size.toLocaleString("en")} ${card.tokens}`,
    Dataset: card.dataset,
    Steps: card.n_iters?.toLocaleString("en"),
    "Validation loss": last && `${last[1].toFixed(3)} nats per token`,
  };
  const known = Object.entries(facts).filter(([, value]) => value);
  $("facts").replaceChildren(...known.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, value)]));
  drawCurve(card.curve, card.n_iters);
  const key = apiKey ? ' -H "Authorization: Bearer $KEY"' : "";
  const [path, body] = card.chat
    ? ["chat/completions", '{"messages": [{"role": "user", "content": "Hello!"}]}']
    : ["completions", '{"prompt": "Once", "max_tokens": 50}'];
  $("curl").textContent = `curl ${location.origin}/v1/${path}${key} \\\n`
    + "  -H 'Content-Type: application/json' \\\n"
    + `  -d '${body}'`;
  $("card").hidden = false;
  if (card.live && $("watch").hidden) watch(card.live);
}

async function open() {
  const response = await fetch("/card", { headers: headers() });
  $("key-form").hidden = response.status !== 401;
  if (!response.ok) {
    if (response.status !== 401) throw new Error(await errorMessage(response));
    return;
  }
  const card = await response.json();
  setControls(card.defaults);
  // The address of the page holds a prompt, not a conversation.
  if (card.chat && location.hash.length < 2) chat.open();
  fromFragment();
  showCard(card);
}

function start() {
  for (const name of SLIDERS) $(name).addEventListener("input", showValues);
  $("seed").addEventListener("input", () => { $("keep").checked = true; });
  $("form").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  $("prompt").addEventListener("keydown", (event) => {
    // A message is sent with Enter, a prompt may have several lines.
    const sends = event.ctrlKey || event.metaKey || (chat.isOn && !event.shiftKey && !event.isComposing);
    if (event.key !== "Enter" || !sends) return;
    event.preventDefault();
    submit();
  });
  $("stop").addEventListener("click", () => current && current.abort());
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
  texts.addEventListener("keydown", moveFocus);
  $("tip").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const token = pinned;
    hideTip();
    token?.focus();
  });
  addEventListener("hashchange", fromFragment);
  open().catch((error) => {
    $("fault").textContent = `Cannot reach the server: ${error.message}`;
    $("fault").hidden = false;
  });
}
