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
 * @property {string | null} [adapter]  folder of the adapter that is merged into the model
 * @property {number | null} [adapter_rank]
 * @property {number | null} [adapted_layers]
 * @property {string} kind
 * @property {string | null} architecture
 * @property {number | null} parameters
 * @property {string | null} precision
 * @property {string | null} [decoder]
 * @property {string | null} device
 * @property {string | null} [device_why]  why it was chosen
 * @property {DeviceProof | null} [device_proof]  what a device other than the CPU showed when the model was loaded
 * @property {number | null} context_length
 * @property {boolean} has_chat_template
 * @property {string | null} template_sha256
 * @property {string | null} tool_syntax
 * @property {string | null} licence
 * @property {Record<string, any> | null} [sampling_defaults]  what its files recommend
 * @property {string[]} [notes]  what a reader should know, such as features that are switched off
 * @property {boolean} loaded
 * @property {number | null} memory_bytes
 * @property {number | null} predicted_memory_bytes
 * @property {number | null} memory_limit_bytes
 *
 * @typedef {object} DeviceProof
 * @property {string} dtype
 * @property {number} kl  nats
 * @property {boolean} argmax_equal
 * @property {number} tokens_per_second
 * @property {number} cpu_tokens_per_second
 * @property {string[]} notes  such as that the CPU is faster
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
    ["Adapter", adapterInWords(card)],
    ["Architecture", card.architecture],
    ["Parameters", card.parameters === null ? null : card.parameters.toLocaleString("en-US")],
    ["Precision", card.precision],
    ["Decoder", decoderInWords(card)],
    ["Device", card.device && card.device_why ? `${card.device} (${card.device_why})` : card.device],
    ["Device beside the CPU", card.device_proof ? proofInWords(card.device_proof) : null],
    ["Context", card.context_length === null ? null : `${card.context_length.toLocaleString("en-US")} tokens`],
    ["Chat template", templateInWords(card)],
    ["Tool calls", card.tool_syntax === "tool_prompt_format" ? "per request" : card.tool_syntax],
    ["License", card.licence],
    ["Own sampling", card.sampling_defaults ? recommendedInWords(card.sampling_defaults) : null],
    ["Memory now", card.loaded ? size(card.memory_bytes) : "not loaded"],
    ["Predicted memory", size(card.predicted_memory_bytes)],
    ["Memory limit", size(card.memory_limit_bytes)],
    ["Notes", card.notes?.length ? card.notes.join("; ") : null],
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
function adapterInWords({ adapter, adapter_rank, adapted_layers }) {
  if (!adapter) return null;
  const matrices = adapted_layers === 1 ? "1 matrix" : `${adapted_layers} matrices`;
  return adapter_rank ? `${adapter} (rank ${adapter_rank}, ${matrices})` : adapter;
}

/** @param {Card} card */
function decoderInWords({ decoder }) {
  if (!decoder) return null;
  return DECODERS[decoder] ?? DECODERS.general;
}

/** @param {DeviceProof} proof */
function proofInWords({ dtype, kl, argmax_equal, tokens_per_second, cpu_tokens_per_second, notes }) {
  const tokens = argmax_equal ? "the same most probable tokens" : "other most probable tokens";
  const exact = `${dtype}: ${tokens} as float32, KL divergence ${kl.toPrecision(2)} nat`;
  const speed = `${Math.round(tokens_per_second)} tokens/s, the CPU ${Math.round(cpu_tokens_per_second)}`;
  return [exact, speed, ...notes].join("; ");
}

/** @param {Card} card */
function templateInWords({ template_sha256, has_chat_template }) {
  if (template_sha256 !== null) return `SHA-256 ${template_sha256.slice(0, 12)}`;
  return has_chat_template ? "yes" : "no";
}
