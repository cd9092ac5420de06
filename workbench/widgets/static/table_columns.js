// The columns of the token table, and the orders to which their headers switch.

/**
 * @typedef {"position" | "text" | "token_id" | "probability" | "surprisal" | "rank" | "entropy"} SortField
 * @typedef {{sortBy: SortField, descending: boolean}} Order
 *
 * @typedef {object} Column
 * @property {string} name
 * @property {SortField | null} field  null if it cannot be sorted
 * @property {boolean} [hasUnit]  whether its header names the unit
 * @property {number} [width]  width in pixels; the remaining width if absent
 * @property {boolean} [descendsFirst]  whether its largest values come first, such as the most surprising tokens
 * @property {string} help
 */

/** @type {Column[]} */
export const COLUMNS = [
  { name: "#", field: "position", width: 56, help: "Number of the token, from 1; its position in Python is one less" },
  { name: "token", field: "text", width: 132, help: "The token alone, with white space made visible" },
  { name: "id", field: "token_id", width: 72, help: "Token id in the vocabulary" },
  {
    name: "probability",
    field: "probability",
    width: 112,
    help: "In the model's raw distribution, before any sampling settings",
  },
  {
    name: "surprisal",
    field: "surprisal",
    hasUnit: true,
    descendsFirst: true,
    width: 124,
    help: "Negative log probability; in nats, the negative of logprob in Python",
  },
  {
    name: "rank",
    field: "rank",
    descendsFirst: true,
    width: 64,
    help: "1 is the most probable token of the vocabulary",
  },
  {
    name: "entropy",
    field: "entropy",
    hasUnit: true,
    descendsFirst: true,
    width: 112,
    help: "Entropy of the raw distribution at this position; in nats in Python",
  },
  { name: "alternatives", field: null, help: "The most probable other tokens" },
];

/**
 * Return the order after a click on a header: the first sorts, the second reverses, the third restores the order.
 * @param {Order} order @param {SortField} field
 * @returns {Order}
 */
export function orderAfter({ sortBy, descending }, field) {
  // Rows are ordered by position at first, so the first click on that header reverses them.
  if (field === "position") return { sortBy: field, descending: sortBy !== field || !descending };
  const first = COLUMNS.find((column) => column.field === field)?.descendsFirst ?? false;
  if (sortBy !== field) return { sortBy: field, descending: first };
  return descending === first ? { sortBy: field, descending: !first } : { sortBy: "position", descending: false };
}

/** Return how a column is sorted; null if it is not. @param {Order} order @param {SortField | null} field */
export function sortedAs({ sortBy, descending }, field) {
  if (field !== sortBy || (field === "position" && !descending)) return null;
  return descending ? "descending" : "ascending";
}

/** Return the positions from one to the other, inclusive, the other last. @param {number} from @param {number} to */
export function stretch(from, to) {
  const step = from <= to ? 1 : -1;
  return Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => from + i * step);
}
