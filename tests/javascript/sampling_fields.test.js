// What the fields of the sampling controls take, refuse and show.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import {
  STRATEGIES,
  biasIn,
  biasWritten,
  isAllowed,
  numberIn,
  presetOf,
  recommendedInWords,
  rounded,
  seedIn,
  settingsInWords,
  stopError,
  stopIn,
  written,
} from "../../workbench/widgets/static/sampling_fields.js";
import { random } from "./random.js";

/** @import { Field, Params } from "../../workbench/widgets/static/sampling_fields.js" */

/** @type {Field[]} */
const FIELDS = JSON.parse(readFileSync(new URL("cases/twins.json", import.meta.url), "utf8")).sampling_fields;
const NUMBERS = FIELDS.filter(({ range }) => range.max_entries === undefined);
const BIAS = FIELDS.find(({ name }) => name === "logit_bias") ?? assert.fail("logit_bias");
const LIMITS = { most_stops: 2, stop_length: 3, largest_seed: "9223372036854775807" };
/** @type {Params} */
const PARAMS = {
  strategy: "top_p",
  temperature: 0.7,
  top_p: 0.9,
  top_k: 40,
  max_tokens: 0,
  repetition_penalty: 1,
  min_p: 0,
  frequency_penalty: 0,
  presence_penalty: 0,
  logit_bias: {},
  seed: null,
  stop: [],
};

/** Whether a field takes what is typed. @param {string} label @param {string} typed */
function takes(label, typed) {
  const field = FIELDS.find((one) => one.label === label) ?? assert.fail(label);
  const value = numberIn(typed);
  return value !== null && isAllowed(value, field);
}

test("a field takes what is in its range and nothing else", () => {
  /** @type {Record<string, {good: string[], bad: string[]}>} */
  const typed = {
    Temperature: { good: ["0", "1e6", "0,9", ".5", "1.", " 2 "], bad: ["-1", "nan", "1e999", "1000001", "", "1.2.3"] },
    "Top-p": { good: ["1", "0.01", "1e-9"], bad: ["1.5", "0", "-0.1", "Infinity"] },
    "Top-k": { good: ["0", "40"], bad: ["-1", "0.5", "9007199254740993"] },
    "Min-p": { good: ["0", "1", "0.05"], bad: ["-0.1", "1.01", "nan"] },
    "Max tokens": { good: ["0", "70", "1e3"], bad: ["2.5", "-1", "0x10", "١"] },
    "Repetition penalty": { good: ["1", "0.1"], bad: ["0", "-1", "one"] },
    "Frequency penalty": { good: ["-2", "2", "0.5"], bad: ["2.1", "-2.1", "x"] },
    "Presence penalty": { good: ["-2", "2", "0.5"], bad: ["2.1", "-2.1", "x"] },
  };
  assert.deepEqual(Object.keys(typed).sort(), NUMBERS.map(({ label }) => label).sort());
  for (const [label, { good, bad }] of Object.entries(typed)) {
    for (const text of good) assert.ok(takes(label, text), `${label}: ${text}`);
    for (const text of bad) assert.ok(!takes(label, text), `${label}: ${text}`);
  }
});

test("what is written is read back as the same number", () => {
  const draw = random(3);
  for (const field of NUMBERS) {
    for (let i = 0; i < 300; i += 1) {
      const value = draw() * 10 ** Math.floor(draw() * 12 - 6);
      assert.equal(numberIn(written(value, field)), value);
    }
  }
  assert.deepEqual(
    [written(0.7, { decimals: 2 }), written(0.123, { decimals: 2 }), written(40, { decimals: 0 })],
    ["0.70", "0.123", "40"],
  );
});

test("steps by arrow key add up to round numbers", () => {
  for (const { step } of NUMBERS) {
    let value = 0;
    for (let i = 1; i <= 200; i += 1) {
      value = rounded(value + step);
      assert.ok(Math.abs(value - i * step) < 1e-9);
      assert.ok(String(value).length <= 6, String(value));
    }
  }
});

test("a bias is a list of token ids with a number each, and is read back as it was written", () => {
  assert.deepEqual(biasIn("50: -100, 7:2.5", BIAS), { 50: -100, 7: 2.5 });
  assert.deepEqual(biasIn(" 007 : +1 ,", BIAS), { 7: 1 });
  assert.deepEqual(biasIn("  ", BIAS), {});
  for (const typed of [
    "50",
    "50:",
    ":1",
    "x: 1",
    "5.5: 1",
    "-5: 1",
    "5: 101",
    "5: -100.5",
    "5: nan",
    "5: 1; 6: 2",
    "5: 1, 05: 2",
  ]) {
    assert.equal(biasIn(typed, BIAS), undefined, typed);
  }
  const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [i, 100 - i / 3]));
  assert.deepEqual(biasIn(biasWritten(many), BIAS), many);
  assert.equal(biasIn(`${biasWritten(many)}, 300: 1`, BIAS), undefined);
  assert.equal(biasWritten({}), "");
});

