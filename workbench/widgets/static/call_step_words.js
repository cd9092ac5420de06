// The steps of tool calls in words: each step, and a summary of all.

import { percent, tokenCount, visible } from "./format.js";

/**
 * @typedef {"text" | "started" | "in_progress" | "success" | "failure"} ParseState
 *
 * @typedef {object} Step
 * @property {string} label
 * @property {number | null} start  probability that a call begins here; null inside a call, and if unknown
 * @property {boolean} isExact  false if `start` is a lower bound
 * @property {ParseState} state
 * @property {number} removed  probability mass that the schema removed
 * @property {boolean} isForced
 *
 * @typedef {[string, number | null, boolean, ParseState, number, boolean]} WireStep
 */

/** @param {WireStep} wire @returns {Step} */
export function stepOf([label, start, isExact, state, removed, isForced]) {
  return { label, start, isExact, state, removed, isForced };
}

/** @param {Step[]} steps */
export function summary(steps) {
  const count = (/** @type {ParseState} */ state) => steps.filter((step) => step.state === state).length;
  const broken = count("failure") ? `, ${count("failure")} that could not be parsed` : "";
  const calls = `${count("success")} complete call${count("success") === 1 ? "" : "s"}${broken}`;
  const forced = steps.filter((step) => step.isForced).length;
  return `${tokenCount(steps.length)}: ${calls}. The schema left no choice at ${forced} of them.`;
}

/** @param {Step} step @param {number} position */
export function stepInWords(step, position) {
  const parts = [
    `Token ${position + 1}, ${visible(step.label)}`,
    step.state === "text" ? "text" : `call ${step.state.replace("_", " ")}`,
    step.start !== null && `probability of a call ${startInWords(step)}`,
    step.removed > 0 && `the schema removed ${percent(step.removed)}`,
    step.isForced && "and left no choice",
  ];
  return `${parts.filter(Boolean).join(", ")}.`;
}

/** @param {Pick<Step, "start" | "isExact">} step */
export function startInWords({ start, isExact }) {
  if (start === null) return "–";
  return isExact ? percent(start) : `≥ ${percent(start)}`;
}

/** @param {Pick<Step, "removed" | "isForced">} step */
export function removedInWords({ removed, isForced }) {
  return `${removed > 0 ? percent(removed) : "–"}${isForced ? ", no choice left" : ""}`;
}
