// The chat view of the page: turns above the form, and one or several answers below it. The answer that is
// kept becomes a turn with the next message. page.js has the controls, the samples and the requests.
"use strict";

/** An answer: a sample from the chat API. */
class Answer extends Sample {
  constructor(index) {
    super(index, "", "Answer");
    this.isAnswer = true;
    this.decoder = new TextDecoder();
    this.n_chars = 0;
    this.more.textContent = "Keep";
    this.more.setAttribute("aria-label", `Keep answer ${index + 1}`);
    const again = this.more.cloneNode(true);
    this.more.replaceWith(again);
    this.more = again;
    this.more.addEventListener("click", () => chat.keep(this));
  }

  /** Adds a part of the stream, in the shape of the completions API. */
  add({ delta, logprobs, finish_reason }) {
    const tokens = logprobs?.content || [];
    const offsets = tokens.map(({ bytes }) => {
      const offset = this.n_chars;
      this.n_chars += Array.from(this.decoder.decode(Uint8Array.from(bytes), { stream: true })).length;
      return offset;
    });
    super.add({
      text: delta.content || "",
      finish_reason,
      logprobs: {
        tokens: tokens.map(({ token }) => token),
        token_logprobs: tokens.map(({ logprob }) => logprob),
        top_logprobs: tokens.map(({ top_logprobs }) =>
          Object.fromEntries(top_logprobs.map(({ token, logprob }) => [token, logprob]))),
        text_offset: offsets,
      },
    });
  }

  end(reason) {
    super.end(reason === "stop" ? "End of answer" : reason);
    this.more.hidden = chat.answers.length < 2;
  }
}

const chat = {
  isOn: false,
  turns: [], // The messages so far, without the answers that can still be chosen.
  answers: [],
  kept: null, // The answer that the next message follows.

  /** Switches between chatting and continuing a text. */
  turnOn(isOn) {
    this.isOn = isOn;
    $("chat").hidden = !isOn;
    $("chat-buttons").hidden = !isOn;
    $("system-line").hidden = !isOn;
    $("prompt-label").textContent = isOn ? "Message" : "Prompt";
    $("prompt").placeholder = isOn ? "Type a message." : "Type the beginning of a text, or leave it empty.";
    $("prompt").value = "";
    $("legend-choose").hidden = isOn;
    $("seed-prompt").hidden = isOn;
    $("seed-chat").hidden = !isOn;
    $("write").textContent = isOn ? "Send" : "Generate";
    $("texts").replaceChildren();
    this.clear();
  },

  clear() {
    current?.abort();
    [this.turns, this.answers, this.kept] = [[], [], null];
    if (this.isOn) $("texts").replaceChildren();
    $("legend").hidden = true;
    this.show();
  },

  keep(answer) {
    this.kept = answer;
    for (const { article } of this.answers) article.hidden = article !== answer.article;
    answer.more.hidden = true;
    $("prompt").focus();
  },

  /** Sends the message of the form. */
  send() {
    const content = $("prompt").value;
    if (!content.trim()) return undefined;
    const kept = this.kept || this.answers[0];
    if (kept) this.turns.push({ role: "assistant", content: kept.text });
    this.turns.push({ role: "user", content });
    $("prompt").value = "";
    return this.answer();
  },

  /** Generates answers to the last message. */
  async answer() {
    if (this.turns.length === 0) return undefined;
    const { prompt, ...settings } = request();
    const system = $("system").value.trim();
    const first = system ? [{ role: "system", content: system }] : [];
    this.answers = Array.from({ length: settings.n }, (_, i) => new Answer(i));
    this.kept = null;
    $("texts").replaceChildren(...this.answers.map(({ article }) => article));
    for (const { article } of this.answers) {
      if (settings.n === 1) article.querySelector("h2").textContent = "Assistant";
    }
    this.show();
    const messages = [...first, ...this.turns];
    const { answers } = this;
    await generateInto(answers, { ...settings, messages, logprobs: true, top_logprobs: 5 });
    // A conversation has no message without an answer, so that the next message follows one.
    const isFailed = !$("fault").hidden && answers.every(({ text }) => !text);
    if (isFailed && this.answers === answers) this.edit(this.turns.length - 1, $("prompt").value);
    return undefined;
  },

  /** Puts a message back into the form, unless there is a draft, and removes it and what follows. */
  edit(index, draft = "") {
    const { content } = this.turns[index];
    current?.abort();
    this.turns.length = index;
    // The answer before the message is a turn: it becomes text again with the next message.
    [this.answers, this.kept] = [[], null];
    $("texts").replaceChildren();
    $("prompt").value = draft || content;
    this.show();
    $("prompt").focus();
  },

  show() {
    $("chat").replaceChildren(...this.turns.map(({ role, content }, index) => {
      const title = element("h2", {}, role === "user" ? "You" : "Assistant");
      const head = element("header", {}, title);
      if (role === "user") {
        const edit = element("button", { class: "plain small", type: "button" }, "Edit");
        edit.setAttribute("aria-label", `Edit message ${(index >> 1) + 1}`);
        edit.addEventListener("click", () => this.edit(index));
        head.append(edit);
      }
      return element("article", { class: `panel text ${role}` }, head, element("div", { class: "body" }, content));
    }));
    $("retry").disabled = this.turns.length === 0;
  },

  /** Shows the chat view of a model that was trained on conversations. */
  open() {
    $("views").hidden = false;
    $("chat-on").checked = true;
    $("chat-on").addEventListener("change", () => this.turnOn($("chat-on").checked));
    $("retry").addEventListener("click", () => this.answer());
    $("clear").addEventListener("click", () => this.clear());
    this.turnOn(true);
  },
};

// The last of the scripts starts the page.
start();
