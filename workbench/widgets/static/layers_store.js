// What a lens has read of a run: columns of cells that the kernel sends, requested for what is on the screen.

import { isSaved } from "./saved_view.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {"logit" | "jacobian"} LensKind
 * @typedef {[id: number, label: string, probability: number]} WireWord
 * @typedef {[id: number, label: string, top: number, probability: number, rank: number]} WireCell
 * @typedef {[position: number, cells: WireCell[]]} WireColumn
 *
 * @typedef {{id: number, label: string, probability: number}} Word
 *
 * @typedef {object} Cell  what the model would say if it stopped after a layer
 * @property {Word} top  the most probable token
 * @property {number} probability  of the token that was said
 * @property {number} rank  of the token that was said
 *
 * @typedef {object} Stored  what is saved with a notebook
 * @property {string | null} [run]
 * @property {LensKind} [lens]
 * @property {WireColumn[]} [columns]
 * @property {[position: number, words: WireWord[][]][]} [words]
 *
 * @typedef {object} LayersState  of the widget model
 * @property {string} feed  reference of the run feed
 * @property {LensKind} kind
 * @property {number | null} layer  null for the last one
 * @property {"idle" | "computing" | "failed"} state
 * @property {string} message
 * @property {string} refused  why there is no Jacobian lens
 * @property {Stored} stored
 *
 * @typedef {{kind: "columns", run: string, lens: LensKind, columns: WireColumn[]}} ColumnsMessage
 * @typedef {{kind: "words", run: string, lens: LensKind, position: number, words: WireWord[][]}} WordsMessage
 * @typedef {Pick<AnyModel<LayersState>, "get" | "set" | "save_changes" | "send" | "on">} Model
 * @typedef {Pick<Store, "run" | "tokens" | "reads" | "current" | "active" | "select" | "listen">} Feed
 * @typedef {{from: number, to: number, isEnd: boolean}} Span  positions on the screen, and whether the end of the text is
 * @typedef {{kind: "reset" | "tokens" | "columns" | "chosen" | "words", positions?: number[]}} Change
 */

const PATIENCE_MS = 60;
const LIVE_PATIENCE_MS = 250;
const RETRY_MS = 2000;
const MOST_SAVED = 60;

/** The stores of a model that have columns on the screen: one for each view. @type {WeakMap<object, Set<LayersStore>>} */
const lookers = new WeakMap();

export class LayersStore {
  /** @type {Model} */ #model;
  /** @type {Feed} */ #feed;
  /** @type {string | null} */ #run = null;
  /** @type {Record<LensKind, Map<number, Cell[]>>} */ #columns = { logit: new Map(), jacobian: new Map() };
  /** @type {Record<LensKind, Map<number, Word[][]>>} */ #words = { logit: new Map(), jacobian: new Map() };
  /** @type {Set<(change: Change) => void>} */ #listeners = new Set();
  /** @type {Span | null} */ #span = null;
  #asked = "";
  #timer = 0;
  #retryTimer = 0;
  #wordsTimer = 0;

