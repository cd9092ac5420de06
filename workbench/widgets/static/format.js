// Formatting of numbers and tokens; a test compares it with widgets/format.py.

/** Return a text with visible white space and control characters, so that different tokens look different. @param {string} text */
export function visible(text) {
  const alone = [...text].length === 1;
  return text.replace(/[\s\p{Cc}\p{Cf}]/gu, (char) => {
    const code = /** @type {number} */ (char.codePointAt(0));
    if (char === " ") return "␣";
    if (char === "\n") return "⏎";
    if (char === "\t") return "⇥";
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    if (code === 0x7f) return "␡";
    // The zero-width joiner of emoji is invisible when alone.
    if (code === 0x200d && !alone) return char;
    return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** @param {number | null} logprob */
export function percentOf(logprob) {
  return logprob === null ? "–" : percent(Math.exp(logprob));
}

/** Return a number with three significant digits. @param {number} probability */
export function percent(probability) {
  if (probability >= 0.9995) return "100 %";
  if (probability > 0 && probability < 1e-6) return "< 0.0001 %";
  return `${(100 * probability).toPrecision(probability < 0.001 ? 2 : 3)} %`;
}

/** @param {number | null | undefined} value @param {number} digits */
export function fixed(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");
}

/** Return the surprisal in bits; null if it is unknown. @param {number | null} logprob */
export function bits(logprob) {
  return logprob === null ? null : Math.max(0, -logprob / Math.LN2);
}

/** Return the surprisal in nats; null if it is unknown. @param {number | null} logprob */
export function surprisal(logprob) {
  return logprob === null ? null : Math.max(0, -logprob);
}

/** @typedef {"bits" | "nats"} Unit  of surprisal, entropy and divergence, which come in nats */

/** @template {number | null} Value @param {Value} nats @param {Unit} unit @returns {Value} */
export function inUnit(nats, unit) {
  return /** @type {Value} */ (nats === null || unit === "nats" ? nats : nats / Math.LN2);
}

/** Return a surprisal or an entropy with its unit. @param {number | null} nats @param {Unit} unit @param {number} digits */
export function information(nats, unit, digits) {
  return nats === null ? "–" : `${fixed(inUnit(nats, unit), digits)} ${unit}`;
}

/** Return the strength of the warm hue, from 0 below 0.6 bits to 1 at 8 bits. @param {number | null} logprob */
export function heat(logprob) {
  const value = bits(logprob);
  return value === null ? 0 : Math.max(0, Math.min(1, (value - 0.6) / 7.4));
}

/**
 * Return a Kullback-Leibler divergence with two significant digits and its unit.
 * @param {number | null} nats @param {Unit} unit
 */
export function divergence(nats, unit) {
  if (nats === null) return "–";
  const value = inUnit(nats, unit);
  if (value > 0 && value < 1e-4) return `< 0.0001 ${unit}`;
  return `${value === 0 ? "0" : value < 10 ? value.toPrecision(2) : value.toFixed(0)} ${unit}`;
}

/** Return the change of a logprob with its sign and its unit. @param {number | null} nats @param {Unit} unit */
export function change(nats, unit) {
  if (nats === null) return "–";
  const size = fixed(Math.abs(inUnit(nats, unit)), 2);
  const sign = size === "0.00" ? "" : nats > 0 ? "+" : "−";
  return `${sign}${size} ${unit}`;
}

/**
 * Return the factor by which the change of a logprob changes the probability, with three significant digits.
 * @param {number | null} nats
 */
export function times(nats) {
  if (nats === null) return "–";
  if (nats > Math.log(1e6)) return "over ×1,000,000";
  const factor = Math.exp(nats);
  if (factor < 0.001) return "under ×0.001";
  return `×${factor < 99.95 ? factor.toPrecision(3) : Math.round(factor).toLocaleString("en-US")}`;
}

/** @typedef {"surprisal" | "probability" | "entropy" | "none"} ColorBy  the quantity that the color of a token shows */

/**
 * Return the strength of a token's color, 0 to 1.
 * @param {number | null} logprob @param {number | null} entropy in nats @param {ColorBy} colorBy
 */
export function strength(logprob, entropy, colorBy) {
  if (colorBy === "surprisal") return heat(logprob);
  if (colorBy === "probability" && logprob !== null) return 1 - Math.exp(logprob);
  return colorBy === "entropy" && entropy !== null ? heat(-entropy) : 0;
}

/** @param {number} count */
export function tokenCount(count) {
  return `${count} ${count === 1 ? "token" : "tokens"}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  return seconds < 0.9995 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

/** @param {number} bytes */
export function byteSize(bytes) {
  if (bytes >= 999.5e6) return `${trimmed(bytes / 1e9)} GB`;
  return bytes >= 999.5e3 ? `${Math.round(bytes / 1e6)} MB` : `${Math.round(bytes / 1e3)} kB`;
}

/** @param {number} count */
export function parameterCount(count) {
  if (count >= 999.5e6) return `${trimmed(count / 1e9)} B`;
  if (count >= 999.5e3) return `${Math.round(count / 1e6)} M`;
  return count.toLocaleString("en-US");
}

/** Return a number with one decimal, which is left out if it is zero. @param {number} value */
function trimmed(value) {
  return value.toFixed(1).replace(/\.0$/, "");
}

const SMALL = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/** @param {number} count */
export function inWords(count) {
  return SMALL[count] ?? String(count);
}
