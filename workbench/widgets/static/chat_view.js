// A chat: turns above, a message box below. Enter sends; while the model answers the same button stops it.

import { requester } from "./asking.js";
import { chatTurns } from "./chat_turns.js";
import { chatInWords, isWorking, lastAsked } from "./chat_words.js";
import { h, uniqueId } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Detail } from "./answer_detail.js"
 * @import { Ask } from "./asking.js"
 * @import { ChatState, Turn } from "./chat_words.js"
 *
 * @typedef {"picker" | "controls" | "feed" | "inspector" | "microscope" | "prompt_view"} Part
 *
 * @typedef {object} Said
 * @property {Turn[]} turns
 * @property {ChatState} state
 * @property {Detail} detail  what is open below the answer whose tokens are shown
 * @property {string} system
 * @property {string} draft
 *
 * @typedef {Said & Record<Part, string>} State  of the widget model, with references of the parts
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel, each answered by `{kind: "reply", id, error}` with `error` null or in words:
 * `{kind: "say", id, text, system, turn}` (`turn` null, or the turn of the user that is said anew), `{kind: "stop", id}`,
 * `{kind: "decide", id, place, approved, result}` and `{kind: "show", id, run}`.
 */

const TYPING_MS = 300;

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  if (signal.aborted) return;
  openRoot({ model, el, signal }, "wb-chat");
  const problem = h("p", { class: "wb-message wb-chat-problem", role: "alert", hidden: true });
  const tell = (/** @type {string | null} */ text) => {
    problem.textContent = text ?? "";
    problem.hidden = !text;
  };
  const request = requester(model, signal, tell);
  const composer = messageBox(model, request, signal);
  const turns = chatTurns({ model, store, request, signal, leave: () => composer.focus() });
  const settings = settingsPanel(model, signal);
  const inspector = h("div", { class: "wb-chat-side" });
  const said = h("p", { class: "wb-sr", role: "status" });
  el.append(
    settings.bar,
    settings.panel,
    h(
      "div",
      { class: "wb-chat-grid" },
      h("div", { class: "wb-chat-main" }, turns.root, problem, composer.root),
      inspector,
    ),
    said,
  );

  const slots = { ...settings.slots, ...turns.slots, inspector };
  for (const name of /** @type {(keyof typeof slots)[]} */ (Object.keys(slots))) {
    const part = await host.getWidget(model.get(name));
    if (signal.aborted) return;
    await part.render({ el: slots[name], signal });
  }
  const showState = () => {
    el.setAttribute("data-wb-state", model.get("state"));
    const words = chatInWords(model.get("state"), model.get("turns"));
    if (said.textContent !== words) said.textContent = words; // what is set anew is spoken anew
  };
  model.on("change:state", showState);
  model.on("change:turns", showState);
  // A round that could not even begin belongs to no answer.
  store.listen(() => store.problem && tell(store.problem), signal);
  showState();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/**
 * The box that one types in; its button sends, or stops what goes on.
 * @param {Model} model @param {Ask} request @param {AbortSignal} signal
 */
function messageBox(model, request, signal) {
  const id = uniqueId("message");
  const box = h("textarea", { class: "wb-field wb-chat-text", id, rows: 2, placeholder: "Write to the model" });
  const verb = h("span");
  const key = h("kbd");
  const button = h("button", { type: "button", class: "wb-button wb-chat-send" }, verb, key);
  const hint = h("span", { class: "wb-quiet wb-chat-hint" });
  /** @type {string | null} */ let sent = null;
  let timer = 0;

  const isBusy = () => isWorking(model.get("state"));
  const flush = () => {
    window.clearTimeout(timer);
    if (model.get("draft") === box.value) return;
    model.set("draft", box.value);
    model.save_changes();
  };
  const send = () => {
    if (isBusy()) return;
    flush();
    sent = box.value;
    request({ kind: "say", text: box.value, system: model.get("system"), turn: null });
  };
  const stop = () => isBusy() && request({ kind: "stop" });
  const emptyOnceSaid = () => {
    const last = lastAsked(model.get("turns"));
    if (sent === null || last?.text !== sent) return;
    if (box.value === sent) box.value = "";
    sent = null;
    flush();
  };
  const show = () => {
    const busy = isBusy();
    verb.textContent = busy ? "Stop" : "Send";
    key.textContent = busy ? "Esc" : "⏎";
    button.classList.toggle("wb-primary", !busy);
    const waits = model.get("state") === "deciding" ? "A message now declines the open calls." : "";
    hint.textContent = waits || "Shift+Enter: new line";
  };
  box.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(flush, TYPING_MS);
  });
  box.addEventListener("change", flush);
  button.addEventListener("click", () => (isBusy() ? stop() : send()));
  const root = h(
    "div",
    { class: "wb-chat-composer" },
    h("label", { class: "wb-sr", for: id, text: "Message" }),
    box,
    h("div", { class: "wb-row" }, button, hint),
  );
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    // Enter that ends the writing of a character with an input method is no Enter.
    if (event.key === "Enter" && event.target === box && !event.shiftKey && !event.isComposing) send();
    else if (event.key === "Escape") stop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const showDraft = () => {
    if (box.value !== model.get("draft")) box.value = model.get("draft");
  };
  model.on("change:draft", showDraft);
  model.on("change:state", show);
  model.on("change:turns", emptyOnceSaid);
  showDraft();
  show();
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  return { root, focus: () => box.focus() };
}

/**
 * One line that says who answers and how, and behind it what can be set.
 * @param {Model} model @param {AbortSignal} signal
 */
function settingsPanel(model, signal) {
  const panelId = uniqueId("settings");
  const systemId = uniqueId("system");
  const slots = { picker: h("div", { class: "wb-slot-bar" }), controls: h("div", { class: "wb-slot-bar" }) };
  const system = h("textarea", {
    class: "wb-field wb-chat-system",
    id: systemId,
    rows: 2,
    placeholder: "None: the model's own template decides",
  });
  const summary = h("p", { class: "wb-chat-summary wb-quiet" });
  const disclose = h("button", {
    type: "button",
    class: "wb-button wb-ghost",
    "aria-expanded": "false",
    "aria-controls": panelId,
    text: "Settings",
  });
  const panel = h(
    "div",
    { class: "wb-chat-settings", id: panelId, hidden: true },
    slots.picker,
    slots.controls,
    h("div", { class: "wb-bar" }, h("label", { class: "wb-quiet", for: systemId, text: "System prompt" }), system),
  );
  let timer = 0;
  const flush = () => {
    window.clearTimeout(timer);
    if (model.get("system") === system.value) return;
    model.set("system", system.value);
    model.save_changes();
  };
  system.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(flush, TYPING_MS);
  });
  system.addEventListener("change", flush);
  disclose.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    disclose.setAttribute("aria-expanded", String(!panel.hidden));
  });
  const show = () => {
    if (system.value !== model.get("system")) system.value = model.get("system");
    summary.replaceChildren("System: ", h("b", { text: model.get("system") || "none" }));
  };
  model.on("change:system", show);
  show();
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  return {
    slots,
    panel,
    bar: h("div", { class: "wb-bar wb-chat-bar" }, summary, h("span", { class: "wb-spacer" }), disclose),
  };
}

export default { render };
