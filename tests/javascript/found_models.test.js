// What is said of the models that other programs have downloaded.

import assert from "node:assert/strict";
import { test } from "node:test";

import { factsInWords } from "../../workbench/widgets/static/found_models.js";

/** @import { Found } from "../../workbench/widgets/static/found_models.js" */

/** @type {Found} */
const FOLDER = {
  name: "org/tiny",
  place: "Hugging Face",
  architecture: "LlamaForCausalLM",
  parameters: 1_240_000_000,
  precision: "BF16",
  size_bytes: 2_480_000_000,
  fits_in: "float32",
  memory_bytes: 4_960_000_000,
  problem: "",
};

test("the facts of a model are one line, without those that are unknown", () => {
  const facts = "Hugging Face · LlamaForCausalLM · 1.2 B · BF16 · 2.5 GB · about 5 GB in float32";
  assert.equal(factsInWords(FOLDER), facts);
  assert.equal(
    factsInWords({ ...FOLDER, fits_in: "int4", memory_bytes: 900e6 }),
    facts.replace("5 GB in float32", "900 MB in int4"),
  );
  assert.equal(
    factsInWords({ ...FOLDER, fits_in: null }),
    facts.replace("about 5 GB in float32", "too large for this machine's memory"),
  );
  const unknown = { architecture: null, parameters: null, precision: null, fits_in: null, memory_bytes: null };
  assert.equal(factsInWords({ ...FOLDER, ...unknown, place: "model_folders" }), "your folders · 2.5 GB");
});

test("a file that fits in its own precision just fits", () => {
  assert.ok(factsInWords({ ...FOLDER, precision: "Q4_K_M", fits_in: "Q4_K_M" }).endsWith(" · fits in memory"));
});
