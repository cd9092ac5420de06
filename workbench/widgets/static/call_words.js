// One tool call in words: its parse status and its state.

/**
 * @typedef {"started" | "in_progress" | "success" | "failure"} ParseState  as the protocol names them
 * @typedef {"waiting" | "running" | "ran" | "declined" | "failed" | "stopped"} CallState
 *
 * @typedef {{text: string, isReached: boolean, isCurrent: boolean}} Step
 */

/** @type {Record<CallState, string>} */
const STATE_WORDS = {
  waiting: "waiting for you",
  running: "running",
  ran: "ran",
  declined: "declined",
  failed: "failed",
  stopped: "stopped",
};
/** Titles of results. @type {Record<CallState, string>} */
const RESULT_WORDS = {
  waiting: "Result",
  running: "Result",
  ran: "Result",
  declined: "Not run. Message to the model",
  failed: "The function raised an error. Message to the model",
  stopped: "Stopped. Message to the model",
};

/**
 * Return the steps of a call with the current one marked: parsing, then the decision and its result.
 * @param {ParseState} status @param {CallState | null} state @returns {Step[]}
 */
export function callSteps(status, state) {
  const parsed = status === "failure" ? "not parsed" : "parsed";
  const texts = state === null ? ["started", "in progress", parsed] : [parsed, STATE_WORDS[state]];
  const current = state === null ? { started: 0, in_progress: 1, success: 2, failure: 2 }[status] : 1;
  return texts.map((text, i) => ({ text, isReached: i <= current, isCurrent: i === current }));
}

/** @param {CallState} state */
export function resultTitle(state) {
  return RESULT_WORDS[state];
}
