// What is said of the models that other programs have downloaded.

import assert from "node:assert/strict";
import { test } from "node:test";

import { factsInWords, registered } from "../../workbench/widgets/static/found_models.js";

/** @import { Found } from "../../workbench/widgets/static/found_models.js" */

/** @type {Found} */
const FOLDER = {
  name: "org/tiny",
  place: "Hugging Face",
  format: "safetensors",
  path: "/hub/tiny",
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

test("a folder is served by its name in the precision that fits, and a file by its path in its own", () => {
  assert.deepEqual(registered(FOLDER), { source: "org/tiny", name: "", precision: null });
  assert.equal(registered({ ...FOLDER, fits_in: "int4" }).precision, "int4");
  const file = { ...FOLDER, format: /** @type {const} */ ("gguf"), path: "/blobs/sha256-74", fits_in: "Q4_K_M" };
  assert.deepEqual(registered(file), { source: "/blobs/sha256-74", name: "", precision: null });
  const ollama = { ...file, place: "Ollama", name: "hf.co/someone/gemma:Q4_K_M" };
  assert.deepEqual(registered(ollama), { source: "hf.co/someone/gemma:Q4_K_M", name: "", precision: null });
});
