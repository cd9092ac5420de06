// The state of the attention view: the tokens of prompt and answer, the choice, and the weights read for it.

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { HeadNumbers, Measure } from "./attention_words.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} Row  the weights of one token in one head
 * @property {number} layer
 * @property {number} head
 * @property {number} position
 * @property {(number | null)[]} weights
 *
 * @typedef {object} AttentionState of the widget model
 * @property {string} feed  reference of the run feed
 * @property {string} message  why there are no weights; empty if there are
 * @property {string[]} prompt  texts of the prompt's tokens
 * @property {number[]} shape  numbers of layers and heads; empty if unknown
 * @property {number} layer
 * @property {number} head
 * @property {number | null} position  of the chosen token among those of prompt and answer
 * @property {Row | {}} row
 * @property {HeadNumbers[][]} heads  by layer, as far as they are read
 * @property {number} averaged  number of tokens over which they are averaged
 * @property {Measure} measure
 */

export class AttentionStore {
  /** @type {AnyModel<AttentionState>} */ #model;
  /** @type {Store} */ #feed;

  /** @param {AnyModel<AttentionState>} model @param {Store} feed */
  constructor(model, feed) {
    this.#model = model;
    this.#feed = feed;
  }

  get count() {
    return this.#model.get("prompt").length + this.#feed.tokens.length;
  }

  get unit() {
    return this.#feed.unit;
  }

  /** Position of the chosen token; null if there is none. */
  get position() {
    const position = this.#model.get("position");
    return position !== null && position < this.count ? position : null;
  }

  /** The weights of the choice; null while they are read. @returns {Row | null} */
  get row() {
    const row = this.#model.get("row");
    if (!("weights" in row)) return null;
    const isChosen =
      row.position === this.position && row.layer === this.#model.get("layer") && row.head === this.#model.get("head");
    return isChosen ? row : null;
  }

  /** Return the text of a token. @param {number} at */
  label(at) {
    const prompt = this.#model.get("prompt");
    return at < prompt.length ? prompt[at] : (this.#feed.tokens[at - prompt.length]?.label ?? "");
  }

  /** Choose a token, at most the first or the last. @param {number} position */
  choose(position) {
    if (this.count) this.#set({ position: Math.max(0, Math.min(this.count - 1, position)) });
  }

  /** Choose a head, at most one of the edges. @param {number} layer @param {number} head */
  chooseHead(layer, head) {
    const [layers, heads] = this.#model.get("shape");
    if (!layers) return;
    this.#set({
      layer: Math.max(0, Math.min(layers - 1, layer)),
      head: Math.max(0, Math.min(heads - 1, head)),
    });
  }

  /** Call a listener when the tokens, the choice or the weights change. @param {() => void} listener @param {AbortSignal} signal */
  listen(listener, signal) {
    for (const name of /** @type {const} */ (["prompt", "layer", "head", "position", "row", "message"]))
      this.#model.on(`change:${name}`, listener);
    this.#feed.listen((change) => ["reset", "append"].includes(change.kind) && listener(), signal);
  }

  /** @param {Partial<AttentionState>} fresh */
  #set(fresh) {
    for (const [name, value] of Object.entries(fresh))
      this.#model.set(/** @type {keyof AttentionState} */ (name), value);
    this.#model.save_changes();
  }
}
