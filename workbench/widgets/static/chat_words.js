// The types of a chat's turns, and descriptions of them.

import { fixed, tokenCount } from "./format.js";

/**
 * @import { Call } from "./call_card.js"
 *
 * @typedef {"idle" | "answering" | "deciding" | "calling"} ChatState
 *
 * @typedef {object} UserTurn
 * @property {"user"} role
 * @property {string} text
 * @property {number} turn  its index among the turns
 *
 * @typedef {object} AnswerTurn
 * @property {"assistant"} role
 * @property {number} turn  index of the user message that it answers
 * @property {string} text
 * @property {string} run
 * @property {string} model
 * @property {string} state
 * @property {string | null} stop_reason
 * @property {number} generated
 * @property {number | null} tokens_per_s
 * @property {string[]} notes
 * @property {string | null} error
 * @property {string | null} refused_by  the shield that refused the message or the answer
 * @property {Call[]} calls
 * @property {[number, number] | null} version  number and count, at the last answer to a message with several versions
 *
 * @typedef {{used: number, length: number | null}} Context  tokens of the conversation, and the model's context length
 *
 * @typedef {"auto" | "reading" | "tokens"} View  of an answer; auto shows its tokens until it ends
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

/** Return whether the model or a function is running. @param {ChatState} state */
export function isWorking(state) {
  return state === "answering" || state === "calling";
}

/** Return the last user message. @param {Turn[]} turns */
export function lastAsked(turns) {
  return turns.findLast((turn) => turn.role === "user");
}

/** Return the length and the speed of an answer, and why it ended. @param {AnswerTurn} turn */
export function answerFacts({ state, stop_reason, generated, tokens_per_s, refused_by }) {
  if (state === "queued" || state === "running") return "";
  const broken = refused_by ? `refused by ${refused_by}` : BROKEN_WORDS[state];
  const end = state === "finished" ? CUT_WORDS[stop_reason ?? ""] : broken;
  const speed = tokens_per_s === null ? null : `${fixed(tokens_per_s, 0)} tokens/s`;
  return [tokenCount(generated), speed, end].filter(Boolean).join(" · ");
}

/** Return the announcement of a chat's state for screen readers. @param {ChatState} state @param {Turn[]} turns */
export function chatInWords(state, turns) {
  const last = turns.at(-1);
  const answer = last?.role === "assistant" ? last : null;
  const open = (answer?.calls ?? []).filter((call) => call.state === "waiting").map((call) => call.name);
  if (state === "answering") return "The model is answering.";
  if (state === "deciding") return `The model wants to call ${open.join(", ")}. Approve or decline.`;
  if (state === "calling") return "The function is running.";
  if (!answer) return "";
  const end = answer.refused_by ? `Refused by the shield ${answer.refused_by}` : SPOKEN_ENDS[answer.state];
  return `${end ?? ""}, ${tokenCount(answer.generated)}.`;
}

/** Return whether an answer is drawn as tokens instead of formatted text. @param {View} view @param {boolean} isWritten */
export function showsTokens(view, isWritten) {
  return view === "tokens" || (view === "auto" && isWritten);
}

/**
 * Return how much of the model's context a conversation takes; empty before the first answer.
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
