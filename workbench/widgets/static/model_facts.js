// The facts of a model card in words.

import { byteSize } from "./format.js";
import { recommendedInWords } from "./sampling_fields.js";

/**
 * @typedef {object} Card  facts of one model; null if unknown
 * @property {string} value  value of the trait `value` when it is chosen
 * @property {string} identifier
 * @property {string} provider_id
 * @property {string} provider_type
 * @property {string} source
 * @property {string} kind
 * @property {string | null} architecture
 * @property {number | null} parameters
 * @property {string | null} precision
 * @property {string | null} [decoder]
 * @property {string | null} device
 * @property {number | null} context_length
 * @property {boolean} has_chat_template
 * @property {string | null} template_sha256
 * @property {string | null} tool_syntax
 * @property {string | null} licence
 * @property {Record<string, any> | null} [sampling_defaults]  what its files recommend
 * @property {boolean} loaded
 * @property {number | null} memory_bytes
 * @property {number | null} predicted_memory_bytes
 * @property {number | null} memory_limit_bytes
 */

/**
 * Return the memory that a model takes or would take: text before the size, the size, text after it; null if unknown.
 * @param {Card} card
 * @returns {[string, string, string] | null}
 */
export function memoryInWords({ loaded, memory_bytes, predicted_memory_bytes, memory_limit_bytes }) {
  const memory = loaded ? memory_bytes : predicted_memory_bytes;
  if (memory === null) return null;
  const limit = memory_limit_bytes === null ? "" : ` of ${byteSize(memory_limit_bytes)}`;
  return loaded ? ["", byteSize(memory), limit] : ["about ", byteSize(memory), `${limit} when loaded`];
}

const STAGES = /** @type {Record<string, string>} */ ({
  wait: "waiting for another download of this model",
  download: "downloaded",
  unpack: "unpacked",
  convert: "converted",
  record: "checking the files",
});

/**
 * Return how far the files of a model are, such as "120 MB of 2300 MB downloaded"; empty without a download.
 * @param {{stage?: string, done?: number, total?: number | null}} registration
 */
export function downloadInWords({ stage, done = 0, total }) {
  if (stage === undefined) return "";
  return total ? `${byteSize(done)} of ${byteSize(total)} ${STAGES[stage] ?? stage}` : (STAGES[stage] ?? stage);
}

/** Return the terms and values of a card, without unknown ones. @param {Card} card */
export function cardRows(card) {
  const size = (/** @type {number | null} */ bytes) => (bytes === null ? null : byteSize(bytes));
  /** @type {[string, string | null][]} */
  const rows = [
    ["Provider", `${card.provider_id} (${card.provider_type})`],
    ["Source", card.source],
    ["Architecture", card.architecture],
    ["Parameters", card.parameters === null ? null : card.parameters.toLocaleString("en-US")],
    ["Precision", card.precision],
    ["Decoder", decoderInWords(card)],
    ["Device", card.device],
    ["Context", card.context_length === null ? null : `${card.context_length.toLocaleString("en-US")} tokens`],
    ["Chat template", templateInWords(card)],
    ["Tool calls", card.tool_syntax === "tool_prompt_format" ? "per request" : card.tool_syntax],
    ["License", card.licence],
    ["Own sampling", card.sampling_defaults ? recommendedInWords(card.sampling_defaults) : null],
    ["Memory now", card.loaded ? size(card.memory_bytes) : "not loaded"],
    ["Predicted memory", size(card.predicted_memory_bytes)],
    ["Memory limit", size(card.memory_limit_bytes)],
  ];
  return rows.flatMap(([term, value]) => (value === null ? [] : [{ term, value }]));
}

/** @type {Record<string, string>} */
const DECODERS = {
  fused: "compiled for this CPU",
  device: "torch's kernels on its device",
  general: "transformers' own forward pass",
};

/** @param {Card} card */
function decoderInWords({ decoder }) {
  if (!decoder) return null;
  return DECODERS[decoder] ?? DECODERS.general;
}

/** @param {Card} card */
function templateInWords({ template_sha256, has_chat_template }) {
  if (template_sha256 !== null) return `SHA-256 ${template_sha256.slice(0, 12)}`;
  return has_chat_template ? "yes" : "no";
}
