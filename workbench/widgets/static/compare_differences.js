// What is known of the differences between runs: the whole when it was written, and what was added since.

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Unit } from "./format.js"
 *
 * @typedef {object} Pair  the reference and one other run
 * @property {number} from
 * @property {(number | null)[]} kl  from position `from` on, in nats
 * @property {[number, number] | null} at  the first difference in the reference and in the other run
 * @property {string | null} why  there are no values
 * @property {Record<Unit, string>} said
 *
 * @typedef {{number: number, state: "idle" | "running" | "done", pairs: Pair[]}} Differences
 * @typedef {{kind: "whole", differences: Differences} | {kind: "differences", number: number, pairs: Pair[]}} News
 *
 * @typedef {object} Known
 * @property {Differences} value
 * @property {(listener: () => void, signal: AbortSignal) => void} listen
 */

// As many as have room at 320 pixels, with a gap between each two.
const MOST_BARS = 64;

/** @param {AnyModel<{differences: Differences}>} model @param {AbortSignal} signal @returns {Known} */
export function differencesOf(model, signal) {
  /** @type {Set<() => void>} */ const listeners = new Set();
  /** @type {Known} */
  const known = {
    value: structuredClone(model.get("differences")),
    listen(listener, until) {
      listeners.add(listener);
      until.addEventListener("abort", () => listeners.delete(listener));
    },
  };
  const tell = () => [...listeners].forEach((listener) => !signal.aborted && listener());
  const take = (/** @type {Differences} */ whole) => {
    if (whole.number < known.value.number) return;
    known.value = structuredClone(whole);
    tell();
  };
  const add = (/** @type {number} */ number, /** @type {Pair[]} */ pairs) => {
    const joined = number === known.value.number ? joinedPairs(known.value.pairs, pairs) : null;
    if (joined === null) {
      model.send({ kind: "look", id: number });
      return;
    }
    known.value = { ...known.value, pairs: joined };
    tell();
  };
  model.on("change:differences", () => take(model.get("differences")));
  model.on("msg:custom", (/** @type {News} */ news) => {
    if (news.kind === "whole") take(news.differences);
    else if (news.kind === "differences" && known.value.state === "running") add(news.number, news.pairs);
  });
  // A page that is loaded in the middle has missed what came since the start was stored.
  if (known.value.state === "running") model.send({ kind: "look", id: known.value.number });
  return known;
}

/**
 * The pairs with what was added, null where something between is missing.
 * @param {Pair[]} before @param {Pair[]} fresh
 */
export function joinedPairs(before, fresh) {
  if (!fresh.every((pair, i) => pair.from <= (before[i]?.kl.length ?? 0))) return null;
  return fresh.map((pair, i) => ({
    ...pair,
    from: 0,
    kl: [...(before[i]?.kl ?? []).slice(0, pair.from), ...pair.kl],
  }));
}

/** Where the reference is first left. @param {Pair[]} pairs @returns {number | null} */
export function firstDifference(pairs) {
  const found = pairs.flatMap((pair) => (pair.at ? [pair.at[0]] : []));
  return found.length ? Math.min(...found) : null;
}

/** Position of the first token of a side that another one does not have. @param {Pair[]} pairs @param {number} index */
export function markedIn(pairs, index) {
  return index === 0 ? firstDifference(pairs) : (pairs[index - 1]?.at?.[1] ?? null);
}

/**
 * Position of the largest value of every stretch, of which there are no more than bars.
 * @param {(number | null)[]} values
 */
export function peaksOf(values) {
  /** @type {number[]} */ const peaks = [];
  const count = Math.min(values.length, MOST_BARS);
  values.forEach((value, at) => {
    const stretch = Math.floor((at * count) / values.length);
    if (peaks[stretch] === undefined || (value ?? 0) > (values[peaks[stretch]] ?? 0)) peaks[stretch] = at;
  });
  return peaks;
}
