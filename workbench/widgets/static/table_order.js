// Which rows of the table are shown, in which order; table_order.py has the same rules, and a test compares the two.

import { visible } from "./format.js";

const COMPARISON = /^(position|id|token_id|probability|logprob|rank|entropy)(<=|>=|<|>|=)(-?\d+(?:\.\d+)?)(%?)$/;
/** @type {Record<string, (one: number, other: number) => boolean>} */
const COMPARE = {
  "<": (one, other) => one < other,
  ">": (one, other) => one > other,
  "<=": (one, other) => one <= other,
  ">=": (one, other) => one >= other,
  "=": (one, other) => one === other,
};

/** @param {any[]} tokens @param {{sortBy: string, descending: boolean, query: string}} wish @returns {number[]} positions */
export function tableRows(tokens, { sortBy, descending, query }) {
  const terms = query.split(/\s+/).filter(Boolean).map(termOf);
  const kept = tokens.flatMap((token, i) => (terms.every((term) => term(token, i)) ? [i] : []));
  if (sortBy === "position") return descending ? kept.reverse() : kept;
  const value = (/** @type {number} */ i) => valueOf(tokens[i], i, sortBy);
  const known = kept.filter((i) => value(i) !== null);
  const unknown = kept.filter((i) => value(i) === null);
  const sign = descending ? -1 : 1;
  known.sort((i, j) => (value(i) < value(j) ? -sign : value(i) > value(j) ? sign : 0));
  return [...known, ...unknown];
}

/** @param {string} word @returns {(token: any, position: number) => boolean} */
function termOf(word) {
  const [, name, sign, digits, share] = COMPARISON.exec(word) ?? [];
  if (!name) {
    const wanted = word.toLowerCase();
    return (token) => token.label.toLowerCase().includes(wanted) || visible(token.label).toLowerCase().includes(wanted);
  }
  const limit = Number(digits) / (share ? 100 : 1);
  return (token, position) => {
    const value = valueOf(token, position, name === "id" ? "token_id" : name);
    return value !== null && COMPARE[sign](value, limit);
  };
}

/** @param {any} token @param {number} position @param {string} name @returns {any} null where there is none */
function valueOf(token, position, name) {
  if (name === "position") return position;
  if (name === "token_id") return token.id;
  if (name === "text") return token.label;
  if (name === "probability") return token.logprob === null ? null : Math.exp(token.logprob);
  if (name === "rank") return token.rank || null;
  return token[name];
}
