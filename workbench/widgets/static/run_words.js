// How a run stands and how it went, in words and numbers.

import { fixed, information, visible } from "./format.js";

/**
 * @import { Unit } from "./format.js"
 * @import { PausedBy, Token } from "./run_wire.js"
 */

/** @type {Record<string, string>} */
const STOP_WORDS = { end_of_turn: "end of turn", end_of_message: "end of message", out_of_tokens: "length limit" };
/** @type {Record<string, string>} */
const STATE_WORDS = {
  idle: "ready",
  queued: "waiting for the model",
  running: "running",
  paused: "paused",
  cancelled: "stopped by you",
  failed: "failed",
  finished: "finished",
  unfinished: "not finished when it was saved",
};

/** @param {{state: string, stopReason: string | null, pausedBy: PausedBy | null, unit: Unit}} run */
export function stateInWords({ state, stopReason, pausedBy, unit }) {
  if (state === "paused" && pausedBy) return `paused: ${breakpointInWords(pausedBy, unit)}`;
  const stopped = state === "finished" ? STOP_WORDS[stopReason ?? ""] : undefined;
  return stopped ?? STATE_WORDS[state] ?? state;
}

/** @param {PausedBy} breakpoint @param {Unit} unit */
function breakpointInWords([name, value], unit) {
  if (name === "entropy_above") return `entropy above ${information(value, unit, 2)}`;
  return name === "text" ? `the text “${visible(value)}”` : "a tool call begins";
}

/** Tokens a second, as a number alone. @param {number} tokensPerS */
export function speed(tokensPerS) {
  return fixed(tokensPerS, tokensPerS < 10 ? 1 : 0);
}

/** Inverse geometric mean of the probabilities, null where none is known. @param {Pick<Token, "logprob">[]} tokens */
export function perplexityOf(tokens) {
  const known = tokens.flatMap(({ logprob }) => (logprob === null ? [] : [logprob]));
  return known.length ? Math.exp(-known.reduce((sum, logprob) => sum + logprob, 0) / known.length) : null;
}
