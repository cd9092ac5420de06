// One answer of a chat: a line of facts and buttons, then its formatted text or its tokens, and its calls.

import { CALLS_TEXT } from "./answer_detail.js";
import { callCard } from "./call_card.js";
import { answerFacts, isWorking, showsTokens } from "./chat_words.js";
import { copyButton, h, segments } from "./dom.js";

/**
 * @import { AnswerTurn, Turn, View } from "./chat_words.js"
 * @import { Context } from "./chat_turns.js"
 *
 * @typedef {object} Parts  of an answer, and how it is drawn
 * @property {boolean} isFollowed  whether the feed has its tokens
 * @property {boolean} isLast
 * @property {HTMLElement} reading  its formatted text
 * @property {HTMLElement} tokens  the tokens of the feed
 * @property {HTMLElement} live  calls in progress
 * @property {HTMLElement} detail
 */

/** @param {AnswerTurn} turn @param {Parts} parts @param {Context} context */
export function answer(turn, { isFollowed, isLast, reading, tokens, live, detail }, context) {
  const { model, store } = context;
  const busy = isWorking(model.get("state"));
  const isWritten = isFollowed && store.active;
  // The text of a failed answer is not among the messages, but the feed has its tokens.
  const hasTokens = isFollowed && (turn.state === "failed" || showsTokens(model.get("view"), isWritten));
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
      turn.version ? versions(turn, turn.version, busy, context) : null,
      turn.state !== "failed" && (isFollowed || !busy) && viewChoice(turn, hasTokens, isFollowed, context),
      turn.text ? copyOf(turn) : null,
      !busy && isLast ? again(context) : null,
    ),
    hasTokens ? tokens : reading,
    turn.error ? h("p", { class: "wb-message", text: turn.error }) : null,
    h("div", { class: "wb-calls" }, ...turn.calls.map((call) => callCard(call, context))),
    isFollowed ? live : null,
    isFollowed ? detail : null,
    !isFollowed && !busy && turn.calls.length ? h("div", { class: "wb-detail-bar" }, howCalled(turn, context)) : null,
    ...turn.notes.map((note) => h("p", { class: "wb-quiet wb-note", text: note })),
  );
}

/** The choice between formatted text and tokens; the feed has the tokens of one answer at a time. @param {AnswerTurn} turn @param {boolean} hasTokens @param {boolean} isFollowed @param {Context} context */
function viewChoice(turn, hasTokens, isFollowed, { model, store, request }) {
  const set = (/** @type {View} */ view) => {
    model.set("view", view);
    model.save_changes();
  };
  const choice = segments({
    label: "Answer view",
    options: [
      { value: "reading", text: "Reading", title: "Formatted text" },
      { value: "tokens", text: "Tokens", title: "Token by token, each with its probability" },
    ],
    onChange: (value) => {
      if (value === "tokens") {
        if (!isFollowed) request({ kind: "show", run: turn.run });
        set("tokens");
      } else set(isFollowed && store.active ? "reading" : "auto");
    },
  });
  choice.set(hasTokens ? "tokens" : "reading");
  for (const input of choice.root.querySelectorAll("input")) {
    input.setAttribute("data-wb-control", "view");
    input.toggleAttribute("data-wb-local", isFollowed); // a saved view has only the tokens of this answer
  }
  choice.root.classList.add("wb-segments-small");
  return choice.root;
}

/** The number of the version, with buttons for the previous and the next. @param {AnswerTurn} turn @param {[number, number]} version @param {boolean} busy @param {Context} context */
function versions(turn, [number, count], busy, { request }) {
  const step = (/** @type {string} */ text, /** @type {string} */ name, /** @type {number} */ to) =>
    h("button", {
      type: "button",
      class: "wb-button wb-ghost wb-small",
      text,
      "aria-label": `${name} version`,
      "data-wb-control": "version",
      disabled: busy || to < 1 || to > count,
      on: { click: () => request({ kind: "version", version: to, turn: turn.turn }) },
    });
  return h(
    "span",
    { class: "wb-versions", role: "group", "aria-label": "Versions of the answer" },
    step("‹", "Previous", number - 1),
    h("span", { class: "wb-number", text: `${number} of ${count}` }),
    step("›", "Next", number + 1),
  );
}

/** @param {AnswerTurn} turn */
function copyOf(turn) {
  const copy = copyButton("Copy", () => turn.text);
  const button = copy.querySelector("button");
  button?.classList.add("wb-small");
  button?.setAttribute("data-wb-control", "copy");
  return copy;
}

/** @param {Context} context */
function again({ request }) {
  return h("button", {
    type: "button",
    class: "wb-button wb-ghost wb-small",
    text: "Regenerate",
    title: "Answer again; this answer stays available as another version",
    on: { click: () => request({ kind: "regenerate" }) },
  });
}

/** @param {AnswerTurn} turn @param {Context} context */
function howCalled(turn, { model, request }) {
  const button = h("button", {
    type: "button",
    class: "wb-button wb-toggle",
    text: CALLS_TEXT,
    "aria-expanded": "false",
  });
  button.addEventListener("click", () => {
    model.set("detail", "calls");
    model.save_changes();
    request({ kind: "show", run: turn.run });
  });
  return button;
}
