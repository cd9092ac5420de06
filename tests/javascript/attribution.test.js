// An attribution: which chunk marks which token, what is said of it, and what the parts of its view share.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { AttributionStore } from "../../workbench/widgets/static/attribution_store.js";
import * as attribution from "../../workbench/widgets/static/attribution_words.js";
import { FakeModel } from "./fake_page.js";
import { tokens } from "./tokens.js";

/**
 * @import { AttributionState } from "../../workbench/widgets/static/attribution_store.js"
 * @import { Chunk } from "../../workbench/widgets/static/attribution_words.js"
 */

/** @type {{attribution: [keyof typeof attribution, unknown[], unknown][]}} */
const twins = JSON.parse(readFileSync(new URL("cases/twins.json", import.meta.url), "utf8"));

test("the page marks, names and cuts as its static twin does", () => {
  for (const [name, given, expected] of twins.attribution) {
    const answer = /** @type {(...given: unknown[]) => unknown} */ (attribution[name])(...given);
    assert.deepEqual(answer, expected, `${name}(${JSON.stringify(given)})`);
  }
  assert.ok(twins.attribution.length > 400);
});

/** @param {(number | null)[]} changes @param {Partial<Chunk>} [facts] @returns {Chunk} */
function chunk(changes, facts = {}) {
  return { document: "notes.md", text: "Text", score: 0.5, total: 1, changes, ...facts };
}

test("raised and lowered tokens are counted, and small changes are none", () => {
  const said = (/** @type {(number | null)[]} */ ...changes) => attribution.effectInWords(chunk(changes));
  assert.equal(said(2, 1, -3, 0.1, null), "raised 2 tokens, lowered 1 token");
  assert.equal(said(2), "raised 1 token");
  assert.equal(said(-2, -2), "lowered 2 tokens");
  assert.equal(said(0.1, -0.1, null), "changed no token much");
});

test("a strength grows with the size of a change, either way", () => {
  const strengths = [0, 0.3, 0.5, 2, 5, 9].map(attribution.changeStrength);
  assert.deepEqual(
    strengths,
    [...strengths].sort((a, b) => a - b),
  );
  assert.deepEqual([strengths[0], strengths[1], strengths[5]], [0, 0, 1]);
  assert.equal(attribution.changeStrength(-2), attribution.changeStrength(2));
  assert.equal(attribution.changeStrength(null), 0);
});

test("the chunk that raised a token most comes first, an unknown change last", () => {
  assert.deepEqual(attribution.byChange([0.5, null, -2, 3, 0.5]), [3, 0, 4, 2, 1]);
});

test("a token is announced with its probability and the chunk that raised it most", () => {
  const run = tokens(-Math.LN2, -Math.LN2);
  const chunks = [chunk([2.3125, 0.1], { document: "a.md" }), chunk([0.5, 0.2])];
  assert.equal(
    attribution.tokenInWords(run, chunks, 0, "nats"),
    "Token 1 of 2: t0. 50.0 %. Raised most by [1] a.md: +2.31 nats (×10.1).",
  );
  assert.equal(
    attribution.tokenInWords(run, chunks, 1, "bits"),
    "Token 2 of 2: t1. 50.0 %. No chunk made it 1.5 times as probable.",
  );
  assert.equal(attribution.tokenInWords(run, [chunk([])], 1, "nats"), "Token 2 of 2: t1. 50.0 %.");
  assert.equal(attribution.changeInWords("[1] a.md", null, "nats"), "[1] a.md: unknown");
});

/** @param {Partial<AttributionState>} [facts] */
function opened(facts = {}) {
  /** @type {AttributionState} */
  const state = {
    state: "done",
    message: "",
    tokens: [
      [5, " a", -0.5, 1, 1],
      [6, " b", -0.5, 1, 1],
      [7, " c", -0.5, 1, 1],
    ],
    chunks: [chunk([2, -2, 0]), chunk([0, 3, 0])],
    selected: null,
    chosen: null,
    unit: "nats",
    ...facts,
  };
  const fake = new FakeModel(state);
  const store = new AttributionStore(fake.model);
  /** @type {string[]} */ const told = [];
  store.listen(({ kind }) => told.push(kind), new AbortController().signal);
  return { fake, store, told };
}

test("a store marks each token by the strongest chunk, and walks no further than the ends", () => {
  const { fake, store } = opened();
  assert.deepEqual(store.marks, [0, 1, null]);
  assert.deepEqual(store.changesOf(1), [-2, 3]);
  for (const [target, expected] of [
    [9, 2],
    [-4, 0],
    [1, 1],
  ]) {
    store.walkTo(target);
    assert.deepEqual([store.current, fake.get("selected"), store.selected], [expected, expected, [expected]]);
  }
  store.select([]);
  assert.deepEqual([store.current, store.selected, fake.saves], [null, [], 4]);
});

test("a chunk under the pointer is marked before the chosen one, and choosing it again ends that", () => {
  const { fake, store, told } = opened();
  store.preview(1);
  assert.deepEqual([store.chunk, fake.get("chosen")], [1, null]);
  store.choose(0);
  assert.deepEqual([store.chunk, fake.get("chosen")], [0, 0]);
  store.preview(1);
  store.preview(1);
  assert.equal(store.chunk, 1);
  store.preview(null);
  assert.equal(store.chunk, 0);
  store.choose(0);
  assert.deepEqual([store.chunk, fake.get("chosen")], [null, null]);
  assert.deepEqual(told, ["chunk", "chunk", "chunk", "chunk", "chunk"]);
});

test("a message with tokens and chunks is read once, and a state without chunks or selection is none", () => {
  const { fake, store, told } = opened({ tokens: [], chunks: [], selected: 4, chosen: 4, state: "waiting" });
  assert.deepEqual([store.current, store.chosen, store.chunk, store.isMeasured], [null, null, null, false]);
  store.walkTo(0);
  assert.equal(fake.saves, 0);
  fake.state.tokens = [[5, " a", -0.5, 1, 1]];
  fake.state.chunks = [chunk([])];
  fake.emit("change:tokens");
  fake.emit("change:chunks");
  assert.deepEqual([told, store.marks, store.changesOf(0)], [["reset"], [null], [null]]);
});
