// The chat view: turns above, a message box below. Enter sends; during an answer the same button stops it.

import { requester } from "./asking.js";
import { messageBox } from "./chat_box.js";
import { chatSettings } from "./chat_settings.js";
import { chatTurns } from "./chat_turns.js";
import { chatInWords, isWorking } from "./chat_words.js";
import { contextMeter } from "./context_meter.js";
import { h } from "./dom.js";
import { errorLine } from "./error_line.js";
import { storeOf } from "./feed_store.js";
import { logHeight } from "./log_height.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Detail } from "./answer_detail.js"
 * @import { Ask } from "./asking.js"
 * @import { Settings } from "./chat_settings.js"
 * @import { ChatState, Context, Turn, View } from "./chat_words.js"
 *
 * @typedef {"picker" | "controls" | "feed" | "inspector" | "microscope" | "prompt_view"} Part
 *
 * @typedef {object} Shown
 * @property {Turn[]} turns
 * @property {ChatState} state
 * @property {Detail} detail  the panel that is open below the answer whose tokens are shown
 * @property {View} view  of that answer
 * @property {Context} context
 * @property {boolean} can_undo  whether the previous chat can be restored
 * @property {number} height  of the conversation in pixels, or 0
 * @property {string} draft
 *
 * @typedef {Shown & Settings & Record<Part, string>} State  of the widget model, with references of the parts
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel, each answered by `{kind: "reply", id, error}` with `error` text or null:
 * `{kind: "say", id, text, turn}` (`turn` null, or the index of the message to replace), `{kind: "stop", id}`,
 * `{kind: "decide", id, place, approved, result}`, `{kind: "show", id, run}`, `{kind: "regenerate", id}`,
 * `{kind: "version", id, version, turn}`, `{kind: "new", id}` and `{kind: "undo", id}`.
 */

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  if (signal.aborted) return;
  openRoot({ model, el, signal }, "wb-chat");
  const problem = errorLine("wb-chat-problem");
  const request = requester(model, signal, problem.show);
  const composer = messageBox(model, request, signal, problem.show);
  composer.row.append(contextMeter(model, store, signal));
  const turns = chatTurns({ model, store, request, signal, leave: () => composer.focus() });
  const settings = chatSettings(
    model,
    signal,
    newChat(model, request, () => composer.focus()),
  );
  const inspector = h("div", { class: "wb-chat-side" });
  const said = h("p", { class: "wb-sr", role: "status" });
  const edge = logHeight(model, turns.root, "Height of the conversation");
  el.append(
    settings.bar,
    settings.panel,
    h(
      "div",
      { class: "wb-chat-grid" },
      h("div", { class: "wb-chat-main" }, turns.root, edge, problem.root, composer.root),
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
    if (said.textContent !== words) said.textContent = words; // setting the same text would announce it again
  };
  model.on("change:state", showState);
  model.on("change:turns", showState);
  // An answer that could not start has no turn that could show its error.
  store.listen(() => store.problem && problem.show(store.problem), signal);
  showState();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/**
 * A button that starts a new chat, and then one that restores the previous chat until a message is sent.
 * @param {Model} model @param {Ask} request @param {() => void} leave  focuses the message box
 */
function newChat(model, request, leave) {
  const begin = h("button", { type: "button", class: "wb-button wb-ghost wb-chat-new", text: "New chat" });
  const undo = h("button", { type: "button", class: "wb-button wb-chat-undo", text: "Undo new chat" });
  begin.addEventListener("click", () => {
    request({ kind: "new" });
    leave();
  });
  undo.addEventListener("click", () => {
    request({ kind: "undo" });
    leave();
  });
  const show = () => {
    const canUndo = model.get("can_undo") && model.get("turns").length === 0;
    undo.hidden = !canUndo;
    begin.hidden = canUndo;
    begin.disabled = model.get("turns").length === 0 || isWorking(model.get("state"));
  };
  for (const name of ["turns", "state", "can_undo"]) model.on(`change:${name}`, show);
  show();
  return h("span", { class: "wb-chat-begin" }, begin, undo);
}

export default { render };
