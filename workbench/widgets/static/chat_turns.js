// The turns of a chat: messages, answers as formatted text or, for one of them, as tokens, and calls to decide on.

import { answerDetail } from "./answer_detail.js";
import { callCard } from "./call_card.js";
import { answer } from "./chat_answer.js";
import { isWorking, showsTokens } from "./chat_words.js";
import { h, setChildren } from "./dom.js";
import { markdownView } from "./markdown_view.js";
import { labelledBox, sendKeys } from "./prompt_box.js";
import { PLAIN_LOOK, tokenText } from "./token_text.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Detail } from "./answer_detail.js"
 * @import { Ask } from "./asking.js"
 * @import { AnswerTurn, ChatState, Turn, UserTurn, View } from "./chat_words.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} Context
 * @property {AnyModel<{turns: Turn[], state: ChatState, detail: Detail, view: View}>} model
 * @property {Store} store  store of the feed, which has the tokens of one answer
 * @property {Ask} request
 * @property {AbortSignal} signal
 * @property {() => void} leave  returns the focus to the message box
 */

const NEAR_PX = 32;

/** @param {Context} context */
export function chatTurns(context) {
  const { model, store, signal } = context;
  const list = h("ol", { class: "wb-turns" });
  const empty = h("p", { class: "wb-quiet wb-chat-empty", text: "No messages yet." });
  const root = h(
    "div",
    { class: "wb-chat-log", role: "region", tabindex: 0, "aria-label": "Conversation" },
    empty,
    list,
  );
  // Control tokens at the end of a turn add nothing to what the turns show.
  const tokens = tokenText(store, signal, { label: "Answer", look: { ...PLAIN_LOOK, special: false } });
  tokens.root.setAttribute("data-wb-control", "text");
  const live = h("div", { class: "wb-calls" });
  const detail = answerDetail(model);
  const readings = readingViews(store);
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
    const refocus = focusKeeper(list);
    const busy = isWorking(model.get("state"));
    const look = [model.get("view"), store.active, busy];
    shown = turns.map((turn, i) => {
      const isFollowed = turn.role === "assistant" && turn.run === store.run;
      const isLast = i === turns.length - 1;
      const isEdited = turn.role === "user" && turn.turn === edited;
      const key = JSON.stringify(turn.role === "user" ? [turn, isEdited, busy] : [turn, isFollowed, isLast, look]);
      if (before[i]?.key === key) return before[i];
      if (turn.role === "user") return { key, item: userTurn(turn, isEdited, edit, context) };
      const parts = { tokens: tokens.root, live, detail: detail.root, reading: readings.of(turn, isFollowed) };
      return { key, item: answer(turn, { isFollowed, isLast, ...parts }, context) };
    });
    readings.keep(turns);
    setChildren(
      list,
      shown.map(({ item }) => item),
    );
    if (edited === null && !refocus()) context.leave();
    empty.hidden = turns.length > 0;
    showLive();
  };
  const showLive = () => {
    // Calls in progress come from the feed; after the end of the answer they are part of the turns.
    const begun = store.active ? store.calls : [];
    live.replaceChildren(...begun.map((call) => callCard({ ...call, arguments: call.args, state: null }, context)));
    const followed = model.get("turns").find((turn) => turn.role === "assistant" && turn.run === store.run);
    if (followed?.role === "assistant" && !showsTokens(model.get("view"), store.active)) readings.of(followed, true);
    detail.calls(store.calls.length > 0 || (followed?.role === "assistant" && followed.calls.length > 0));
    if (follows) root.scrollTop = root.scrollHeight;
  };
  // With a token selected, the tokens stay in view when the answer ends.
  const stayWithTokens = () => {
    if (!store.selected.length || model.get("view") === "tokens") return;
    model.set("view", "tokens");
    model.save_changes();
  };
  let last = [store.run, store.active];
  store.listen((change) => {
    if (store.run !== last[0] || store.active !== last[1]) {
      last = [store.run, store.active];
      show();
    } else if (change.kind === "selected") stayWithTokens();
    else if (change.kind !== "alternatives") showLive();
  }, signal);
  root.addEventListener("scroll", () => {
    follows = root.scrollHeight - root.scrollTop - root.clientHeight < NEAR_PX;
  });
  model.on("change:turns", () => {
    edited = null;
    show();
  });
  model.on("change:state", show);
  model.on("change:view", show);
  show();
  return { root, slots: detail.slots };
}

