// The branches of a prompt as lines: the highlighted part of each, and its surprisal in bars.

import { fixed, tokenCount } from "./format.js";

/**
 * @typedef {object} Branch
 * @property {string} run  id of the run
 * @property {number} name  number from 1, in the order in which the runs started
 * @property {number | null} parent  index of the parent branch
 * @property {number} at  position of its first own token
 * @property {number} count  tokens from the start on
 * @property {number} total  tokens of the longest branch
 * @property {string} state
 * @property {string | null} stop
 * @property {[string, number | null] | null} own  label and logprob of the token at which it diverges
 * @property {[string, number | null] | null} instead  those of the parent's token at that position
 * @property {string} text  text from that token on
 * @property {number[]} bits  surprisal of each column
 * @property {number | null} perplexity
 * @property {boolean} shown
 */

const MOST_COLUMNS = 120;
const MOST_BITS = 8;
export const PLANE_HEIGHT = 28;
/** @type {Record<string, string>} */
const BRANCH_ENDS = {
  end_of_turn: "end of turn",
  end_of_message: "end of message",
  out_of_tokens: "length limit",
  cancelled: "stopped by you",
  failed: "failed",
  running: "running",
  queued: "waiting for the model",
};

/**
 * Return up to which token each branch is part of the one shown: its end, or the position at which the next diverges.
 * @param {Branch[]} branches
 */
export function litPath(branches) {
  /** @type {Map<number, number>} */ const ends = new Map();
  const row = branches.findIndex((branch) => branch.shown);
  let end = branches[row]?.count ?? 0;
  for (let next = /** @type {number | null} */ (row < 0 ? null : row); next !== null;) {
    ends.set(next, end);
    end = branches[next].at;
    next = branches[next].parent;
  }
  return ends;
}

/** Return the path of the bars, one per column from the start of the branch, on the scale of all branches. @param {Branch} branch */
export function barsPath({ at, total, bits }) {
  const width = total / Math.max(1, Math.min(MOST_COLUMNS, total));
  const first = total <= MOST_COLUMNS ? at : Math.floor((at * MOST_COLUMNS) / total);
  const foot = PLANE_HEIGHT - 2;
  const bars = bits.map((surprisal, i) => {
    const height = (Math.min(MOST_BITS, surprisal) / MOST_BITS) * (PLANE_HEIGHT - 3);
    const left = ((first + i) * width + 0.1 * width).toFixed(2);
    return `M${left} ${foot}v${(-height).toFixed(1)}h${(0.8 * width).toFixed(2)}v${height.toFixed(1)}z`;
  });
  return bars.join("");
}

/** Return the path of a line from one token to another. @param {number} from @param {number} to */
export function linePath(from, to) {
  return `M${from} ${PLANE_HEIGHT - 2}H${to}v2H${from}z`;
}

/** Return the length of the branch and how it ended, on a line each. @param {Branch} branch */
export function branchFacts({ count, perplexity, stop, state, shown }) {
  const end = BRANCH_ENDS[stop ?? state] ?? state;
  const said = perplexity === null ? "" : `, perplexity ${fixed(perplexity, 2)}`;
  return [`${tokenCount(count)}${said}`, shown ? `${end}, shown` : end];
}
