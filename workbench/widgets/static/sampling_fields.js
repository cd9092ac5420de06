// The fields of the sampling controls: what each takes, and how what is typed becomes a value and back.

/**
 * @typedef {"greedy" | "top_p" | "top_k"} Strategy
 *
 * @typedef {object} Params  protocol.SamplingParams; `seed` travels as text, because it may exceed 2**53
 * @property {Strategy} strategy
 * @property {number} temperature
 * @property {number} top_p
 * @property {number} top_k
 * @property {number} max_tokens
 * @property {number} repetition_penalty
 * @property {string | null} seed
 * @property {string[]} stop
 *
 * @typedef {{most_stops: number, stop_length: number, largest_seed: string}} Limits
 *
 * @typedef {object} Field
 * @property {"temperature" | "top_p" | "top_k" | "max_tokens" | "repetition_penalty"} name
 * @property {string} label
 * @property {string} help
 * @property {string} allowed
 * @property {(value: number) => boolean} isAllowed
 * @property {number} step
 * @property {number} [decimals]
 * @property {[number, number]} [slider]
 * @property {Strategy[]} [usedBy]  all of them where it is absent
 */

/** @type {Field[]} */
export const FIELDS = [
  {
    name: "temperature",
    label: "Temperature",
    step: 0.05,
    decimals: 2,
    slider: [0, 2],
    usedBy: ["top_p", "top_k"],
    help: "Divides the logits: below 1 the likely tokens gain, above 1 the unlikely ones. 0 is greedy.",
    allowed: "a number from 0 to 1,000,000",
    isAllowed: (value) => value >= 0 && value <= 1e6,
  },
  {
    name: "top_p",
    label: "Top-p",
    step: 0.01,
    decimals: 2,
    slider: [0.01, 1],
    usedBy: ["top_p"],
    help: "Keeps the most probable tokens that together reach this probability. 1 keeps all.",
    allowed: "a number above 0 and at most 1",
    isAllowed: (value) => value > 0 && value <= 1,
  },
  {
    name: "top_k",
    label: "Top-k",
    step: 1,
    usedBy: ["top_k"],
    help: "Keeps this many of the most probable tokens. 0 keeps all.",
    allowed: "a whole number, 0 or above",
    isAllowed: isCount,
  },
  {
    name: "max_tokens",
    label: "Max tokens",
    step: 16,
    help: "Stops after this many tokens. 0 sets no limit but the model's context.",
    allowed: "a whole number, 0 or above",
    isAllowed: isCount,
  },
  {
    name: "repetition_penalty",
    label: "Repetition penalty",
    step: 0.05,
    decimals: 2,
    help: "Above 1, tokens that have already occurred become less likely. 1 is off.",
    allowed: "a number above 0",
    isAllowed: (value) => value > 0,
  },
];
/** @type {{value: Strategy, text: string, title: string}[]} */
export const STRATEGIES = [
  { value: "greedy", text: "Greedy", title: "Always the most probable token" },
  { value: "top_p", text: "Top-p", title: "Samples from the most probable tokens that together reach top-p" },
  { value: "top_k", text: "Top-k", title: "Samples from the k most probable tokens" },
];

/** @param {number} value */
function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

/** @param {string} text @returns {number | null} null where it is no number; a comma may be the decimal point */
export function numberIn(text) {
  const plain = text.trim().replace(",", ".");
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain) && Number.isFinite(Number(plain)) ? Number(plain) : null;
}

/** @param {number} value @param {Pick<Field, "decimals">} field */
export function written(value, { decimals }) {
  const short = decimals ? value.toFixed(decimals) : String(value);
  return Number(short) === value ? short : String(value);
}

/** @param {number} value @param {number} [decimals] */
export function rounded(value, decimals = 2) {
  return Number(value.toFixed(decimals));
}

/**
 * A seed as it travels, null for none, undefined where the text is no seed.
 * @param {string} text @param {Limits} limits
 */
export function seedIn(text, limits) {
  const digits = text.trim();
  if (digits === "") return null;
  if (!/^\d{1,19}$/.test(digits) || BigInt(digits) > BigInt(limits.largest_seed)) return undefined;
  return String(BigInt(digits));
}

/** The stop string that was typed: \n and \t stand for what cannot be. @param {string} typed */
export function stopIn(typed) {
  return typed.replace(/\\n/g, "\n").replace(/\\t/g, "\t");
}

/**
 * What is wrong with one more stop string, "" if nothing is.
 * @param {string} text @param {string[]} stops @param {Limits} limits
 */
export function stopError(text, stops, { stop_length, most_stops }) {
  if (text === "") return "";
  if ([...text].length > stop_length) return `Enter at most ${stop_length} characters.`;
  return stops.length >= most_stops ? `At most ${most_stops} stop strings.` : "";
}

/** The settings of the next run, in one line. @param {Params} params */
export function settingsInWords({ strategy, temperature, top_p, top_k, max_tokens, repetition_penalty, seed, stop }) {
  const drawn = { greedy: "greedy", top_p: `top-p ${top_p}`, top_k: `top-k ${top_k}` }[strategy];
  const settings = [
    drawn,
    strategy !== "greedy" && `temperature ${temperature}`,
    max_tokens > 0 ? `up to ${max_tokens} tokens` : "any length",
    repetition_penalty !== 1 && `repetition penalty ${repetition_penalty}`,
    seed !== null && `seed ${seed}`,
    stop.length > 0 && `stops at ${stop.map((text) => JSON.stringify(text)).join(", ")}`,
  ];
  return settings.filter(Boolean).join(" · ");
}

/**
 * Name of the preset that the parameters are, "" if they are none.
 * @param {Record<string, Partial<Params>>} presets @param {Params} params
 */
export function presetOf(presets, params) {
  const values = new Map(Object.entries(params));
  const same = Object.entries(presets).find(([, preset]) =>
    Object.entries(preset).every(([name, value]) => values.get(name) === value),
  );
  return same?.[0] ?? "";
}
