// How a run stands and how it went, in words and numbers.

import { fixed } from "./format.js";

/** @import { Token } from "./run_wire.js" */

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

/** @param {{state: string, stopReason: string | null, pausedBy: string | null}} run */
export function stateInWords({ state, stopReason, pausedBy }) {
  if (state === "paused" && pausedBy) return `paused: ${pausedBy}`;
  const stopped = state === "finished" ? STOP_WORDS[stopReason ?? ""] : undefined;
  return stopped ?? STATE_WORDS[state] ?? state;
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
