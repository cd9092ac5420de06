// Numbers and tokens in words: as Python's twin says them, and what holds for any of them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as format from "../../workbench/widgets/static/format.js";

/** @type {{format: [keyof typeof format, unknown[], unknown][]}} */
const twins = JSON.parse(readFileSync(new URL("cases/twins.json", import.meta.url), "utf8"));

test("the page says what its static twin says", () => {
  for (const [name, given, expected] of twins.format) {
    const answer = /** @type {(...given: unknown[]) => unknown} */ (format[name])(...given);
    if (typeof expected === "number") assert.ok(Math.abs(Number(answer) - expected) < 2e-9, `${name}(${given})`);
    else assert.equal(answer, expected, `${name}(${JSON.stringify(given)})`);
  }
  assert.ok(twins.format.length > 800);
});

test("what nobody knows is a dash", () => {
  assert.deepEqual(
    [format.percentOf(null), format.fixed(null, 2), format.fixed(undefined, 2), format.divergence(null, "bits")],
    ["–", "–", "–", "–"],
  );
  assert.equal(format.information(null, "nats", 1), "–");
  assert.deepEqual([format.bits(null), format.surprisal(null), format.inUnit(null, "bits")], [null, null, null]);
});

test("no token is invisible, and none looks like another", () => {
  const seen = new Map();
  for (let code = 0; code < 0x3000; code += 1) {
    const char = String.fromCodePoint(code);
    const shown = format.visible(char);
    assert.match(shown, /^[^\s\p{Cc}\p{Cf}]+$/u);
    // Symbols that stand for others may be tokens themselves.
    if (!/[␀-␣⏎⇥]/u.test(char)) assert.ok(!seen.has(shown), `U+${code.toString(16)} looks like ${seen.get(shown)}`);
    seen.set(shown, code);
  }
});

test("colour is nothing at certainty, grows with surprise, and stays between 0 and 1", () => {
  for (const color of /** @type {format.ColorBy[]} */ (["surprisal", "probability", "entropy", "none"])) {
    let before = 0;
    for (let surprisal = 0; surprisal < 30; surprisal += 0.1) {
      const strength = format.strength(-surprisal, surprisal, color);
      assert.ok(strength >= before && strength <= 1);
      before = strength;
    }
    assert.equal(format.strength(0, 0, color), 0);
    assert.equal(format.strength(null, null, color), 0);
  }
});

test("sizes are told in the unit that a reader expects", () => {
  assert.deepEqual([412e3, 999.4e3, 999.5e3, 999.4e6, 999.5e6, 2e9, 2.25e9].map(format.byteSize), [
    "412 kB",
    "999 kB",
    "1 MB",
    "999 MB",
    "1 GB",
    "2 GB",
    "2.3 GB",
  ]);
  assert.deepEqual([0, 1, 10, 11].map(format.inWords), ["none", "one", "ten", "11"]);
});
