// Prompt, Run and Stop, and the text as it comes.

import { requester } from "./asking.js";
import { h, segments, uniqueId } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { pauseForm } from "./pause_form.js";
import { openRoot } from "./root.js";
import { metricsLine } from "./run_metrics.js";
import { tokenText } from "./token_text.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { ColorBy } from "./format.js"
 * @import { Pauses } from "./pause_form.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 * @property {string} prompt
 * @property {"chat" | "completion"} mode
 * @property {boolean} can_run  false: the view only shows a run
 * @property {string} no_pause  why the next run cannot pause; empty where it can
 * @property {Pauses} pauses
 * @property {ColorBy} color_by
 * @property {boolean} show_whitespace
 * @property {boolean} show_special
 *
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind: "run", id, prompt, mode}`, and `{kind, id}` with stop, pause, resume, extend or again;
 * each is answered by `{kind: "reply", id, error}` with `error` null or in words.
 */

/** @type {Partial<Record<ColorBy, {from: string, to: string, said: string}>>} */
const LEGENDS = {
  surprisal: { from: "0", to: "8 bits", said: "Colour and underline show surprisal, from 0 to 8 bits" },
  probability: { from: "100 %", to: "0 %", said: "Colour and underline show probability, from 100 % down to 0 %" },
  entropy: { from: "0", to: "8 bits", said: "Colour and underline show the entropy at each token, from 0 to 8 bits" },
};

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  openRoot({ model, el, signal }, "wb-stream");
  const look = () => ({
    colorBy: model.get("color_by"),
    whitespace: model.get("show_whitespace"),
    special: model.get("show_special"),
  });
  const text = tokenText(store, signal, { look: look() });
  for (const name of ["color_by", "show_whitespace", "show_special"])
    model.on(`change:${name}`, () => text.show(look()));
  el.append(
    h("div", { class: "wb-stream-main" }, promptForm(model, store, signal), lookBar(model), text.root),
    metricsLine(store, signal),
  );

  const showState = () => {
    el.setAttribute("data-wb-state", store.state);
    el.setAttribute("data-wb-run", store.run ?? "none");
  };
  store.listen(showState, signal);
  showState();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {Model} model @param {Store} store @param {AbortSignal} signal */
function promptForm(model, store, signal) {
  const canRun = model.get("can_run");
  const message = h("p", { class: "wb-message wb-error", role: "alert", hidden: true });
  const tell = (/** @type {string | null} */ text) => {
    message.textContent = text ?? "";
    message.hidden = !text;
  };
  const ask = requester(model, signal, tell);
  const prompt = promptBox(model, signal);
  const run = () => {
    if (store.state === "paused") ask({ kind: "resume" });
    if (store.active || !canRun) return;
    prompt.flush();
    ask({ kind: "run", prompt: prompt.root.value, mode: model.get("mode") });
  };
  const stop = () => store.active && ask({ kind: "stop" });
  const showError = () => store.error && tell(store.error);
  store.listen(showError, signal);
  showError();

  const pauses = pauseForm(model);
  const form = h(
    "div",
    { class: "wb-stream-form" },
    canRun && h("label", { class: "wb-sr", for: prompt.root.id, text: "Prompt" }),
    canRun && prompt.root,
    h(
      "div",
      { class: "wb-row" },
      startButton(store, signal, canRun, run, stop),
      holdButton(store, signal, canRun, (kind) => ask({ kind })),
      canRun && againButton(store, signal, () => ask({ kind: "again" })),
      h("span", { class: "wb-spacer" }),
      canRun && pauses.button,
      canRun && modeChoice(model, prompt.root),
    ),
    canRun && pauses.root,
    message,
  );
  form.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
    else if (event.key === "Escape") stop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return form;
}

/** @param {Model} model @param {AbortSignal} signal */
function promptBox(model, signal) {
  const root = h("textarea", {
    class: "wb-field wb-prompt",
    id: uniqueId("prompt"),
    rows: 2,
    spellcheck: "false",
    placeholder: "Ask the model something",
  });
  let timer = 0;
  const flush = () => {
    window.clearTimeout(timer);
    if (model.get("prompt") === root.value) return;
    model.set("prompt", root.value);
    model.save_changes();
  };
  const show = () => {
    if (root.value !== model.get("prompt")) root.value = model.get("prompt");
  };
  root.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(flush, 300);
  });
  root.addEventListener("change", flush);
  model.on("change:prompt", show);
  show();
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  return { root, flush };
}

/**
 * Run, which is Stop while a run goes on.
 * @param {Store} store @param {AbortSignal} signal @param {boolean} canRun @param {() => void} run
 * @param {() => void} stop
 */
function startButton(store, signal, canRun, run, stop) {
  const name = h("span");
  const key = h("kbd");
  const button = h("button", { type: "button" }, name, key);
  button.addEventListener("click", (event) => {
    if (!store.active) run();
    // The second half of a double click on Run means no Stop.
    else if (event.detail < 2) stop();
  });
  const show = () => {
    name.textContent = store.active ? "Stop" : "Run";
    key.textContent = store.active ? "Esc" : "Ctrl ⏎";
    button.className = `wb-button wb-start ${store.active ? "wb-stop" : "wb-run wb-primary"}`;
    button.hidden = !store.active && !canRun;
  };
  store.listen(show, signal);
  show();
  return button;
}

/**
 * Pause, which is Resume while a run is paused, and Continue after it was stopped or cut off.
 * @param {Store} store @param {AbortSignal} signal @param {boolean} canRun @param {(kind: string) => void} ask
 */
function holdButton(store, signal, canRun, ask) {
  const button = h("button", { type: "button", class: "wb-button wb-hold" });
  let kind = "pause";
  // The second half of a double click was meant for what stood here before.
  button.addEventListener("click", (event) => event.detail < 2 && ask(kind));
  const show = () => {
    const isWhole = store.state === "finished" && store.stopReason !== "out_of_tokens";
    kind = store.state === "paused" ? "resume" : store.active ? "pause" : "extend";
    button.textContent = { pause: "Pause", resume: "Resume", extend: "Continue" }[kind] ?? "";
    button.title = { pause: "Hold after this token", resume: "Go on", extend: "Go on where it ended" }[kind] ?? "";
    button.classList.toggle("wb-primary", kind === "resume");
    button.hidden = kind === "extend" ? !canRun || !store.tokens.length || isWhole : !store.canPause;
  };
  store.listen(show, signal);
  show();
  return button;
}

/** @param {Store} store @param {AbortSignal} signal @param {() => void} again */
function againButton(store, signal, again) {
  const button = h("button", {
    type: "button",
    class: "wb-button wb-again",
    text: "Regenerate",
    title: "The same request again, with another seed",
    on: { click: again },
  });
  const show = () => {
    button.hidden = store.active || store.run === null;
  };
  store.listen(show, signal);
  show();
  return button;
}

/** @param {Model} model @param {HTMLElement} prompt */
function modeChoice(model, prompt) {
  const mode = segments({
    label: "How the prompt is sent",
    options: [
      { value: "chat", text: "Chat", title: "As a user's turn, in the model's own chat template" },
      { value: "completion", text: "Completion", title: "As it is; the model continues the text" },
    ],
    onChange: (value) => save(model, "mode", value),
  });
  const show = () => {
    mode.set(model.get("mode"));
    prompt.setAttribute(
      "aria-description",
      model.get("mode") === "chat" ? "Sent as a user's turn" : "Continued as it is",
    );
  };
  model.on("change:mode", show);
  show();
  return mode.root;
}

/** What the colour tells, its legend, and what is made visible. @param {Model} model */
function lookBar(model) {
  const id = uniqueId("color");
  const choice = h(
    "select",
    { class: "wb-field wb-color", id },
    ...[...Object.keys(LEGENDS), "none"].map((value) => h("option", { value, text: value })),
  );
  choice.addEventListener("change", () => save(model, "color_by", /** @type {ColorBy} */ (choice.value)));
  const from = h("span");
  const gradient = h("span", { class: "wb-gradient" });
  const to = h("span");
  const legend = h("span", { class: "wb-legend wb-number", role: "img" }, from, gradient, to);
  const show = () => {
    const name = model.get("color_by");
    const words = LEGENDS[name];
    choice.value = name;
    legend.hidden = !words;
    gradient.setAttribute("data-wb-color", name);
    legend.setAttribute("aria-label", words?.said ?? "");
    from.textContent = words?.from ?? "";
    to.textContent = words?.to ?? "";
  };
  model.on("change:color_by", show);
  show();
  return h(
    "div",
    { class: "wb-look" },
    h("label", { for: id, text: "Colour" }),
    choice,
    legend,
    h("span", { class: "wb-spacer" }),
    toggle(model, "show_whitespace", "White space", "Marks on spaces, line ends and characters that are not seen"),
    toggle(model, "show_special", "Special tokens", "Control tokens, which are no part of the text"),
  );
}

/** @param {Model} model @param {"show_whitespace" | "show_special"} name @param {string} text @param {string} title */
function toggle(model, name, text, title) {
  const button = h("button", {
    type: "button",
    class: "wb-button wb-toggle",
    text,
    title,
    on: { click: () => save(model, name, !model.get(name)) },
  });
  const show = () => button.setAttribute("aria-pressed", String(model.get(name)));
  model.on(`change:${name}`, show);
  show();
  return button;
}

/** @template {keyof State} Name @param {Model} model @param {Name} name @param {State[Name]} value */
function save(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

export default { render };
