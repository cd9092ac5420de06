// Editing: which part of a layer a cell stands for, and how keys move between the cells of layers and tokens.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ablatedBy, ablatedName } from "../../workbench/widgets/static/edit_parts.js";
import { spotAfter, spotName } from "../../workbench/widgets/static/layer_grid.js";

test("the first cells of a row are the parts of a layer and the others its heads", () => {
  const names = [0, 1, 2, 3, 11].map((column) => ablatedName(ablatedBy({ row: 7, column })));
  assert.deepEqual(names, [
    "all that layer 7 adds",
    "attention of layer 7",
    "MLP of layer 7",
    "head 0 of layer 7",
    "head 8 of layer 7",
  ]);
  assert.deepEqual(ablatedBy({ row: 2, column: 5 }), { part: "head", layer: 2, head: 2 });
});

test("the keys move up to higher layers, and not past the edges", () => {
  const at = { layer: 3, position: 4 };
  const after = (/** @type {string} */ key, spot = at) => spotAfter(key, spot, 6, 9);
  assert.deepEqual(after("ArrowUp"), { layer: 4, position: 4 });
  assert.deepEqual(after("ArrowDown"), { layer: 2, position: 4 });
  assert.deepEqual(after("ArrowLeft"), { layer: 3, position: 3 });
  assert.deepEqual(after("ArrowRight"), { layer: 3, position: 5 });
  assert.deepEqual(after("Home"), { layer: 3, position: 0 });
  assert.deepEqual(after("End"), { layer: 3, position: 8 });
  assert.deepEqual(after("ArrowUp", { layer: 5, position: 0 }), { layer: 5, position: 0 });
  assert.deepEqual(after("ArrowLeft", { layer: 0, position: 0 }), { layer: 0, position: 0 });
  assert.equal(after("Enter"), null);
});

test("a cell is named by its layer and its token", () => {
  assert.equal(spotName({ layer: 3, position: 1 }, ["a", " b\n"]), "Layer 3, token 2 “␣b⏎”");
});
