// What is known of the differences between runs, whatever is lost on the way.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  differencesOf,
  firstDifference,
  joinedPairs,
  markedIn,
  peaksOf,
} from "../../workbench/widgets/static/compare_differences.js";
import { FakeModel } from "./fake_page.js";
import { pick, random } from "./random.js";

/** @import { Differences, Pair } from "../../workbench/widgets/static/compare_differences.js" */

/** @param {number} from @param {(number | null)[]} kl @param {Partial<Pair>} [facts] @returns {Pair} */
function pair(from, kl, facts = {}) {
  return { from, kl, at: null, why: null, said: { bits: "", nats: "" }, ...facts };
}

/** @param {Differences} differences */
function opened(differences) {
  const fake = new FakeModel({ differences });
  const controller = new AbortController();
  return { fake, controller, known: differencesOf(fake.model, controller.signal) };
}

test("values are added where they belong, and a gap is asked about", () => {
  const { fake, known, controller } = opened({ number: 1, state: "running", pairs: [] });
  assert.deepEqual(fake.take(), [{ kind: "look", id: 1 }]);
  let told = 0;
  known.listen(() => (told += 1), controller.signal);
  fake.receive({ kind: "differences", number: 1, pairs: [pair(0, [0.1, 0.2])] });
  fake.receive({ kind: "differences", number: 1, pairs: [pair(2, [null], { at: [2, 2] })] });
  assert.deepEqual(known.value.pairs[0].kl, [0.1, 0.2, null]);
  assert.equal(told, 2);
  fake.receive({ kind: "differences", number: 1, pairs: [pair(5, [0.5])] });
  fake.receive({ kind: "differences", number: 2, pairs: [pair(0, [0.5])] });
  assert.deepEqual(fake.take(), [
    { kind: "look", id: 1 },
    { kind: "look", id: 2 },
  ]);
  assert.equal(told, 2);
});

test("what is older, or comes after the end or the view, changes nothing", () => {
  const { fake, known, controller } = opened({ number: 2, state: "done", pairs: [pair(0, [1])] });
  assert.deepEqual(fake.take(), []);
  fake.receive({ kind: "whole", differences: { number: 1, state: "done", pairs: [] } });
  fake.receive({ kind: "differences", number: 2, pairs: [pair(1, [2])] });
  assert.deepEqual(known.value.pairs, [pair(0, [1])]);
  controller.abort();
  known.listen(() => assert.fail("heard"), new AbortController().signal);
  fake.model.set("differences", { number: 3, state: "running", pairs: [] });
  assert.equal(known.value.number, 3);
});

test("a part of the view that was replaced is told no more", () => {
  const { fake, known } = opened({ number: 1, state: "done", pairs: [] });
  const part = new AbortController();
  let told = 0;
  known.listen(() => (told += 1), part.signal);
  fake.model.set("differences", { number: 2, state: "running", pairs: [] });
  part.abort();
  fake.model.set("differences", { number: 3, state: "running", pairs: [] });
  assert.deepEqual([told, known.value.number], [1, 3]);
});

test("joined in any pieces, with any doubled, the values are those of the whole", () => {
  for (let seed = 0; seed < 200; seed += 1) {
    const draw = random(seed);
    const whole = Array.from({ length: 20 }, () => (draw() < 0.2 ? null : draw()));
    /** @type {Pair[]} */ let known = [];
    while ((known[0]?.kl.length ?? 0) < whole.length) {
      const have = known[0]?.kl.length ?? 0;
      const from = pick(draw, [have, have, Math.max(0, have - 2), have + 1]);
      const joined = joinedPairs(known, [pair(from, whole.slice(from, have + 3))]);
      if (from > have) assert.equal(joined, null);
      else known = joined ?? assert.fail("refused");
      assert.deepEqual(known[0]?.kl ?? [], whole.slice(0, known[0]?.kl.length ?? 0));
    }
  }
});

test("the first difference is the earliest in the reference, and each side marks its own", () => {
  const pairs = [pair(0, [], { at: [7, 8] }), pair(0, []), pair(0, [], { at: [3, 2] })];
  assert.equal(firstDifference(pairs), 3);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((side) => markedIn(pairs, side)),
    [3, 8, null, 2, null],
  );
  assert.equal(firstDifference([pair(0, [])]), null);
});

test("no more bars than there is room for, and none hides the largest of its stretch", () => {
  for (let length = 0; length < 400; length += 7) {
    const draw = random(length);
    const values = Array.from({ length }, () => (draw() < 0.1 ? null : draw()));
    const peaks = peaksOf(values);
    assert.equal(peaks.length, Math.min(length, 64));
    assert.deepEqual(
      peaks,
      [...peaks].sort((a, b) => a - b),
    );
    const most = Math.max(0, ...values.map((value) => value ?? 0));
    if (length) assert.equal(Math.max(...peaks.map((at) => values[at] ?? 0)), most);
  }
});
