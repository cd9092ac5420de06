// Descriptions of tokens, and the most surprising ones.

import { information, percentOf, surprisal, tokenCount, visible } from "./format.js";

/**
 * @import { Unit } from "./format.js"
 * @import { Alternative, Token } from "./run_wire.js"
 *
 * @typedef {object} Candidate  at a position, including the sampled token
 * @property {number} id
 * @property {string} label
 * @property {number} probability
 * @property {boolean} isSelf  whether it is the sampled token
 */

/**
 * Return the sampled token and its alternatives, the most probable first.
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
 * Return the mean surprisal in nats, and the most surprising tokens; an unknown surprisal counts as 0.
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
 * Return the name of a token in its run.
 * @param {{tokens: Token[]}} run @param {number} position  the end token follows the others
 */
export function tokenName({ tokens }, position) {
  if (position < tokens.length) return `Token ${position + 1} of ${tokens.length}`;
  return `End token, after ${tokenCount(tokens.length)}`;
}

/** Return the Python expression for a token. @param {{tokens: Token[]}} run @param {number} position */
export function tokenExpression({ tokens }, position) {
  return position < tokens.length ? `run.tokens[${position}]` : "run.end";
}

/**
 * Return the announcement of a selected token.
 * @param {{tokens: Token[], steps: Token[], forks: number[], unit: Unit}} run @param {number} position
 */
export function announcement(run, position) {
  const token = run.steps[position];
  const fork = run.forks.includes(position) ? " Branches fork here." : "";
  return `${tokenName(run, position)}: ${spoken(token)}. ${factsInWords(token, run.unit)}.${fork}`;
}
