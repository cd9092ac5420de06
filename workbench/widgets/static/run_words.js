// Descriptions of a run's state, progress and result.

import { byteSize, fixed, information, visible } from "./format.js";

/**
 * @import { Unit } from "./format.js"
 * @import { PausedBy, Progress, Token } from "./run_wire.js"
 */

/** @type {Record<string, string>} */
const STOP_WORDS = { end_of_turn: "end of turn", end_of_message: "end of message", out_of_tokens: "length limit" };
/** @type {Record<string, string>} */
const RUN_STATES = {
  idle: "ready",
  queued: "waiting for the model",
  running: "running",
  paused: "paused",
  cancelled: "stopped by you",
  failed: "failed",
  finished: "finished",
  unfinished: "not finished when it was saved",
};

/** @type {Record<string, string>} */
const STAGES = { loading: "loading the model", compiling: "compiling the engine" };

/**
 * @param {{
 *   state: string, stopReason: string | null, pausedBy: PausedBy | null, unit: Unit, progress?: Progress | null,
 *   reads?: boolean,
 * }} run
 */
export function stateInWords({ state, stopReason, pausedBy, unit, progress, reads }) {
  if (state === "running" && progress) return STAGES[progress.stage] ?? `reading the ${reads ? "text" : "prompt"}`;
  if (state === "paused" && pausedBy) return `paused: ${breakpointInWords(pausedBy, unit)}`;
  const stopped = state === "finished" ? STOP_WORDS[stopReason ?? ""] : undefined;
  return stopped ?? RUN_STATES[state] ?? state;
}

/**
 * Return a description of the progress before the first token.
 * @param {{progress: Progress | null, model: string | null}} run @param {string} what  is read @param {number} nowMs
 */
export function progressInWords({ progress, model }, what, nowMs) {
  if (!progress) return "Waiting for the model …";
  const count = (/** @type {number | null} */ tokens) => (tokens ?? 0).toLocaleString("en-US");
  const { stage, done, total, sinceMs } = progress;
  const seconds = Math.floor((nowMs - sinceMs) / 1000);
  const elapsed = seconds >= 1 ? ` ${seconds} s` : "";
  if (stage === "compiling") return `Compiling the engine for this processor (a minute or two, once) …${elapsed}`;
  if (stage === "loading") {
    const size = total === null ? "" : ` (about ${byteSize(total)} of memory)`;
    return `Loading ${model ?? "the model"}${size} …${elapsed}`;
  }
  return done
    ? `Reading the ${what}: ${count(done)} of ${count(total)} tokens …`
    : `Reading the ${what} (${count(total)} tokens) …`;
}

/** @param {PausedBy} breakpoint @param {Unit} unit */
function breakpointInWords([name, value], unit) {
  if (name === "entropy_above") return `entropy above ${information(value, unit, 2)}`;
  return name === "text" ? `the text “${visible(value)}”` : "a tool call begins";
}

/** Return a speed in tokens per second, without the unit. @param {number} tokensPerS */
export function speed(tokensPerS) {
  return fixed(tokensPerS, tokensPerS < 10 ? 1 : 0);
}

/** Return the inverse geometric mean of the probabilities; null if none is known. @param {Pick<Token, "logprob">[]} tokens */
export function perplexityOf(tokens) {
  const known = tokens.flatMap(({ logprob }) => (logprob === null ? [] : [logprob]));
  return known.length ? Math.exp(-known.reduce((sum, logprob) => sum + logprob, 0) / known.length) : null;
}
