// Prompt, Run and Stop, and the text as it comes: each token a span whose warmth is its surprisal.

import { h, keepKeys, segments, uniqueId } from "./dom.js";
import { bits, duration, fixed, heat, percentOf } from "./format.js";

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
const PATIENCE_MS = 1500;

/** @param {{model: any, el: HTMLElement, host: any, signal: AbortSignal}} context */
async function render({ model, el, host, signal }) {
  const { store } = (await host.getWidget(model.get("feed"))).exports;
  el.classList.add("wb-root", "wb-stream");
  keepKeys(el);
  const form = promptForm(model, store, signal);
  const output = outputArea(store, signal);
  const metrics = metricsLine(store, signal);
  el.append(h("div", { class: "wb-stream-main" }, form, output), metrics);

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

/**
 * Sends messages with an id and shows what came of them.
 * @param {any} model @param {AbortSignal} signal @param {(text: string | null) => void} show
 */
function requester(model, signal, show) {
  let id = 0;
  let timer = 0;
  model.on("msg:custom", (/** @type {any} */ reply) => {
    if (reply.kind !== "reply" || reply.id !== id) return;
    window.clearTimeout(timer);
    show(reply.error);
  });
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  return (/** @type {any} */ content) => {
    id += 1;
    show(null);
    window.clearTimeout(timer);
    timer = window.setTimeout(() => show("The kernel is busy: this takes effect when the running cell ends."), PATIENCE_MS);
    model.send({ id, ...content });
  };
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
function outputArea(store, signal) {
  const output = h("div", { class: "wb-output", tabindex: 0, role: "group", "aria-label": "Generated text; arrow keys walk through its tokens", dir: "auto" });
  const empty = h("p", { class: "wb-quiet wb-empty" });
  /** @type {HTMLElement[]} */ const spans = [];
  /** @type {HTMLElement[]} */ let marked = [];

  const append = (/** @type {number} */ from) => {
    const follows = output.scrollHeight - output.scrollTop - output.clientHeight < 24;
    const fresh = store.tokens.slice(from).map((/** @type {any} */ token, /** @type {number} */ i) => tokenSpan(token, from + i));
    spans.push(...fresh);
    output.append(...fresh);
    if (follows) output.scrollTop = output.scrollHeight;
  };
  const showSelected = () => {
    for (const span of marked) span.classList.remove("wb-selected");
    marked = store.selected.map((/** @type {number} */ i) => spans[i]).filter(Boolean);
    for (const span of marked) span.classList.add("wb-selected");
    if (store.current !== null && spans[store.current]) scrollInto(output, spans[store.current]);
  };
  const showEmpty = () => {
    if (store.tokens.length) empty.remove();
    else output.replaceChildren(empty);
    empty.textContent = store.text || emptyText(store);
    empty.classList.toggle("wb-plain-text", Boolean(store.text));
  };
  const reset = () => {
    spans.length = 0;
    output.replaceChildren();
    append(0);
    showSelected();
  };
  store.listen((/** @type {any} */ change) => {
    if (change.kind === "reset") reset();
    else if (change.kind === "append") append(change.from);
    else if (change.kind === "selected") showSelected();
    showEmpty();
  }, signal);
  reset();
  showEmpty();
  walkTokens(output, store);
  return output;
}

/** @param {any} store */
function emptyText(store) {
  if (store.state === "idle") return "The answer appears here, token by token.";
  if (store.active) return store.usage?.prompt ? "Reading the prompt …" : "Waiting for the model …";
  return store.state === "finished" ? "The model ended its turn without a token." : "";
}

/** @param {any} token @param {number} position */
function tokenSpan(token, position) {
  const span = h("span", { class: token.special ? "wb-special" : "wb-token", "data-wb-position": position, text: token.special ? token.label : token.piece });
  const strength = token.special ? 0 : heat(token.logprob);
  if (strength > 0) {
    span.style.setProperty("--wb-a", (0.52 * strength).toFixed(3));
    span.style.setProperty("--wb-u", `${(4 * strength).toFixed(1)}px`);
  }
  return span;
}

/** Mouse and keyboard select tokens. @param {HTMLElement} output @param {any} store */
function walkTokens(output, store) {
  const positionAt = (/** @type {any} */ target) => {
    const span = target.closest?.("[data-wb-position]");
    return span ? Number(span.getAttribute("data-wb-position")) : null;
  };
  output.addEventListener("click", (event) => {
    const position = positionAt(event.target);
    // Marking text with the mouse is not a click on a token.
    if (position !== null && window.getSelection()?.isCollapsed !== false) store.select([position]);
  });
  output.addEventListener("pointerover", (event) => {
    const position = positionAt(event.target);
    const token = position === null ? null : store.tokens[position];
    if (token && token.logprob !== null) {
      const rank = token.rank ? `, rank ${token.rank}` : "";
      /** @type {any} */ (event.target).title = `${percentOf(token.logprob)}${rank}, ${fixed(bits(token.logprob), 1)} bits`;
    }
  });
  output.addEventListener("keydown", (event) => {
    const current = store.current;
    const targets = {
      ArrowRight: current === null ? 0 : current + 1,
      ArrowLeft: current === null ? store.tokens.length - 1 : current - 1,
      Home: 0,
      End: store.tokens.length - 1,
    };
    const target = /** @type {Record<string, number>} */ (targets)[event.key];
    if (event.key === "Escape" && store.selected.length) store.select([]);
    else if (target !== undefined && !event.shiftKey && !event.ctrlKey && !event.metaKey) store.walkTo(target);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** Scroll the box alone; scrollIntoView would move the notebook too. @param {HTMLElement} box @param {HTMLElement} item */
function scrollInto(box, item) {
  const outer = box.getBoundingClientRect();
  const inner = item.getBoundingClientRect();
  if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top + 8;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 8;
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
