// The numbers of attention that the view and its static twin in Python show alike; widgets/attention_words.py has the same.

import { information, percent } from "./format.js";

/**
 * @import { Unit } from "./format.js"
 *
 * @typedef {"first" | "previous" | "entropy"} Measure  a number of a head
 * @typedef {(number | null)[]} HeadNumbers  shares on the first and the previous token, and entropy in nats
 */

export const MOST_ARCS = 24;
/** Smaller weights have no arc. */
const LEAST_ARC = 0.005;
export const ATTENTION_NOTE = "Derived: the weights are computed again from the queries and keys of this run.";
/** @type {Record<Measure, string>} */
export const HEAD_TITLES = {
  first: "Share on the first token",
  previous: "Share on the previous token",
  entropy: "Entropy",
};
/** @type {Measure[]} */
const HEAD_ORDER = ["first", "previous", "entropy"];

/** Return the positions with the largest weights that have an arc, the largest first. @param {(number | null)[]} weights */
export function strongest(weights) {
  const at = (/** @type {number} */ key) => weights[key] ?? 0;
  const shown = weights.flatMap((weight, key) => ((weight ?? 0) >= LEAST_ARC ? [key] : []));
  return shown.sort((a, b) => at(b) - at(a) || a - b).slice(0, MOST_ARCS);
}

/** Return one of the numbers of a head. @param {HeadNumbers} values @param {Measure} measure */
export function headValue(values, measure) {
  return values[HEAD_ORDER.indexOf(measure)];
}

/** Return a number of a head with its unit. @param {number | null} value @param {Measure} measure @param {Unit} unit */
export function headWords(value, measure, unit) {
  if (value === null) return "–";
  return measure === "entropy" ? information(value, unit, 2) : percent(value);
}

/**
 * Return the share of the tokens that are not shown; empty if there are none.
 * @param {(number | null)[]} weights @param {number[]} shown
 */
export function restWords(weights, shown) {
  const left = weights.filter(Boolean).length - shown.length;
  const share =
    weights.reduce((/** @type {number} */ sum, weight) => sum + (weight ?? 0), 0) -
    shown.reduce((sum, key) => sum + (weights[key] ?? 0), 0);
  if (left <= 0) return "";
  return `${left.toLocaleString("en-US")} other ${left === 1 ? "token" : "tokens"}: ${percent(Math.max(0, Number(share.toFixed(4))))}`;
}

/**
 * Return the strength of the color of a head, 0 to 1; an entropy is compared with the largest one.
 * @param {number | null} value @param {Measure} measure @param {number} most  the largest entropy
 */
export function headStrength(value, measure, most) {
  if (value === null) return 0;
  return measure === "entropy" ? (most > 0 ? value / most : 0) : value;
}

/** Return the short form of a number of a head for its cell. @param {number | null} value @param {Measure} measure @param {Unit} unit */
export function headDigits(value, measure, unit) {
  if (value === null) return "–";
  if (measure === "entropy") return information(value, unit, 1).split(" ")[0];
  return String(Math.round(100 * value));
}
