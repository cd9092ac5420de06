// The branches of a prompt as lines.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PLANE_HEIGHT, barsPath, branchFacts, linePath, litPath } from "../../workbench/widgets/static/branch_lines.js";

/** @import { Branch } from "../../workbench/widgets/static/branch_lines.js" */

/** @param {Partial<Branch>} facts @returns {Branch} */
function branch(facts) {
  return {
    run: "r",
    name: 1,
    parent: null,
    at: 0,
    count: 10,
    total: 10,
    state: "finished",
    stop: "end_of_turn",
    own: null,
    instead: null,
    text: "",
    bits: [],
    perplexity: 2,
    shown: false,
    ...facts,
  };
}

test("the way to the shown branch is lit, each part to where the next one leaves it", () => {
  const branches = [
    branch({}),
    branch({ parent: 0, at: 4 }),
    branch({ parent: 1, at: 6, count: 9, shown: true }),
    branch({ parent: 0, at: 2 }),
  ];
  assert.deepEqual([...litPath(branches)].sort(), [
    [0, 4],
    [1, 6],
    [2, 9],
  ]);
  assert.equal(litPath(branches.slice(0, 2)).size, 0);
  assert.equal(litPath([]).size, 0);
});

test("every bar lies within the picture, however many tokens there are", () => {
  for (const total of [1, 2, 119, 120, 121, 5000]) {
    for (const at of [0, Math.floor(total / 3)]) {
      const columns = Math.min(120, total);
      const first = total <= 120 ? at : Math.floor((at * 120) / total);
      const path = barsPath(branch({ at, total, bits: Array.from({ length: columns - first }, (_, i) => i + 1) }));
      const bars = [...path.matchAll(/M([\d.]+) (\d+)v(-[\d.]+)h([\d.]+)v([\d.]+)z/g)].map((found) =>
        found.slice(1).map(Number),
      );
      assert.equal(bars.length, columns - first);
      for (const [left, foot, up, width, down] of bars) {
        assert.ok(left > at - total / columns && left + width <= total + 0.01, `${left} of ${total}`);
        assert.ok(foot + up >= 0 && foot <= PLANE_HEIGHT && up === -down);
      }
    }
  }
});

test("a branch tells its length, its perplexity and its end", () => {
  assert.deepEqual(branchFacts(branch({ shown: true })), ["10 tokens, perplexity 2.00", "end of turn, shown"]);
  assert.deepEqual(branchFacts(branch({ perplexity: null, stop: null, state: "queued" })), [
    "10 tokens",
    "waiting for the model",
  ]);
  assert.equal(linePath(2, 5), "M2 26H5v2H2z");
});
