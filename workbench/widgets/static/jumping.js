// Navigation between tokens: to the next uncertain token, and to the next fork.

import { bits } from "./format.js";

/**
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {Pick<Store, "steps" | "current" | "forks" | "select" | "walkTo">} Walked
 */

// Two bits: the token's probability was a quarter or less.
const UNCERTAIN_BITS = 2;

/** @param {Pick<Walked, "steps">} run */
export function uncertainPositions({ steps }) {
  return steps.flatMap((token, i) => ((bits(token.logprob) ?? 0) >= UNCERTAIN_BITS ? [i] : []));
}

/**
 * Select the next or the previous of some positions, wrapping around.
 * @param {Pick<Walked, "current" | "select">} store @param {number[]} positions  in ascending order @param {1 | -1} step
 */
export function jump(store, positions, step) {
  const current = store.current;
  const beyond =
    step > 0
      ? positions.find((i) => current === null || i > current)
      : positions.findLast((i) => current === null || i < current);
  const target = beyond ?? positions.at(step > 0 ? 0 : -1);
  if (target !== undefined) store.select([target]);
}

/**
 * Return the position to which a key moves; undefined for any other key.
 * @param {string} key @param {number | null} at @param {number} last
 * @returns {number | undefined}
 */
export function keyTarget(key, at, last) {
  /** @type {Record<string, number>} */
  const targets = {
    ArrowRight: at === null ? 0 : at + 1,
    ArrowLeft: at === null ? last : at - 1,
    Home: 0,
    End: last,
  };
  return targets[key];
}

/**
 * The keys of every view of a run: arrows, ends, n and p for uncertain tokens, f for forks.
 * @param {Pick<KeyboardEvent, "key" | "shiftKey" | "ctrlKey" | "metaKey" | "altKey">} event
 * @param {Walked} store
 * @param {(store: Walked) => number[]} [notable]  returns the positions for n and p
 * @returns {boolean} whether the key was one of them
 */
export function walkedBy(event, store, notable = uncertainPositions) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const target = keyTarget(event.key, store.current, store.steps.length - 1);
  /** @type {Record<string, () => void>} */
  const jumps = {
    n: () => jump(store, notable(store), 1),
    p: () => jump(store, notable(store), -1),
    f: () => jump(store, store.forks, 1),
    F: () => jump(store, store.forks, -1),
  };
  const walk = target === undefined ? jumps[event.key] : () => store.walkTo(target);
  if (event.shiftKey && event.key !== "F") return false;
  walk?.();
  return walk !== undefined;
}
