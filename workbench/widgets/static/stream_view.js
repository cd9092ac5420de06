// Prompt, Run and Stop, and the text as it comes: each token a span whose warmth is its surprisal.

import { requester } from "./asking.js";
import { h, keepKeys, segments, uniqueId } from "./dom.js";
import { duration, fixed } from "./format.js";
import { tokenText } from "./token_text.js";

/**
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 * @property {string} prompt
 * @property {"chat" | "completion"} mode
 * @property {boolean} can_run  false: the view only shows a run
 *
 * Messages to the kernel: `{kind: "run", id, prompt, mode}` and `{kind: "stop", id}`; each is answered by
 * `{kind: "reply", id, error}` with `error` null or in words.
 */

const STOPPED = { end_of_turn: "end of turn", end_of_message: "end of message", out_of_tokens: "length limit" };

/** @param {{model: any, el: HTMLElement, host: any, signal: AbortSignal}} context */
async function render({ model, el, host, signal }) {
  const { store } = (await host.getWidget(model.get("feed"))).exports;
  el.classList.add("wb-root", "wb-stream");
  keepKeys(el);
  const form = promptForm(model, store, signal);
  const output = tokenText(store, signal);
  const metrics = metricsLine(store, signal);
  el.append(h("div", { class: "wb-stream-main" }, form, output.root), metrics);

  const showState = () => el.setAttribute("data-wb-state", store.state);
  store.listen(showState, signal);
  showState();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {any} model @param {any} store @param {AbortSignal} signal */
function promptForm(model, store, signal) {
  const promptId = uniqueId("prompt");
  const prompt = h("textarea", { class: "wb-field wb-prompt", id: promptId, rows: 2, spellcheck: "false", placeholder: "Ask the model something" });
  const runButton = h("button", { type: "button", class: "wb-button wb-primary wb-run" }, h("span", { text: "Run" }), h("kbd", { text: "Ctrl ⏎" }));
  const stopButton = h("button", { type: "button", class: "wb-button wb-stop" }, h("span", { text: "Stop" }), h("kbd", { text: "Esc" }));
  const mode = segments({
    label: "How the prompt is sent",
    options: [
      { value: "chat", text: "Chat", title: "As a user's turn, in the model's own chat template" },
      { value: "completion", text: "Completion", title: "As it is; the model continues the text" },
    ],
    onChange: (value) => {
      model.set("mode", value);
      model.save_changes();
    },
  });
  const message = h("p", { class: "wb-message wb-error", role: "alert", hidden: true });
  const request = requester(model, signal, (text) => {
    message.textContent = text ?? "";
    message.hidden = !text;
  });

  let timer = 0;
  const flush = () => {
    window.clearTimeout(timer);
    if (model.get("prompt") !== prompt.value) {
      model.set("prompt", prompt.value);
      model.save_changes();
    }
  };
  const run = () => {
    if (store.active || !model.get("can_run")) return;
    flush();
    request({ kind: "run", prompt: prompt.value, mode: model.get("mode") });
  };
  const stop = () => store.active && request({ kind: "stop" });

  prompt.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(flush, 300);
  });
  prompt.addEventListener("change", flush);
  runButton.addEventListener("click", run);
  stopButton.addEventListener("click", stop);

  const showPrompt = () => {
    if (prompt.value !== model.get("prompt")) prompt.value = model.get("prompt");
  };
  const showMode = () => {
    mode.set(model.get("mode"));
    prompt.setAttribute("aria-description", model.get("mode") === "chat" ? "Sent as a user's turn" : "Continued as it is");
  };
  const showButtons = () => {
    runButton.disabled = store.active;
    stopButton.disabled = !store.active;
    if (store.error) {
      message.textContent = store.error;
      message.hidden = false;
    }
  };
  model.on("change:prompt", showPrompt);
  model.on("change:mode", showMode);
  store.listen(showButtons, signal);
  showPrompt();
  showMode();
  showButtons();
  signal.addEventListener("abort", () => window.clearTimeout(timer));

  const form = h(
    "div",
    { class: "wb-stream-form" },
    model.get("can_run") && h("label", { class: "wb-sr", for: promptId, text: "Prompt" }),
    model.get("can_run") && prompt,
    h("div", { class: "wb-row" }, model.get("can_run") && runButton, stopButton, model.get("can_run") && mode.root, h("span", { class: "wb-spacer" }), legend()),
    message,
  );
  form.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => onShortcut(event, run, stop));
  return form;
}

/** @param {KeyboardEvent} event @param {() => void} run @param {() => void} stop */
function onShortcut(event, run, stop) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
  else if (event.key === "Escape") stop();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function legend() {
  return h(
    "div",
    { class: "wb-legend", role: "img", "aria-label": "Colour and underline show surprisal, from 0 to 8 bits" },
    h("span", { text: "surprisal" }),
    h("span", { text: "0" }),
    h("span", { class: "wb-gradient" }),
    h("span", { text: "8 bits" }),
  );
}

/** @param {any} store @param {AbortSignal} signal */
function metricsLine(store, signal) {
  const parts = h("div", { class: "wb-metrics-parts" });
  const said = h("span", { class: "wb-sr", role: "status" });
  let lastState = store.state;
  const show = () => {
    parts.replaceChildren(...metrics(store));
    if (store.state !== lastState) {
      lastState = store.state;
      said.textContent = `${stateInWords(store)}${store.active ? "" : `, ${store.tokens.length} tokens`}`;
    }
  };
  store.listen((/** @type {any} */ change) => change.kind === "selected" || change.kind === "alternatives" || show(), signal);
  show();
  return h("div", { class: "wb-metrics wb-number" }, parts, said);
}

/** @param {any} store @returns {HTMLElement[]} */
function metrics(store) {
  const usage = store.usage;
  if (!usage) return [metric(["", stateInWords(store), ""])];
  const perplexity = perplexityOf(store.tokens);
  return [
    usage.tokensPerS !== null && metric(["", fixed(usage.tokensPerS, usage.tokensPerS < 10 ? 1 : 0), " tokens/s"]),
    usage.firstTokenS !== null && metric(["first token ", duration(usage.firstTokenS), ""]),
    metric(["prompt ", String(usage.prompt), ""], usage.reused > 0 && [", ", String(usage.reused), " reused"]),
    metric(["generated ", String(usage.generated || store.tokens.length), ""]),
    perplexity !== null && metric(["perplexity ", perplexity.toFixed(2), ""]),
    metric(store.stopReason && store.state === "finished" ? ["stopped: ", stateInWords(store), ""] : ["", stateInWords(store), ""]),
  ].filter(Boolean);
}

/** @param {(string[] | false)[]} groups each: quiet text, strong text, quiet text */
function metric(...groups) {
  const span = h("span", { class: "wb-metric" });
  for (const group of groups) if (group) span.append(group[0], h("b", { text: group[1] }), group[2]);
  return span;
}

/** @param {any} store */
function stateInWords(store) {
  if (store.state === "finished") return /** @type {any} */ (STOPPED)[store.stopReason] ?? "finished";
  const words = { idle: "ready", queued: "waiting for the model", running: "running", cancelled: "stopped by you", failed: "failed" };
  return /** @type {any} */ (words)[store.state] ?? store.state;
}

/** Inverse geometric mean of the probabilities. @param {any[]} tokens */
function perplexityOf(tokens) {
  const known = tokens.filter((token) => token.logprob !== null);
  if (!known.length) return null;
  return Math.exp(-known.reduce((sum, token) => sum + token.logprob, 0) / known.length);
}

export default { render };
