// The differences between runs: the trait's value when it was written, and the additions since.

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Unit } from "./format.js"
 *
 * @typedef {object} Pair  the reference and one other run
 * @property {number} from
 * @property {(number | null)[]} kl  divergence in nats from position `from` on
 * @property {[number, number] | null} at  position of the first difference in the reference and in the other run
 * @property {string | null} why  why there are no values
 * @property {Record<Unit, string>} said
 *
 * @typedef {{number: number, state: "idle" | "running" | "done", pairs: Pair[]}} Differences
 * @typedef {{kind: "whole", differences: Differences} | {kind: "differences", number: number, pairs: Pair[]}} News
 *
 * @typedef {object} Known
 * @property {Differences} value
 * @property {(listener: () => void, signal: AbortSignal) => void} listen
 */

// The number of bars, with gaps, that fit into 320 pixels.
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
  const notify = () => [...listeners].forEach((listener) => !signal.aborted && listener());
  const take = (/** @type {Differences} */ whole) => {
    if (whole.number < known.value.number) return;
    known.value = structuredClone(whole);
    notify();
  };
  const add = (/** @type {number} */ number, /** @type {Pair[]} */ pairs) => {
    const joined = number === known.value.number ? joinedPairs(known.value.pairs, pairs) : null;
    if (joined === null) {
      model.send({ kind: "look", id: number });
      return;
    }
    known.value = { ...known.value, pairs: joined };
    notify();
  };
  model.on("change:differences", () => take(model.get("differences")));
  model.on("msg:custom", (/** @type {News} */ news) => {
    if (news.kind === "whole") take(news.differences);
    else if (news.kind === "differences" && known.value.state === "running") add(news.number, news.pairs);
  });
  // A page that is loaded during a run has missed the additions so far.
  if (known.value.state === "running") model.send({ kind: "look", id: known.value.number });
  return known;
}

/**
 * Return the pairs with the additions; null if an addition in between is missing.
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

/** Return the first position at which any run differs from the reference. @param {Pair[]} pairs @returns {number | null} */
export function firstDifference(pairs) {
  const found = pairs.flatMap((pair) => (pair.at ? [pair.at[0]] : []));
  return found.length ? Math.min(...found) : null;
}

/** Return the position of a side's first token that differs. @param {Pair[]} pairs @param {number} index */
export function markedIn(pairs, index) {
  return index === 0 ? firstDifference(pairs) : (pairs[index - 1]?.at?.[1] ?? null);
}

/**
 * Return the position of the maximum of each group of neighbors, with one group per bar.
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
