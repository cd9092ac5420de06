// The message box with a button that sends the message, or stops the answer in progress.

import { isWorking, lastAsked } from "./chat_words.js";
import { h } from "./dom.js";
import { sendKeys, traitBox } from "./prompt_box.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { ChatState, Turn } from "./chat_words.js"
 *
 * @typedef {AnyModel<{turns: Turn[], state: ChatState, draft: string}>} Model
 */

/**
 * @param {Model} model @param {Ask} request @param {AbortSignal} signal
 * @param {(problem: string | null) => void} showProblem
 */
export function messageBox(model, request, signal, showProblem) {
  const { box, label, flush } = traitBox(model, "draft", signal, {
    text: "Message",
    class: "wb-chat-text",
    placeholder: "Message the model",
  });
  const verb = h("span");
  const key = h("kbd");
  const button = h("button", { type: "button", class: "wb-button wb-chat-send" }, verb, key);
  const hint = h("span", { class: "wb-quiet wb-chat-hint" });
  /** @type {string | null} */ let sent = null;
  let isMissed = false;

  const isBusy = () => isWorking(model.get("state"));
  const send = () => {
    if (isBusy()) return;
    isMissed = !box.value.trim();
    if (isMissed) return showProblem("Write a message first.");
    flush();
    sent = box.value;
    request({ kind: "say", text: box.value, turn: null });
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
    if (isMissed) showProblem(null);
    isMissed = false;
  });
  button.addEventListener("click", () => (isBusy() ? stop() : send()));
  const row = h("div", { class: "wb-row" }, button, hint);
  const root = h("div", { class: "wb-chat-composer" }, label, box, row);
  sendKeys(root, box, send, stop);
  model.on("change:state", show);
  model.on("change:turns", emptyOnceSaid);
  show();
  return { root, row, focus: () => box.focus() };
}
