// What is said of a lens in words, and the keys that move over its grid.

import { percent, visible } from "./format.js";

/** @import { Cell, LensKind } from "./layers_store.js" */

/** @type {Record<LensKind, string>} */
export const LENS_NOTES = {
  logit: "Computed: each layer is read as if it were the last one, with the model's last norm and head.",
  jacobian: "Computed: each layer is read with what the later layers do to it on average, then the last norm and head.",
};

/** Return a rank with separators. @param {number} rank */
export function rankInWords(rank) {
  return rank.toLocaleString("en-US");
}

/**
 * Return what a cell says of the token that was said.
 * @param {Cell} cell @param {{id: number, label: string}} said
 */
export function cellInWords(cell, said) {
  const top = `“${visible(cell.top.label)}” is the most probable, ${percent(cell.top.probability)}`;
  if (cell.top.id === said.id) return `${top}; it was said.`;
  return `${top}. “${visible(said.label)}”, which was said, has rank ${rankInWords(cell.rank)}, ${percent(cell.probability)}.`;
}

/** Return from which layer on a token stays the most probable one; null if it is not in the end. @param {Cell[]} cells */
export function settledFrom(cells) {
  const last = cells.findLastIndex((cell) => cell.rank !== 1);
  return last === cells.length - 1 ? null : last + 1;
}

/** Return how a token came to its rank, layer by layer. @param {Cell[]} cells */
export function courseInWords(cells) {
  const from = settledFrom(cells);
  if (from === null) return `Rank ${rankInWords(cells[cells.length - 1].rank)} after the last layer.`;
  if (from === 0) return "The most probable token after every layer.";
  if (from === cells.length - 1) return `The most probable token after the last layer alone; ${rankBefore(cells)}.`;
  return `The most probable token from layer ${from} on; ${rankBefore(cells)}.`;
}

/** @param {Cell[]} cells */
function rankBefore(cells) {
  return `rank ${rankInWords(cells[0].rank)} after layer 0`;
}

/**
 * Return the cell to which a key moves; null for any other key.
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">} event
 * @param {{position: number | null, layer: number, first: number, last: number, layers: number, page: number}} at
 * @returns {{position: number, layer: number} | null}
 */
export function cellTarget(event, { position, layer, first, last, layers, page }) {
  if (event.altKey || event.metaKey) return null;
  const from = position ?? last;
  if (event.ctrlKey) {
    if (event.key === "Home") return { position: first, layer: 0 };
    return event.key === "End" ? { position: last, layer: layers - 1 } : null;
  }
  /** @type {Record<string, [number, number]>} */
  const targets = {
    ArrowLeft: [position === null ? last : from - 1, layer],
    ArrowRight: [position === null ? first : from + 1, layer],
    ArrowUp: [from, position === null ? layer : layer - 1],
    ArrowDown: [from, position === null ? layer : layer + 1],
    PageUp: [from - page, layer],
    PageDown: [from + page, layer],
    Home: [first, layer],
    End: [last, layer],
  };
  const target = targets[event.key];
  if (!target) return null;
  const within = (/** @type {number} */ value, /** @type {number} */ least, /** @type {number} */ most) =>
    Math.max(least, Math.min(most, value));
  return { position: within(target[0], first, last), layer: within(target[1], 0, layers - 1) };
}
