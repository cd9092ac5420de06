// Numbers that look random and are the same in each run.

/** @param {number} seed @returns {() => number} from 0 up to, not including, 1 */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** @template Item @param {() => number} draw @param {readonly Item[]} items @returns {Item} */
export function pick(draw, items) {
  return items[Math.floor(draw() * items.length)];
}
