// One token in words, and the tokens that stand out.

import { bits, fixed, percentOf, visible } from "./format.js";

/**
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
 * Bits a token in the mean, and where the most were; what is unknown counts as none.
 * @param {Token[]} tokens @param {number} most
 */
export function surprisals(tokens, most) {
  const known = tokens.map((token, position) => ({ position, bits: bits(token.logprob) ?? 0 }));
  const sum = known.reduce((all, item) => all + item.bits, 0);
  const worst = known
    .sort((a, b) => b.bits - a.bits)
    .slice(0, most)
    .filter((item) => item.bits > 0);
  return { mean: sum / known.length, worst };
}

/** @param {Token} token */
export function factsInWords(token) {
  const entropy = token.entropy === null ? null : `entropy here ${fixed(token.entropy / Math.LN2, 1)} bits`;
  if (token.logprob === null) return ["no probability is known", entropy].filter(Boolean).join(", ");
  const rank = token.rank ? `rank ${token.rank}` : null;
  return [percentOf(token.logprob), rank, `${fixed(bits(token.logprob), 1)} bits`, entropy].filter(Boolean).join(", ");
}

/** @param {{label: string}} token */
export function spoken({ label }) {
  return label.trim() === "" ? visible(label) : label.trim();
}

/** What is said of a token that was chosen. @param {{tokens: Token[], forks: number[]}} run @param {number} position */
export function announcement({ tokens, forks }, position) {
  const fork = forks.includes(position) ? " Branches part here." : "";
  const facts = factsInWords(tokens[position]);
  return `Token ${position} of ${tokens.length}: ${spoken(tokens[position])}. ${facts}.${fork}`;
}
