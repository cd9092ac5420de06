// One token in words, and the tokens that stand out.

import { information, percentOf, surprisal, tokenCount, visible } from "./format.js";

/**
 * @import { Unit } from "./format.js"
 * @import { Alternative, Token } from "./run_wire.js"
 *
 * @typedef {object} Candidate  for a position, the sampled token among them
 * @property {number} id
 * @property {string} label
 * @property {number} probability
 * @property {boolean} isSelf  the sampled token
 */

/**
 * The sampled token and what stood beside it, most probable first.
 * @param {Token} token @param {Alternative[]} alternatives
 * @returns {Candidate[]}
 */
export function ranked(token, alternatives) {
  const probability = (/** @type {Token | Alternative} */ { logprob }) => Math.exp(logprob ?? -Infinity);
  const self = { id: token.id, label: token.label, probability: probability(token), isSelf: true };
  const others = alternatives.map((one) => ({
    id: one.id,
    label: one.label,
    probability: probability(one),
    isSelf: false,
  }));
  return [self, ...others].sort((a, b) => b.probability - a.probability);
}

/**
 * Nats a token in the mean, and where the most were; what is unknown counts as none.
 * @param {Token[]} tokens @param {number} most
 */
export function surprisals(tokens, most) {
  const known = tokens.map((token, position) => ({ position, nats: surprisal(token.logprob) ?? 0 }));
  const sum = known.reduce((all, item) => all + item.nats, 0);
  const worst = known
    .sort((a, b) => b.nats - a.nats)
    .slice(0, most)
    .filter((item) => item.nats > 0);
  return { mean: sum / known.length, worst };
}

/** @param {Token} token @param {Unit} unit */
export function factsInWords(token, unit) {
  const entropy = token.entropy === null ? null : `entropy ${information(token.entropy, unit, 1)}`;
  if (token.logprob === null) return ["probability unknown", entropy].filter(Boolean).join(", ");
  const rank = token.rank ? `rank ${token.rank}` : null;
  const surprise = information(surprisal(token.logprob), unit, 1);
  return [percentOf(token.logprob), rank, surprise, entropy].filter(Boolean).join(", ");
}

/** @param {{label: string}} token */
export function spoken({ label }) {
  return label.trim() === "" ? visible(label) : label.trim();
}

/**
 * Which token of a run it is.
 * @param {{tokens: Token[]}} run @param {number} position  that of the end is after all tokens
 */
export function placeInWords({ tokens }, position) {
  if (position < tokens.length) return `Token ${position + 1} of ${tokens.length}`;
  return `End token, after ${tokenCount(tokens.length)}`;
}

/** The same token in Python. @param {{tokens: Token[]}} run @param {number} position */
export function placeInPython({ tokens }, position) {
  return position < tokens.length ? `run.tokens[${position}]` : "run.end";
}

/**
 * What is said of a token that was chosen.
 * @param {{tokens: Token[], steps: Token[], forks: number[], unit: Unit}} run @param {number} position
 */
export function announcement(run, position) {
  const token = run.steps[position];
  const fork = run.forks.includes(position) ? " Branches fork here." : "";
  return `${placeInWords(run, position)}: ${spoken(token)}. ${factsInWords(token, run.unit)}.${fork}`;
}