/**
 * The formatted texts of the answers, each drawn once; that of the feed's answer also while it grows.
 * @param {Store} store
 */
function readingViews(store) {
  /** @type {Map<string, {text: string, view: ReturnType<typeof markdownView>}>} */ const drawn = new Map();
  return {
    /** @param {AnswerTurn} turn @param {boolean} isFollowed */
    of(turn, isFollowed) {
      const known = drawn.get(turn.run) ?? { text: "", view: markdownView() };
      drawn.set(turn.run, known);
      const text = isFollowed && (store.active || !turn.text) ? storeText(store) : turn.text;
      if (text !== known.text) known.view.show(text);
      known.text = text;
      return known.view.root;
    },
    /** @param {Turn[]} turns  whose texts are still needed */
    keep(turns) {
      const runs = new Set(turns.map((turn) => (turn.role === "assistant" ? turn.run : null)));
      for (const run of drawn.keys()) if (!runs.has(run)) drawn.delete(run);
    },
  };
}

/** @param {Store} store */
function storeText(store) {
  return store.tokens.length ? store.tokens.map((token) => (token.special ? "" : token.piece)).join("") : store.text;
}

/**
 * Remember the control that has the focus. The function returned focuses the same control in the new items, and returns
 * whether the focus is in the list or was never there.
 * @param {HTMLElement} list
 */
function focusKeeper(list) {
  const focused = document.activeElement;
  if (!focused || !list.contains(focused)) return () => true;
  const [name, label] = ["data-wb-control", "aria-label"].map((one) => focused.getAttribute(one));
  const at = [...list.children].findIndex((item) => item.contains(focused));
  return () => {
    if (list.contains(document.activeElement)) return true;
    const places = [list.children[at], list.lastElementChild];
    const found = places.flatMap((item) => [...(item?.querySelectorAll(`[data-wb-control="${name}"]`) ?? [])]);
    const usable = found.filter((one) => !(/** @type {HTMLButtonElement} */ (one).disabled));
    const isSame = (/** @type {Element} */ one) =>
      /** @type {HTMLInputElement} */ (one).checked || (label !== null && one.getAttribute("aria-label") === label);
    const target = usable.find(isSame) ?? usable[0];
    /** @type {HTMLElement | undefined} */ (target)?.focus({ preventScroll: true });
    return name !== null && target !== undefined;
  };
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
    text: "PointEdit",
    disabled: isWorking(context.model.get("state")),
    "aria-label": `PointEdit: ${turn.text.slice(0, 40)}`,
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
 * An editor for an earlier message; sending it removes later messages.
 * @param {UserTurn} turn @param {() => void} cancel @param {Context} context
 */
function editor(turn, cancel, { request }) {
  const { box, label } = labelledBox("PointEdit the message", { class: "wb-chat-text wb-chat-editor" });
  box.value = turn.text;
  const send = () => request({ kind: "say", text: box.value, turn: turn.turn });
  sendKeys(box, box, send, cancel);
  const sendButton = h("button", {
    type: "button",
    class: "wb-button wb-primary",
    text: "Send again",
    on: { click: send },
  });
  const cancelButton = h("button", { type: "button", class: "wb-button", text: "Cancel", on: { click: cancel } });
  const hint = h("span", { class: "wb-quiet wb-chat-hint", text: "Later messages will be removed." });
  return [label, box, h("div", { class: "wb-row" }, sendButton, cancelButton, hint)];
}
