// The turns of a chat: what was said, the tokens of one answer, and calls that wait for a person.

import { CALLS_TEXT, answerDetail } from "./answer_detail.js";
import { callCard } from "./call_card.js";
import { answerFacts, isWorking, lastAsked } from "./chat_words.js";
import { h, uniqueId } from "./dom.js";
import { PLAIN_LOOK, tokenText } from "./token_text.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Detail } from "./answer_detail.js"
 * @import { Ask } from "./asking.js"
 * @import { AnswerTurn, ChatState, Turn, UserTurn } from "./chat_words.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} Context
 * @property {AnyModel<{turns: Turn[], state: ChatState, system: string, detail: Detail}>} model
 * @property {Store} store  of the feed, which tells of one answer's tokens
 * @property {Ask} request
 * @property {AbortSignal} signal
 * @property {() => void} leave  gives the focus back to the message box
 */

const NEAR_PX = 32;

/** @param {Context} context */
export function chatTurns(context) {
  const { model, store, signal } = context;
  const list = h("ol", { class: "wb-turns" });
  const empty = h("p", { class: "wb-quiet wb-chat-empty", text: "Nothing has been said yet." });
  const root = h(
    "div",
    { class: "wb-chat-log", role: "region", tabindex: 0, "aria-label": "Conversation" },
    empty,
    list,
  );
  // The marks at the end of a turn say nothing that the turns do not.
  const tokens = tokenText(store, signal, { label: "Answer", look: { ...PLAIN_LOOK, special: false } });
  const live = h("div", { class: "wb-calls" });
  const detail = answerDetail(model);
  /** @type {{key: string, item: HTMLElement}[]} */ let shown = [];
  /** @type {number | null} */ let edited = null;
  let follows = true;

  const edit = (/** @type {number | null} */ turn) => {
    edited = turn;
    show();
    /** @type {HTMLElement | null} */ (list.querySelector(".wb-chat-editor"))?.focus();
  };
  const show = () => {
    const turns = model.get("turns");
    const before = shown;
    shown = turns.map((turn, i) => {
      const isTold = turn.role === "assistant" && turn.run === store.run;
      const isLast = i === turns.length - 1;
      const isEdited = turn.role === "user" && turn.turn === edited;
      const key = JSON.stringify([turn, isTold, isLast, isEdited, isWorking(model.get("state"))]);
      if (before[i]?.key === key) return before[i];
      const item =
        turn.role === "user"
          ? userTurn(turn, isEdited, edit, context)
          : answer(turn, { isTold, isLast, turns, tokens: tokens.root, live, detail: detail.root, context });
      return { key, item };
    });
    const hadFocus = list.contains(document.activeElement) && edited === null;
    place(
      list,
      shown.map(({ item }) => item),
    );
    if (hadFocus && !list.contains(document.activeElement)) context.leave();
    empty.hidden = turns.length > 0;
    showLive();
  };
  const showLive = () => {
    // What is still being written is told by the feed; once it has ended, by the turns.
    const begun = store.active ? store.calls : [];
    live.replaceChildren(...begun.map((call) => callCard({ ...call, arguments: call.args, decision: null }, context)));
    const told = model.get("turns").find((turn) => turn.role === "assistant" && turn.run === store.run);
    detail.calls(store.calls.length > 0 || (told?.role === "assistant" && told.calls.length > 0));
    if (follows) root.scrollTop = root.scrollHeight;
  };
  let lastRun = store.run;
  store.listen((change) => {
    if (store.run !== lastRun) {
      lastRun = store.run;
      show();
    } else if (change.kind !== "selected" && change.kind !== "alternatives") showLive();
  }, signal);
  root.addEventListener("scroll", () => {
    follows = root.scrollHeight - root.scrollTop - root.clientHeight < NEAR_PX;
  });
  model.on("change:turns", () => {
    edited = null;
    show();
  });
  model.on("change:state", show);
  show();
  return { root, slots: detail.slots };
}

/**
 * Put the items into the list; those that are there already stay, so that nothing loses its focus.
 * @param {HTMLElement} list @param {HTMLElement[]} items
 */
function place(list, items) {
  items.forEach((item, i) => list.children[i] !== item && list.insertBefore(item, list.children[i] ?? null));
  while (list.children.length > items.length) list.lastElementChild?.remove();
}

/**
 * @param {UserTurn} turn @param {boolean} isEdited @param {(turn: number | null) => void} edit @param {Context} context
 */
