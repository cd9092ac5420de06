// Filtering and sorting of the token table; a test compares it with table_order.py.

import { visible } from "./format.js";

/**
 * @import { Unit } from "./format.js"
 * @import { Token } from "./run_wire.js"
 * @import { SortField } from "./table_columns.js"
 *
 * @typedef {{sortBy: SortField, descending: boolean, query: string, unit: Unit}} Request
 */

const COMPARISON =
  /^(position|id|token_id|probability|logprob|surprisal|rank|entropy)(<=|>=|<|>|=)(-?\d+(?:\.\d+)?)(%?)$/;
/** @type {Record<string, (one: number, other: number) => boolean>} */
const COMPARE = {
  "<": (one, other) => one < other,
  ">": (one, other) => one > other,
  "<=": (one, other) => one <= other,
  ">=": (one, other) => one >= other,
  "=": (one, other) => one === other,
};

/** Return a word that looks like a comparison but is invalid; "" if there is none. @param {string} query */
export function misreadIn(query) {
  return query.split(/\s+/).find((word) => /^[a-z_]+[<>=]/i.test(word) && !COMPARISON.test(word)) ?? "";
}

/** @param {Token[]} tokens @param {Request} request @returns {number[]} positions */
export function tableRows(tokens, { sortBy, descending, query, unit }) {
  const terms = query
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => termOf(word, unit));
  const kept = tokens.flatMap((token, i) => (terms.every((term) => term(token, i)) ? [i] : []));
  if (sortBy === "position") return descending ? kept.reverse() : kept;
  const unknown = kept.filter((i) => valueOf(tokens[i], i, sortBy) === null);
  const known = kept.flatMap((position) => {
    const value = valueOf(tokens[position], position, sortBy);
    return value === null ? [] : [{ position, value }];
  });
  const sign = descending ? -1 : 1;
  known.sort((one, other) => (one.value < other.value ? -sign : one.value > other.value ? sign : 0));
  return [...known.map(({ position }) => position), ...unknown];
}

/** @param {string} word @param {Unit} unit @returns {(token: Token, position: number) => boolean} */
function termOf(word, unit) {
  const [, name, sign, digits, share] = COMPARISON.exec(word) ?? [];
  if (!name) {
    const wanted = word.toLowerCase();
    return (token) => token.label.toLowerCase().includes(wanted) || visible(token.label).toLowerCase().includes(wanted);
  }
  const isShownInUnit = name === "surprisal" || name === "entropy";
  const limit = (Number(digits) / (share ? 100 : 1)) * (isShownInUnit && unit === "bits" ? Math.LN2 : 1);
  return (token, position) => {
    const value = valueOf(token, position, /** @type {SortField | "logprob"} */ (name === "id" ? "token_id" : name));
    return typeof value === "number" && COMPARE[sign](value, limit);
  };
}

/**
 * @param {Token} token @param {number} position @param {SortField | "logprob"} name
 * @returns {number | string | null}  null if there is none
 */
function valueOf(token, position, name) {
  if (name === "position") return position;
  if (name === "token_id") return token.id;
  if (name === "text") return token.label;
  if (name === "probability") return token.logprob === null ? null : Math.exp(token.logprob);
  if (name === "surprisal") return token.logprob === null ? null : -token.logprob;
  if (name === "rank") return token.rank || null;
  return token[name];
}
