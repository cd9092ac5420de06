// The prediction game in words: the shares of a bet, its cost and its result.

import { fixed, percent } from "./format.js";

/**
 * @typedef {object} Told  the result, after the bet
 * @property {number} came  index of the choice that came
 * @property {number[]} bet  the player's probability of each choice
 * @property {number[]} model  the model's
 *
 * @typedef {object} GamePage
 * @property {number} number  number of the round shown, from 1
 * @property {number} of
 * @property {number} played
 * @property {string} context
 * @property {string[]} choices
 * @property {Told | null} told  null before the bet
 * @property {number} bits  bits that the player has paid so far
 * @property {number} model_bits
 * @property {number} even_bits
 */

/**
 * Return the share of each choice: the confidence for the chosen one, the rest spread evenly; even shares before a choice.
 * @param {number} count @param {number} chosen  -1: none yet @param {number} confidence
 */
export function shares(count, chosen, confidence) {
  const others = (1 - confidence) / (count - 1);
  return Array.from({ length: count }, (_, i) => (chosen < 0 ? 1 / count : i === chosen ? confidence : others));
}

/** @param {number} share */
function cost(share) {
  return fixed(Math.log2(1 / share), 1);
}

/** Return the cost of a bet in words. @param {number} count  of choices @param {number} confidence */
export function priceInWords(count, confidence) {
  const others = (1 - confidence) / (count - 1);
  return `${Math.round(100 * confidence)} %: ${cost(confidence)} bits if you are right, ${cost(others)} if not`;
}

/** @param {GamePage} page  after the bet @param {boolean} isOver */
export function betInSentences({ told, choices, bits, model_bits }, isOver) {
  if (!told) return "";
  const { came, bet, model } = told;
  const given = (/** @type {number[]} */ all) => `${percent(all[came])} (${cost(all[came])} bits)`;
  const said = `“${choices[came]}” came next. You gave it ${given(bet)}, the model ${given(model)}.`;
  if (!isOver) return said;
  const best = bits < model_bits ? "You beat the model." : "The model won.";
  return `${said} The game is over. ${best}`;
}