  /** @param {Model} model @param {Feed} feed @param {AbortSignal} signal */
  constructor(model, feed, signal) {
    this.#model = model;
    this.#feed = feed;
    model.on("msg:custom", (/** @type {ColumnsMessage | WordsMessage} */ message) => this.#receive(message));
    model.on("change:kind", () => {
      this.#emit({ kind: "reset" });
      this.#askSoon();
    });
    model.on("change:layer", () => this.#emit({ kind: "chosen" }));
    model.on("change:state", () => this.#retry());
    feed.listen(({ kind }) => this.#follow(kind), signal);
    signal.addEventListener("abort", () => {
      this.hide();
      window.clearTimeout(this.#timer);
      window.clearTimeout(this.#retryTimer);
      window.clearTimeout(this.#wordsTimer);
      this.#listeners.clear();
    });
    this.#restore();
  }

  /** @returns {LensKind} */
  get kind() {
    return this.#model.get("kind");
  }

  get tokens() {
    return this.#feed.tokens;
  }

  /** Whether the text still grows. */
  get active() {
    return this.#feed.active;
  }

  /** Position of the first column: the first token of a reading has none before it. */
  get first() {
    return this.#feed.reads ? 1 : 0;
  }

  /** Number of layers; 0 until a column has come. */
  get layers() {
    const [known] = [...this.#columns.logit.values(), ...this.#columns.jacobian.values()];
    return known?.length ?? 0;
  }

  /** The layer of the chosen cell. */
  get layer() {
    return Math.min(this.#model.get("layer") ?? Infinity, this.layers - 1);
  }

  /** Position of the chosen column; null if there is none. */
  get current() {
    const position = this.#feed.current;
    return position !== null && position >= this.first && position < this.tokens.length ? position : null;
  }

  /** @param {number} position @returns {Cell[] | null} null until it has come */
  column(position) {
    return this.#columns[this.kind].get(position) ?? null;
  }

  /** Return the most probable tokens after each layer; null until they have come. @param {number} position */
  words(position) {
    const known = this.#words[this.kind].get(position) ?? null;
    if (!known && !isSaved(this.#model)) this.#wordsTimer ||= window.setTimeout(() => this.#askForWords(), PATIENCE_MS);
    return known;
  }

  #askForWords() {
    this.#wordsTimer = 0;
    const position = this.current;
    if (position === null || !this.column(position) || this.#words[this.kind].has(position)) return;
    this.#model.send({ kind: "words", run: this.#run, position });
  }

  /** @param {(change: Change) => void} listener @param {AbortSignal} signal */
  listen(listener, signal) {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  /** Choose a cell, at most the first or the last. @param {number} position @param {number} layer */
  choose(position, layer) {
    if (this.tokens.length <= this.first) return;
    const chosen = Math.max(0, Math.min(this.layers - 1, layer));
    this.#model.set("layer", chosen === this.layers - 1 ? null : chosen);
    this.#model.save_changes();
    this.#feed.select([Math.max(this.first, Math.min(this.tokens.length - 1, position))]);
  }

  /** Choose no cell. */
  leave() {
    this.#feed.select([]);
  }

  /** Request the columns on the screen, at most a few times a second. @param {Span} span */
  look(span) {
    const all = lookers.get(this.#model) ?? new Set();
    lookers.set(this.#model, all.add(this));
    this.#span = span;
    this.#askSoon();
  }

  /** Nothing is on the screen any more. */
  hide() {
    if (!this.#span) return;
    this.#span = null;
    this.#asked = "";
    lookers.get(this.#model)?.delete(this);
    const [other] = lookers.get(this.#model) ?? [];
    if (other) other.#askAgain();
    else if (!isSaved(this.#model)) this.#model.send({ kind: "hide" });
  }

  #askSoon() {
    this.#timer ||= window.setTimeout(() => this.#ask(), this.#feed.active ? LIVE_PATIENCE_MS : PATIENCE_MS);
  }

  #askAgain() {
    this.#asked = "";
    this.#askSoon();
  }

  #ask() {
    this.#timer = 0;
    if (!this.#span || this.#run === null || isSaved(this.#model)) return;
    const { from, to, isEnd } = this.#span;
    const what = JSON.stringify([this.#run, this.kind, from, isEnd ? null : to]);
    if (what === this.#asked) return;
    this.#asked = what;
    this.#model.send({ kind: "look", run: this.#run, from, to: isEnd ? null : to, wanted: this.#lacking() });
    window.clearTimeout(this.#retryTimer);
    this.#retryTimer = window.setTimeout(() => this.#retry(), RETRY_MS);
  }

  /** Ask again for what is missing although nothing is computed: a message was lost. */
  #retry() {
    if (this.#model.get("state") === "idle" && this.#lacking().length) this.#askAgain();
  }

  /** Positions on the screen whose columns have not come. */
  #lacking() {
    const { from, to } = this.#span ?? { from: 0, to: 0 };
    const known = this.#columns[this.kind];
    return Array.from({ length: to - from }, (_, i) => from + i).filter((position) => !known.has(position));
  }

  /** @param {string} kind  of the change of the feed */
  #follow(kind) {
    if (this.#feed.run !== this.#run) this.#restore();
    else if (kind === "append" || kind === "state") this.#emit({ kind: "tokens" });
    else if (kind === "selected") this.#emit({ kind: "chosen" });
    else if (kind === "reset") this.#emit({ kind: "reset" });
  }

  /** Take over the run of the feed, with what was stored of it. */
  #restore() {
    this.#run = this.#feed.run;
    this.#columns = { logit: new Map(), jacobian: new Map() };
    this.#words = { logit: new Map(), jacobian: new Map() };
    const { run, lens, columns = [], words = [] } = this.#model.get("stored") ?? {};
    if (run && run === this.#run && lens) {
      for (const [position, cells] of columns) this.#columns[lens].set(position, cells.map(cellOf));
      for (const [position, all] of words) this.#words[lens].set(position, wordsOf(all));
    }
    this.#emit({ kind: "reset" });
    this.#askAgain();
  }

  /** @param {ColumnsMessage | WordsMessage} message */
  #receive(message) {
    if (!["columns", "words"].includes(message.kind) || message.run !== this.#run) return;
    if (message.kind === "columns") {
      const known = this.#columns[message.lens];
      const isFirst = this.layers === 0;
      for (const [position, cells] of message.columns) known.set(position, cells.map(cellOf));
      this.#keep(message.lens, message.columns, []);
      if (message.lens !== this.kind) return;
      this.#emit(isFirst ? { kind: "reset" } : { kind: "columns", positions: message.columns.map(([at]) => at) });
    } else {
      this.#words[message.lens].set(message.position, wordsOf(message.words));
      this.#keep(message.lens, [], [[message.position, message.words]]);
      if (message.lens === this.kind) this.#emit({ kind: "words", positions: [message.position] });
    }
  }

  /**
   * Store the last columns in the state of the model, which the page may save with the notebook, without sending them.
   * @param {LensKind} lens @param {WireColumn[]} columns @param {[number, WireWord[][]][]} words
   */
  #keep(lens, columns, words) {
    const stored = this.#model.get("stored");
    if (!stored) return;
    const isSame = stored.run === this.#run && stored.lens === lens;
    const kept = isSame ? (stored.columns ?? []) : [];
    const fresh = new Set(columns.map(([position]) => position));
    stored.columns = [...kept.filter(([position]) => !fresh.has(position)), ...columns].slice(-MOST_SAVED);
    stored.words = words.length ? words : isSame ? stored.words : [];
    Object.assign(stored, { run: this.#run, lens });
  }

  /** @param {Change} change */
  #emit(change) {
    for (const listener of [...this.#listeners]) listener(change);
  }
}

/** @param {WireCell} wire @returns {Cell} */
export function cellOf([id, label, top, probability, rank]) {
  return { top: { id, label, probability: top }, probability, rank };
}

/** @param {WireWord[][]} wire @returns {Word[][]} */
function wordsOf(wire) {
  return wire.map((words) => words.map(([id, label, probability]) => ({ id, label, probability })));
}
