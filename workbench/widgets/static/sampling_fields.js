// Fields of the sampling controls: parsing, formatting and checking of their values.

/**
 * @typedef {"greedy" | "top_p" | "top_k"} Strategy
 *
 * @typedef {object} BaseParams  protocol.SamplingParams; `seed` is a string, because it may exceed 2**53
 * @property {Strategy} strategy
 * @property {string | null} seed
 * @property {string[]} stop
 *
 * @typedef {BaseParams & Record<string, any>} Params  with a number, or a `Bias`, for each field
 *
 * @typedef {Record<string, number>} Bias  by token id
 *
 * @typedef {{most_stops: number, stop_length: number, largest_seed: string}} Limits
 *
 * @typedef {object} Range
 * @property {number} low
 * @property {number | null} high  null: no limit
 * @property {boolean} above_low  whether `low` itself is not allowed
 * @property {boolean} is_whole
 * @property {number} [max_entries]  only for a `Bias`, whose numbers are in the range
 *
 * @typedef {object} Field  a row of Python's table of sampling stages
 * @property {string} name
 * @property {string} label
 * @property {string} help
 * @property {string} allowed  the range in words
 * @property {Range} range
 * @property {number} step
 * @property {number} decimals
 * @property {[number, number] | null} slider
 * @property {Strategy[]} usedBy
 * @property {number | null} neutral  the value that has no effect; null: an empty `Bias`
 * @property {boolean} inSummary  whether a summary names it by its label
 */

/** @type {{value: Strategy, text: string, title: string}[]} */
export const STRATEGIES = [
  { value: "greedy", text: "Greedy", title: "Always the most probable token" },
  { value: "top_p", text: "Top-p", title: "Samples from the most probable tokens that together reach top-p" },
  { value: "top_k", text: "Top-k", title: "Samples from the k most probable tokens" },
];

/** @param {number} value @param {Pick<Field, "range">} field */
export function isAllowed(value, { range: { low, high, above_low, is_whole } }) {
  const isEnough = above_low ? value > low : value >= low;
  return isEnough && (high === null || value <= high) && (!is_whole || Number.isSafeInteger(value));
}

/** @param {string} text @returns {number | null} null if it is not a number; a comma may be the decimal point */
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
 * Return the seed in the text as a string, null for none, undefined if it is invalid.
 * @param {string} text @param {Limits} limits
 */
export function seedIn(text, limits) {
  const digits = text.trim();
  if (digits === "") return null;
  if (!/^\d{1,19}$/.test(digits) || BigInt(digits) > BigInt(limits.largest_seed)) return undefined;
  return String(BigInt(digits));
}

/** Return the stop string of a typed text, with the escapes \n and \t replaced. @param {string} typed */
export function stopIn(typed) {
  return typed.replace(/\\n/g, "\n").replace(/\\t/g, "\t");
}

/**
 * Return the error message for one more stop string, "" if it is valid.
 * @param {string} text @param {string[]} stops @param {Limits} limits
 */
export function stopError(text, stops, { stop_length, most_stops }) {
  if (text === "") return "";
  if ([...text].length > stop_length) return `Enter at most ${stop_length} characters.`;
  return stops.length >= most_stops ? `At most ${most_stops} stop strings.` : "";
}

/**
 * Parse a bias such as "50: -100, 7: 2.5": {} for none, undefined if it is invalid or has an id twice.
 * @param {string} text @param {Pick<Field, "range">} field
 * @returns {Bias | undefined}
 */
export function biasIn(text, { range }) {
  const entries = text.split(",").filter((entry) => entry.trim() !== "");
  const pairs = entries.map((entry) => {
    const [, id = "", number = ""] = /^\s*(\d{1,15})\s*:(.*)$/.exec(entry) ?? [];
    return /** @type {const} */ ([String(Number(id || NaN)), numberIn(number)]);
  });
  const isGood = pairs.every(([id, value]) => id !== "NaN" && value !== null && isAllowed(value, { range }));
  if (!isGood || pairs.length > (range.max_entries ?? 0)) return undefined;
  const bias = Object.fromEntries(pairs.map(([id, value]) => [id, value ?? 0]));
  return Object.keys(bias).length === pairs.length ? bias : undefined;
}

/** Return a bias as text that `biasIn` parses. @param {Bias} bias */
export function biasWritten(bias) {
  return Object.entries(bias)
    .map(([id, value]) => `${id}: ${value}`)
    .join(", ");
}

/** @param {any} value @param {Pick<Field, "neutral" | "range">} field  "" if it has no effect */
function valueInWords(value, { neutral, range }) {
  if (range.max_entries === undefined) return value === neutral ? "" : String(value);
  const count = Object.keys(value).length;
  return count === 0 ? "" : `for ${count} token${count === 1 ? "" : "s"}`;
}

/** Return the settings of the next run in one line. @param {Params} params @param {Field[]} fields */
export function settingsInWords(params, fields) {
  const { strategy, temperature, top_p, top_k, max_tokens, seed, stop } = params;
  const drawn = { greedy: "greedy", top_p: `top-p ${top_p}`, top_k: `top-k ${top_k}` }[strategy];
  const others = fields.filter(
    (field) => field.inSummary && field.usedBy.includes(strategy) && valueInWords(params[field.name], field) !== "",
  );
  const settings = [
    drawn,
    strategy !== "greedy" && `temperature ${temperature}`,
    max_tokens > 0 ? `up to ${max_tokens} tokens` : "any length",
    ...others.map((field) => `${field.label.toLowerCase()} ${valueInWords(params[field.name], field)}`),
    seed !== null && `seed ${seed}`,
    stop.length > 0 && `stops at ${stop.map((text) => JSON.stringify(text)).join(", ")}`,
  ];
  return settings.filter(Boolean).join(" · ");
}

/**
 * Return the sampling that a model recommends in one line, such as "temperature 0.6 · top-p 0.95".
 * @param {Record<string, any>} recommended
 */
export function recommendedInWords(recommended) {
  return Object.entries(recommended)
    .filter(([name, value]) => name !== "strategy" || value === "greedy")
    .map(([name, value]) =>
      name === "strategy" ? value : `${name.replace(/^(top|min)_/, "$1-").replaceAll("_", " ")} ${value}`,
    )
    .join(" · ");
}

/**
 * Return the name of the preset with these parameters, "" if there is none.
 * @param {Record<string, Partial<Params>>} presets @param {Params} params
 */
export function presetOf(presets, params) {
  const values = new Map(Object.entries(params));
  const same = Object.entries(presets).find(([, preset]) =>
    Object.entries(preset).every(([name, value]) => values.get(name) === value),
  );
  return same?.[0] ?? "";
}
