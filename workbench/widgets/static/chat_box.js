// The box that one types a message in; its button sends, or stops what goes on.

import { isWorking, lastAsked } from "./chat_words.js";
import { h, uniqueId } from "./dom.js";
import { keepText } from "./text_box.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { ChatState, Turn } from "./chat_words.js"
 *
 * @typedef {AnyModel<{turns: Turn[], state: ChatState, system: string, draft: string}>} Model
 */

/**
 * @param {Model} model @param {Ask} request @param {AbortSignal} signal
 * @param {(problem: string | null) => void} tell
 */
export function messageBox(model, request, signal, tell) {
  const id = uniqueId("message");
  const box = h("textarea", { class: "wb-field wb-chat-text", id, rows: 2, placeholder: "Message the model" });
  const verb = h("span");
  const key = h("kbd");
  const button = h("button", { type: "button", class: "wb-button wb-chat-send" }, verb, key);
  const hint = h("span", { class: "wb-quiet wb-chat-hint" });
  /** @type {string | null} */ let sent = null;
  let isMissed = false;

  const isBusy = () => isWorking(model.get("state"));
  const flush = keepText(box, model, "draft", signal);
  const send = () => {
    if (isBusy()) return;
    isMissed = !box.value.trim();
    if (isMissed) return tell("Write a message first.");
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
    const waits = model.get("state") === "deciding" ? "Sending a message declines the waiting calls." : "";
    hint.textContent = waits || "Shift+Enter for a new line";
  };
  box.addEventListener("input", () => {
    if (isMissed) tell(null);
    isMissed = false;
  });
  button.addEventListener("click", () => (isBusy() ? stop() : send()));
  const row = h("div", { class: "wb-row" }, button, hint);
  const root = h(
    "div",
    { class: "wb-chat-composer" },
    h("label", { class: "wb-sr", for: id, text: "Message" }),
    box,
    row,
  );
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    // Enter that ends the writing of a character with an input method is no Enter.
    if (event.key === "Enter" && event.target === box && !event.shiftKey && !event.isComposing) send();
    else if (event.key === "Escape") stop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:state", show);
  model.on("change:turns", emptyOnceSaid);
  show();
  return { root, row, focus: () => box.focus() };
}
