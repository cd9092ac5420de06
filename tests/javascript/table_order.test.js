// Which rows of a token table are shown, in which order.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { tokenOf } from "../../workbench/widgets/static/run_wire.js";
import { COLUMNS, orderAfter, sortedAs, stretch } from "../../workbench/widgets/static/table_columns.js";
import { misreadIn, tableRows } from "../../workbench/widgets/static/table_order.js";

/**
 * @import { Unit } from "../../workbench/widgets/static/format.js"
 * @import { WireToken } from "../../workbench/widgets/static/run_wire.js"
 * @import { Order, SortField } from "../../workbench/widgets/static/table_columns.js"
 */

/** @type {{table: {tokens: WireToken[], rows: [string, SortField, boolean, Unit, number[]][]}}} */
const { table } = JSON.parse(readFileSync(new URL("cases/twins.json", import.meta.url), "utf8"));
const TOKENS = table.tokens.map(tokenOf);
const FIELDS = COLUMNS.flatMap(({ field }) => (field === null ? [] : [field]));

test("the page and Python agree on which rows are shown and in which order", () => {
  for (const [query, sortBy, descending, unit, expected] of table.rows) {
    const rows = tableRows(TOKENS, { sortBy, descending, query, unit });
    assert.deepEqual(
      rows,
      expected,
      `${JSON.stringify(query)} by ${sortBy}${descending ? ", descending" : ""}, ${unit}`,
    );
  }
  assert.deepEqual(new Set(table.rows.map(([, sortBy]) => sortBy)), new Set(FIELDS));
});

test("an order loses no row, and turning it round leaves the unknown at the end", () => {
  for (const sortBy of FIELDS) {
    const up = tableRows(TOKENS, { sortBy, descending: false, query: "", unit: "bits" });
    const down = tableRows(TOKENS, { sortBy, descending: true, query: "", unit: "bits" });
    for (const rows of [up, down])
      assert.deepEqual(
        [...rows].sort((a, b) => a - b),
        [...TOKENS.keys()],
      );
    if (["probability", "surprisal", "entropy", "rank"].includes(sortBy)) {
      assert.deepEqual([up.at(-1), down.at(-1)], [TOKENS.length - 1, TOKENS.length - 1]);
    }
  }
});

test("a query leaves what each of its words leaves", () => {
  const rows = (/** @type {string} */ query) =>
    tableRows(TOKENS, { sortBy: "position", descending: false, query, unit: "bits" });
  for (const one of ["a", "rank=1", "entropy>1"]) {
    for (const other of ["␣", "position<40", "probability>10%"]) {
      const both = rows(other).filter((row) => rows(one).includes(row));
      assert.deepEqual(rows(`${one}  ${other}`), both);
    }
  }
});

test("what is shown in a unit is compared in it, and a logprob in nats always", () => {
  const one = [{ ...TOKENS[0], logprob: -1, entropy: 1 }];
  const holds = (/** @type {string} */ query, /** @type {Unit} */ unit) =>
    tableRows(one, { sortBy: "position", descending: false, query, unit }).length === 1;
  for (const name of ["surprisal", "entropy"]) {
    assert.deepEqual([holds(`${name}>1.2`, "bits"), holds(`${name}>1.2`, "nats")], [true, false]);
  }
  assert.deepEqual([holds("logprob=-1", "bits"), holds("logprob=-1", "nats")], [true, true]);
});

test("a press sorts, a second turns the order round, a third gives it up", () => {
  /** @type {Order} */ const given = { sortBy: "position", descending: false };
  for (const field of FIELDS) {
    const first = orderAfter(given, field);
    const second = orderAfter(first, field);
    assert.equal(second.descending, !first.descending);
    assert.deepEqual(field === "position" ? second : orderAfter(second, field), given);
    assert.equal(sortedAs(first, field), first.descending ? "descending" : "ascending");
    assert.deepEqual(
      FIELDS.filter((other) => sortedAs(first, other) !== null),
      [field],
    );
  }
  assert.deepEqual(
    FIELDS.filter((field) => orderAfter({ sortBy: "text", descending: false }, field).descending),
    ["position", "text", "surprisal", "rank", "entropy"],
  );
  assert.equal(sortedAs(given, "position"), null);
  assert.equal(sortedAs(given, null), null);
  assert.deepEqual(orderAfter({ sortBy: "text", descending: true }, "rank"), { sortBy: "rank", descending: true });
});

test("a stretch ends where the last press was", () => {
  assert.deepEqual([stretch(2, 4), stretch(4, 2), stretch(3, 3)], [[2, 3, 4], [4, 3, 2], [3]]);
});

test("a word that is meant as a comparison and is none is named", () => {
  for (const word of ["rank>", "rank>>3", "rank>x", "ranks>3", "probability<0,1", "Rank>3", "rank=>3"])
    assert.equal(misreadIn(`a ${word} b`), word);
  for (const query of ["", "word", "=>", "<|end|>", "rank>3 probability<10%", "1>2"])
    assert.equal(misreadIn(query), "");
});
