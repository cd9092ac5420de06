// Which chunk marks which token, and how chunks are named; a test compares it with widgets/attribution_words.py.

import { change, fixed, heat, percentOf, times, tokenCount } from "./format.js";
import { spoken } from "./token_words.js";

/**
 * @import { Unit } from "./format.js"
 * @import { Token } from "./run_wire.js"
 *
 * @typedef {object} Chunk
 * @property {string} document  id of its document
 * @property {string} text
 * @property {number | null} score  in the query that found it
 * @property {number | null} total  change of the whole answer's logprob, in nats
 * @property {(number | null)[]} changes  of each token's logprob, in nats; empty until they are measured
 */

/** Number of characters of a chunk that are shown while it is folded. */
const FOLDED = 240;
const MOST_LINES = 4;
const LONGEST_NAME = 60;

/**
 * Return the strength of a change, from 0 below a factor of about 1.5 to 1 at 256.
 * @param {number | null} nats  positive or negative
 */
export function changeStrength(nats) {
  return nats === null ? 0 : heat(-Math.abs(nats));
}

/**
 * Return the index of the chunk that raised a token most; null if none made it about 1.5 times as probable.
 * @param {(number | null)[]} changes  of the token's logprob by each chunk, in nats
 */
export function mark(changes) {
  /** @type {number | null} */ let best = null;
  changes.forEach((nats, i) => {
    if (nats === null || heat(-nats) === 0) return;
    if (best === null || nats > /** @type {number} */ (changes[best])) best = i;
  });
  return /** @type {number | null} */ (best);
}

/**
 * Return the position of the first visible token of each stretch of tokens with the same mark.
 * @param {(number | string | null)[]} marks  mark of each token; null for none
 * @param {boolean[]} isBlank  whether each token is only white space, over which a number would seem misplaced
 */
export function stretches(marks, isBlank) {
  /** @type {number[]} */ const starts = [];
  /** @type {number | string | null} */ let numbered = null;
  marks.forEach((one, i) => {
    if (one !== numbered) numbered = null;
    if (one === null || numbered !== null || isBlank[i]) return;
    starts.push(i);
    numbered = one;
  });
  return starts;
}

/** Return a score with two digits after the point, or two significant digits if it is small. @param {number} score */
export function scoreInWords(score) {
  if (score > 0 && score < 1e-4) return "score under 0.0001";
  return `score ${score > 0 && score < 0.1 ? score.toPrecision(2) : fixed(score, 2)}`;
}

/** Return the number and the document of a chunk, as in the prompt; a long name is cut. @param {number} index @param {string} document */
export function nameOf(index, document) {
  const name = [...document.replace(/[ \t\r\n]+/g, " ").replace(/^ | $/g, "")];
  return `[${index + 1}] ${name.length <= LONGEST_NAME ? name.join("") : `${name.slice(0, LONGEST_NAME - 1).join("")}…`}`;
}

/** Return the beginning of a text; all of it if it is short. @param {string} text */
export function folded(text) {
  const lines = text.split("\n").slice(0, MOST_LINES).join("\n");
  const start = [...lines.slice(0, 2 * FOLDED + 2)];
  const cut = start.length <= FOLDED ? lines : start.slice(0, FOLDED - 1).join("");
  if (cut.length === text.length) return text;
  // Between words, if the last one began not far from the end.
  return `${cut.replace(/[ \t\n]+[^ \t\n]{0,24}$/, "")}…`;
}

/** Return how many tokens some chunk raised. @param {(number | null)[]} marks @param {number} chunkCount */
export function summary(marks, chunkCount) {
  if (!marks.length) return "The answer has no tokens.";
  if (!chunkCount) return "The prompt has no chunks, so none raised a token.";
  const raised = marks.filter((one) => one !== null).length;
  if (!raised) return `No chunk made any of the ${tokenCount(marks.length)} 1.5 times as probable.`;
  const are = raised === 1 ? "is" : "are";
  return `${raised} of ${tokenCount(marks.length)} ${are} at least 1.5 times as probable because of a chunk.`;
}

/** Return the indices of the chunks, the one that raised the token most first; unknown ones last. @param {(number | null)[]} changes */
export function byChange(changes) {
  return changes.map((_, i) => i).sort((a, b) => (changes[b] ?? -Infinity) - (changes[a] ?? -Infinity) || a - b);
}

/** Return the change of a token by a chunk. @param {string} name @param {number | null} nats @param {Unit} unit */
export function changeInWords(name, nats, unit) {
  return nats === null ? `${name}: unknown` : `${name}: ${change(nats, unit)} (${times(nats)})`;
}

/**
 * Return what a chunk did to the answer: how many tokens it raised and lowered.
 * @param {Chunk} chunk
 */
export function effectInWords({ changes }) {
  const [raised, lowered] = [1, -1].map((sign) => changes.filter((nats) => heat(-sign * (nats ?? 0)) > 0).length);
  if (!raised && !lowered) return "changed no token much";
  return [raised && `raised ${tokenCount(raised)}`, lowered && `lowered ${tokenCount(lowered)}`]
    .filter(Boolean)
    .join(", ");
}

/**
 * Return the announcement of a selected token.
 * @param {Token[]} tokens @param {Chunk[]} chunks @param {number} position @param {Unit} unit
 */
export function tokenInWords(tokens, chunks, position, unit) {
  const token = tokens[position];
  const changes = chunks.map((chunk) => chunk.changes[position] ?? null);
  const best = mark(changes);
  const cause =
    best === null
      ? "No chunk made it 1.5 times as probable."
      : `Raised most by ${changeInWords(nameOf(best, chunks[best].document), changes[best], unit)}.`;
  const isMeasured = chunks.some((chunk) => chunk.changes.length);
  const facts = `Token ${position + 1} of ${tokens.length}: ${spoken(token)}. ${percentOf(token.logprob)}.`;
  return isMeasured ? `${facts} ${cause}` : facts;
}
