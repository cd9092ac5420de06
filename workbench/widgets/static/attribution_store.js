// What the parts of an attribution view share: tokens, chunks, the selected token, and the chunk whose changes are marked.

import { mark } from "./attribution_words.js";
import { tokenOf } from "./run_wire.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Chunk } from "./attribution_words.js"
 * @import { Unit } from "./format.js"
 * @import { Token, WireToken } from "./run_wire.js"
 *
 * @typedef {object} AttributionState of the widget model
 * @property {"waiting" | "measuring" | "done" | "stopped" | "failed"} state
 * @property {string} message  progress or error
 * @property {WireToken[]} tokens
 * @property {Chunk[]} chunks
 * @property {number | null} selected  position of the selected token
 * @property {number | null} chosen  index of the chunk whose changes are marked
 * @property {Unit} unit
 *
 * @typedef {{kind: "reset" | "selected" | "chunk" | "unit" | "focus"}} AttributionChange
 */

export class AttributionStore {
  /** @type {Token[]} */ steps = [];
  /** @type {Chunk[]} */ chunks = [];
  /** Index of the chunk that raised each token most. @type {(number | null)[]} */ marks = [];
  /** A text of one run has no forks. @type {number[]} */ forks = [];

  /** @type {AnyModel<AttributionState>} */ #model;
  /** @type {Set<(change: AttributionChange) => void>} */ #listeners = new Set();
  /** @type {number | null} */ #previewed = null;
  /** @type {unknown[]} */ #read = [];

  /** @param {AnyModel<AttributionState>} model */
  constructor(model) {
    this.#model = model;
    for (const name of /** @type {const} */ (["change:tokens", "change:chunks"])) model.on(name, () => this.#reset());
    model.on("change:selected", () => this.#emit("selected"));
    model.on("change:chosen", () => this.#emit("chunk"));
    model.on("change:unit", () => this.#emit("unit"));
    this.#reset();
  }

  /** @returns {Unit} */
  get unit() {
    return this.#model.get("unit");
  }

  /** Whether the chunks have changes to show. */
  get isMeasured() {
    return this.#model.get("state") === "done";
  }

  /** Position of the selected token; null if there is none. */
  get current() {
    const position = this.#model.get("selected") ?? null;
    return position !== null && position < this.steps.length ? position : null;
  }

  get selected() {
    return this.current === null ? [] : [this.current];
  }

  /** Index of the chosen chunk; null if there is none. */
  get chosen() {
    const index = this.#model.get("chosen") ?? null;
    return index !== null && index < this.chunks.length ? index : null;
  }

  /** Index of the chunk whose changes are marked: the one under the pointer or the chosen one; null for none. */
  get chunk() {
    return this.#previewed ?? this.chosen;
  }

  /** @param {number} position @returns {(number | null)[]} changes of a token by each chunk */
  changesOf(position) {
    return this.chunks.map((chunk) => chunk.changes[position] ?? null);
  }

  /** @param {number[]} positions */
  select(positions) {
    this.#set("selected", positions.at(-1) ?? null);
  }

  /** Select a token, at most the first or the last. @param {number} target */
  walkTo(target) {
    if (this.steps.length) this.select([Math.max(0, Math.min(this.steps.length - 1, target))]);
  }

  /** Mark the changes by a chunk for now; null ends that. @param {number | null} index */
  preview(index) {
    if (index === this.#previewed) return;
    this.#previewed = index;
    this.#emit("chunk");
  }

  /** Mark the changes by a chunk until it is chosen again. @param {number} index */
  choose(index) {
    this.#previewed = null;
    this.#set("chosen", this.chosen === index ? null : index);
  }

  /** Focus the chunk that raised the selected token. */
  focus() {
    this.#emit("focus");
  }

  /** @param {Unit} unit */
  measureIn(unit) {
    this.#set("unit", unit);
  }

  /** @param {(change: AttributionChange) => void} listener @param {AbortSignal} signal */
  listen(listener, signal) {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  #reset() {
    // Both traits change in one message, and each is reported.
    const read = [this.#model.get("tokens"), this.#model.get("chunks")];
    if (read.every((value, i) => value === this.#read[i])) return;
    this.#read = read;
    this.steps = this.#model.get("tokens").map(tokenOf);
    this.chunks = this.#model.get("chunks");
    this.marks = this.steps.map((_, position) => mark(this.changesOf(position)));
    this.#previewed = null;
    this.#emit("reset");
  }

  /** @template {"selected" | "chosen" | "unit"} Name @param {Name} name @param {AttributionState[Name]} value */
  #set(name, value) {
    this.#model.set(name, value);
    this.#model.save_changes();
  }

  /** @param {AttributionChange["kind"]} kind */
  #emit(kind) {
    for (const listener of this.#listeners) listener({ kind });
  }
}
