// Attention: what the page says as its static twin does, and the state that the parts of the view share.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { AttentionStore } from "../../workbench/widgets/static/attention_store.js";
import * as attention from "../../workbench/widgets/static/attention_words.js";
import { indexAt } from "../../workbench/widgets/static/token_line.js";
import { FakeModel } from "./fake_page.js";

/**
 * @import { AttentionState } from "../../workbench/widgets/static/attention_store.js"
 * @import { Store } from "../../workbench/widgets/static/run_feed.js"
 */

/** @type {{attention: [keyof typeof attention, unknown[], unknown][]}} */
const twins = JSON.parse(readFileSync(new URL("cases/twins.json", import.meta.url), "utf8"));

test("the page sorts, sums up and names as its static twin does", () => {
  for (const [name, given, expected] of twins.attention) {
    const answer = /** @type {(...given: unknown[]) => unknown} */ (attention[name])(...given);
    assert.deepEqual(answer, expected, `${name}(${JSON.stringify(given)})`);
  }
  assert.ok(twins.attention.length > 100);
});

test("the number in a cell is short and its color follows it", () => {
  assert.equal(attention.headDigits(0.426, "first", "bits"), "43");
  assert.equal(attention.headDigits(Math.LN2, "entropy", "bits"), "1.0");
  assert.equal(attention.headDigits(null, "entropy", "bits"), "–");
  assert.equal(attention.headStrength(0.4, "previous", 9), 0.4);
  assert.equal(attention.headStrength(2, "entropy", 4), 0.5);
  assert.equal(attention.headStrength(0, "entropy", 0), 0);
  assert.equal(attention.headStrength(null, "first", 1), 0);
});

/** @param {Partial<AttentionState>} [state] */
function storeWith(state = {}) {
  const tokens = [{ label: " sky" }, { label: " is" }];
  const feed = /** @type {Store} */ (/** @type {unknown} */ ({ tokens, unit: "bits", listen() {} }));
  const model = new FakeModel({
    prompt: ["Why", "?"],
    shape: [6, 4],
    layer: 0,
    head: 0,
    position: 3,
    row: {},
    message: "",
    heads: [],
    ...state,
  });
  return { store: new AttentionStore(/** @type {any} */ (model), feed), model };
}

test("the tokens are those of the prompt and, after them, of the answer", () => {
  const { store } = storeWith();
  assert.equal(store.count, 4);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((at) => store.label(at)),
    ["Why", "?", " sky", " is", ""],
  );
});

test("weights are shown for the choice alone", () => {
  const row = { layer: 0, head: 0, position: 3, weights: [1, 0, 0, 0] };
  assert.deepEqual(storeWith({ row }).store.row, row);
  assert.equal(storeWith({ row, head: 1 }).store.row, null);
  assert.equal(storeWith({ row, layer: 1 }).store.row, null);
  assert.equal(storeWith({ row, position: 2 }).store.row, null);
  assert.equal(storeWith({ position: 9 }).store.position, null);
});

test("a choice stays within the tokens and the heads", () => {
  const { store, model } = storeWith();
  store.choose(99);
  assert.equal(model.get("position"), 3);
  store.choose(-1);
  assert.equal(model.get("position"), 0);
  store.chooseHead(9, -9);
  assert.deepEqual([model.get("layer"), model.get("head")], [5, 0]);
});

test("the token at a place is the last one that begins before it", () => {
  const edges = [0, 10, 30, 60];
  assert.deepEqual(
    [-5, 0, 9, 10, 29, 30, 59, 60, 99].map((x) => indexAt(edges, x)),
    [0, 0, 0, 1, 1, 2, 2, 3, 3],
  );
});
