// Tokens of runs that are made up.

/** @import { Token } from "../../workbench/widgets/static/run_wire.js" */

/** @param {Partial<Token>} [facts] @returns {Token} */
export function token(facts = {}) {
  const label = facts.label ?? " a";
  return { id: 7, label, logprob: -1, rank: 1, entropy: 2, special: false, piece: label, ...facts };
}

/** One token for each logprob. @param {...(number | null)} logprobs */
export function tokens(...logprobs) {
  return logprobs.map((logprob, i) => token({ id: 100 + i, label: ` t${i}`, logprob }));
}
