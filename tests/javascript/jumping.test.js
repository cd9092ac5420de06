// Walking from token to token by keyboard.

import assert from "node:assert/strict";
import { test } from "node:test";

import { jump, uncertainPositions, walkedBy } from "../../workbench/widgets/static/jumping.js";
import { tokens } from "./tokens.js";

/** @import { Walked } from "../../workbench/widgets/static/jumping.js" */

const SURE = -0.1;
const UNSURE = -3;

/** @param {number | null} current @param {number[]} forks @returns {Walked & {at: () => number | null}} */
function walked(current, forks = []) {
  let at = current;
  const all = tokens(SURE, UNSURE, SURE, null, UNSURE, SURE);
  return {
    steps: all,
    forks,
    get current() {
      return at;
    },
    at: () => at,
    select: (positions) => (at = positions.at(-1) ?? null),
    walkTo: (target) => (at = Math.max(0, Math.min(all.length - 1, target))),
  };
}

/** @param {string} key @param {Partial<KeyboardEvent>} held */
function press(key, held = {}) {
  return { key, shiftKey: false, ctrlKey: false, metaKey: false, altKey: false, ...held };
}

test("uncertain is what the model gave a quarter or less, and never what it tells nothing of", () => {
  assert.deepEqual(uncertainPositions({ steps: tokens(Math.log(0.26), Math.log(0.25), null, -9) }), [1, 3]);
});

test("a key leads to a token, and beyond an end to the other or nowhere", () => {
  /** @type {[string, number | null, number | null][]} */
  const walks = [
    ["ArrowRight", null, 0],
    ["ArrowRight", 2, 3],
    ["ArrowRight", 5, 5],
    ["ArrowLeft", null, 5],
    ["ArrowLeft", 3, 2],
    ["ArrowLeft", 0, 0],
    ["Home", 3, 0],
    ["End", 3, 5],
    ["n", null, 1],
    ["n", 1, 4],
    ["n", 4, 1],
    ["p", null, 4],
    ["p", 4, 1],
    ["p", 1, 4],
  ];
  for (const [key, from, to] of walks) {
    const store = walked(from);
    assert.equal(walkedBy(press(key), store), true);
    assert.equal(store.at(), to, `${key} from ${from}`);
  }
});

test("forks are walked both ways, and without any nothing is selected", () => {
  const store = walked(null, [2, 5]);
  const places = ["f", "f", "f", "F"].map(
    (key) => walkedBy(press(key, { shiftKey: key === "F" }), store) && store.at(),
  );
  assert.deepEqual(places, [2, 5, 2, 5]);
  const none = walked(3);
  assert.equal(walkedBy(press("f"), none), true);
  assert.equal(none.at(), 3);
  jump(none, [], 1);
  assert.equal(none.at(), 3);
});

test("keys that are somebody else's are left alone", () => {
  for (const held of ["ctrlKey", "metaKey", "altKey", "shiftKey"]) {
    const store = walked(2);
    assert.equal(walkedBy(press("ArrowRight", { [held]: true }), store), false);
    assert.equal(store.at(), 2);
  }
  for (const key of ["x", "Enter", "Escape", "ArrowUp"]) assert.equal(walkedBy(press(key), walked(2)), false);
});
