// The turns of a chat as data, and what is said of them.

import { fixed, tokenCount } from "./format.js";

/**
 * @import { Call } from "./call_card.js"
 *
 * @typedef {"idle" | "answering" | "deciding" | "calling"} ChatState
 *
 * @typedef {object} UserTurn
 * @property {"user"} role
 * @property {string} text
 * @property {number} turn  its place among the messages
 *
 * @typedef {object} AnswerTurn
 * @property {"assistant"} role
 * @property {number} turn  the place of the user's turn that it answers
 * @property {string} text
 * @property {string} run
 * @property {string} model
 * @property {string} state
 * @property {string | null} stop_reason
 * @property {number} generated
 * @property {number | null} tokens_per_s
 * @property {string[]} notes
 * @property {string | null} error
 * @property {Call[]} calls
 * @property {[number, number] | null} version  which one of how many, at the last answer to a turn with several
 *
 * @typedef {{used: number, length: number | null}} Context  tokens of the conversation, and those that the model takes
 *
 * @typedef {"auto" | "reading" | "tokens"} View  of an answer; auto: its tokens while it is written
 *
 * @typedef {UserTurn | AnswerTurn} Turn
 */

/** @type {Record<string, string>} */
const CUT_WORDS = { out_of_tokens: "length limit" };
/** @type {Record<string, string>} */
const BROKEN_WORDS = { cancelled: "stopped by you", failed: "failed" };
/** @type {Record<string, string>} */
const SPOKEN_ENDS = { finished: "Answer finished", cancelled: "Stopped by you", failed: "The answer failed" };
const TIGHT_SHARE = 0.8;

/** Whether the model or a function is at work. @param {ChatState} state */
export function isWorking(state) {
  return state === "answering" || state === "calling";
}

/** What was asked last. @param {Turn[]} turns */
export function lastAsked(turns) {
  return turns.findLast((turn) => turn.role === "user");
}

/** How long an answer is, how fast it came, and why it ended. @param {AnswerTurn} turn */
export function answerFacts({ state, stop_reason, generated, tokens_per_s }) {
  if (state === "queued" || state === "running") return "";
  const end = state === "finished" ? CUT_WORDS[stop_reason ?? ""] : BROKEN_WORDS[state];
  const speed = tokens_per_s === null ? null : `${fixed(tokens_per_s, 0)} tokens/s`;
  return [tokenCount(generated), speed, end].filter(Boolean).join(" · ");
}

/** What is spoken of a chat's state. @param {ChatState} state @param {Turn[]} turns */
export function chatInWords(state, turns) {
  const last = turns.at(-1);
  const answer = last?.role === "assistant" ? last : null;
  const open = (answer?.calls ?? []).filter((call) => call.state === "waiting").map((call) => call.name);
  if (state === "answering") return "The model is answering.";
  if (state === "deciding") return `The model wants to call ${open.join(", ")}. Approve or decline.`;
  if (state === "calling") return "The function is running.";
  return answer ? `${SPOKEN_ENDS[answer.state] ?? ""}, ${tokenCount(answer.generated)}.` : "";
}

/** Whether the tokens of an answer are drawn, and not its formatted text. @param {View} view @param {boolean} isWritten */
export function showsTokens(view, isWritten) {
  return view === "tokens" || (view === "auto" && isWritten);
}

/**
 * How much of the model's context a conversation takes; empty before the first answer.
 * @param {Context} context @returns {{text: string, isTight: boolean}}
 */
export function contextInWords({ used, length }) {
  if (!used) return { text: "", isTight: false };
  if (length === null) return { text: `${count(used)} tokens`, isTight: false };
  const isTight = used >= TIGHT_SHARE * length;
  const left = count(Math.max(0, length - used));
  const warning = isTight ? `. Only ${left} left` : "";
  return { text: `${count(used)} of ${count(length)} tokens${warning}`, isTight };
}

/** @param {number} value */
function count(value) {
  return value.toLocaleString("en-US");
}