test("a seed is a whole number up to the largest, told without leading zeros, or none", () => {
  assert.equal(seedIn("  ", LIMITS), null);
  assert.equal(seedIn("9223372036854775807", LIMITS), "9223372036854775807");
  assert.equal(seedIn(" 007", LIMITS), "7");
  for (const typed of ["-3", "9223372036854775808", "99999999999999999999", "1.5", "1e3", "x", "٣"]) {
    assert.equal(seedIn(typed, LIMITS), undefined, typed);
  }
});

test("a stop string may be a line end, and is refused where it is too long or one too many", () => {
  assert.equal(stopIn("\\nUser:\\t\\\\"), "\nUser:\t\\\\");
  assert.equal(stopError("", ["a", "b"], LIMITS), "");
  assert.equal(stopError("😀😀😀", [], LIMITS), "");
  assert.equal(stopError("abcd", [], LIMITS), "Enter at most 3 characters.");
  assert.equal(stopError("a", ["a", "b"], LIMITS), "At most 2 stop strings.");
});

test("a preset is recognised by all that it sets", () => {
  const presets = { Exact: { strategy: /** @type {const} */ ("greedy") }, Neutral: { temperature: 1, top_p: 1 } };
  assert.equal(presetOf(presets, PARAMS), "");
  assert.equal(presetOf(presets, { ...PARAMS, temperature: 1, top_p: 1 }), "Neutral");
  assert.equal(presetOf(presets, { ...PARAMS, temperature: 1 }), "");
  assert.equal(presetOf(presets, { ...PARAMS, strategy: "greedy", temperature: 1, top_p: 1 }), "Exact");
});

test("every strategy is used by a field that others ignore or is greedy", () => {
  const chosen = FIELDS.filter(({ usedBy }) => usedBy.length < STRATEGIES.length);
  for (const { value } of STRATEGIES) {
    assert.equal(value === "greedy", !chosen.some(({ usedBy }) => usedBy.includes(value)));
  }
});

test("the settings are one line, without what changes nothing", () => {
  const all = { ...PARAMS, max_tokens: 64, repetition_penalty: 1.2, seed: "7", stop: ["\n", "end"] };
  assert.equal(settingsInWords(PARAMS, FIELDS), "top-p 0.9 · temperature 0.7 · any length");
  assert.equal(
    settingsInWords(all, FIELDS),
    'top-p 0.9 · temperature 0.7 · up to 64 tokens · repetition penalty 1.2 · seed 7 · stops at "\\n", "end"',
  );
  const greedy = settingsInWords({ ...all, strategy: "greedy", stop: [] }, FIELDS);
  assert.ok(greedy.startsWith("greedy · up to 64 tokens"));
  const penalties = { ...PARAMS, min_p: 0.1, repetition_penalty: 1.2, frequency_penalty: -0.5, presence_penalty: 0.5 };
  assert.equal(
    settingsInWords(penalties, FIELDS),
    "top-p 0.9 · temperature 0.7 · any length · min-p 0.1 · repetition penalty 1.2 · frequency penalty -0.5 · " +
      "presence penalty 0.5",
  );
  const biased = { ...PARAMS, logit_bias: { 50: -100, 7: 1 } };
  assert.equal(settingsInWords(biased, FIELDS), "top-p 0.9 · temperature 0.7 · any length · logit bias for 2 tokens");
  assert.ok(settingsInWords({ ...biased, logit_bias: { 7: 1 } }, FIELDS).endsWith("logit bias for 1 token"));
  const cut = { ...PARAMS, min_p: 0.05 };
  assert.equal(settingsInWords(cut, FIELDS), "top-p 0.9 · temperature 0.7 · any length · min-p 0.05");
  assert.equal(settingsInWords({ ...cut, strategy: "greedy" }, FIELDS), "greedy · any length");
  assert.equal(settingsInWords({ ...PARAMS, strategy: "top_k" }, FIELDS), "top-k 40 · temperature 0.7 · any length");
});

test("what a model recommends is one line of its names and numbers", () => {
  const sampled = { strategy: "top_p", temperature: 0.6, top_p: 0.95, min_p: 0.05, repetition_penalty: 1.1 };
  assert.equal(recommendedInWords(sampled), "temperature 0.6 · top-p 0.95 · min-p 0.05 · repetition penalty 1.1");
  assert.equal(recommendedInWords({ strategy: "greedy" }), "greedy");
});