function userTurn(turn, isEdited, edit, context) {
  const item = h("li", { class: "wb-turn wb-turn-user", "data-wb-role": "user" });
  if (isEdited) {
    item.append(...editor(turn, () => edit(null), context));
    return item;
  }
  const button = h("button", {
    type: "button",
    class: "wb-button wb-ghost wb-small",
    text: "Edit",
    disabled: isWorking(context.model.get("state")),
    "aria-label": `Edit: ${turn.text.slice(0, 40)}`,
  });
  button.addEventListener("click", () => edit(turn.turn));
  item.append(
    h(
      "div",
      { class: "wb-turn-head" },
      h("span", { class: "wb-speaker", text: "You" }),
      h("span", { class: "wb-spacer" }),
      button,
    ),
    h("div", { class: "wb-said", dir: "auto", text: turn.text }),
  );
  return item;
}

/**
 * An earlier turn, to be said anew: what came after it is forgotten.
 * @param {UserTurn} turn @param {() => void} cancel @param {Context} context
 */
function editor(turn, cancel, { model, request }) {
  const id = uniqueId("edit");
  const box = h("textarea", { class: "wb-field wb-chat-text wb-chat-editor", id, rows: 2 });
  box.value = turn.text;
  const send = () => request({ kind: "say", text: box.value, system: model.get("system"), turn: turn.turn });
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
    else if (event.key === "Escape") cancel();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const sendButton = h("button", {
    type: "button",
    class: "wb-button wb-primary",
    text: "Send again",
    on: { click: send },
  });
  const cancelButton = h("button", { type: "button", class: "wb-button", text: "Cancel", on: { click: cancel } });
  const hint = h("span", { class: "wb-quiet wb-chat-hint", text: "What came after it is forgotten." });
  return [
    h("label", { class: "wb-sr", for: id, text: "Edit the message" }),
    box,
    h("div", { class: "wb-row" }, sendButton, cancelButton, hint),
  ];
}

/**
 * @typedef {object} Parts  of the log that an answer may hold
 * @property {HTMLElement} tokens
 * @property {HTMLElement} live
 * @property {HTMLElement} detail
 *
 * @param {AnswerTurn} turn
 * @param {Parts & {isTold: boolean, isLast: boolean, turns: Turn[], context: Context}} how
 */
function answer(turn, { isTold, isLast, turns, tokens, live, detail, context }) {
  const { model, request } = context;
  const asked = lastAsked(turns);
  const again = h("button", { type: "button", class: "wb-button wb-ghost wb-small", text: "Regenerate" });
  again.addEventListener("click", () =>
    request({ kind: "say", text: asked?.text, system: model.get("system"), turn: asked?.turn }),
  );
  const tell = h("button", {
    type: "button",
    class: "wb-button wb-ghost wb-small",
    text: "Tokens",
    title: "Show the tokens of this answer",
  });
  tell.addEventListener("click", () => request({ kind: "show", run: turn.run }));
  const how = h("button", { type: "button", class: "wb-button wb-toggle", text: CALLS_TEXT, "aria-expanded": "false" });
  how.addEventListener("click", () => {
    model.set("detail", "calls");
    model.save_changes();
    request({ kind: "show", run: turn.run });
  });
  const busy = isWorking(model.get("state"));
  return h(
    "li",
    {
      class: "wb-turn wb-turn-answer",
      "data-wb-role": "assistant",
      "data-wb-run": turn.run,
      "data-wb-state": turn.state,
    },
    h(
      "div",
      { class: "wb-turn-head" },
      h("span", { class: "wb-speaker", text: turn.model }),
      h("span", { class: "wb-quiet wb-number", text: answerFacts(turn) }),
      h("span", { class: "wb-spacer" }),
      !busy && !isTold && tell,
      !busy && isLast && asked !== undefined && again,
    ),
    isTold ? tokens : h("div", { class: "wb-said wb-said-plain", dir: "auto", text: turn.text }),
    turn.error ? h("p", { class: "wb-message", text: turn.error }) : null,
    h("div", { class: "wb-calls" }, ...turn.calls.map((call) => callCard(call, context))),
    isTold ? live : null,
    isTold ? detail : null,
    !isTold && !busy && turn.calls.length ? h("div", { class: "wb-detail-bar" }, how) : null,
    ...turn.notes.map((note) => h("p", { class: "wb-quiet wb-note", text: note })),
  );
}
