// The run feed, which several views share. Its model has no view; it exports the store that the views read.

import { alternativeOf, callOf, progressOf, tokenOf, usageOf } from "./run_wire.js";
import { isSaved } from "./saved_view.js";
import { keepSavedState, savedWith } from "./saving.js";

/**
 * @import { AnyModel, InitializeProps } from "@anywidget/types"
 * @import { Unit } from "./format.js"
 * @import {
 *   Alternative, Call, Delta, End, Message, PausedBy, Progress, RunState, Snapshot, Token, Usage, WireToken,
 * } from "./run_wire.js"
 *
 * @typedef {object} Change
 * @property {"reset" | "append" | "state" | "selected" | "alternatives" | "forks" | "unit" | "focus"} kind
 * @property {number} from
 * @property {"text" | "token"} [place]
 *
 * @typedef {object} State of the widget model
 * @property {Snapshot} snapshot
 * @property {number[]} selected
 * @property {number[]} forks
 * @property {Unit} unit  of surprisal and entropy
 * @property {string} problem  why the last run could not be shown
 *
 * @typedef {RunStore} Store
 */

/** @param {RunState} state */
function isActive(state) {
  return ["queued", "running", "paused"].includes(state);
}

class RunStore {
  /** @type {string | null} */ run = null;
  /** @type {RunState} */ state = "idle";
  /** @type {Token[]} */ tokens = [];
  /** The tokens, followed by the end token if the model chose one. @type {Token[]} */ steps = [];
  /** @type {Call[]} */ calls = [];
  /** @type {Usage | null} */ usage = null;
  /** @type {string | null} */ stopReason = null;
  /** @type {string | null} */ error = null;
  canPause = false;
  /** Progress before the first token. @type {Progress | null} */ progress = null;
  /** @type {string | null} */ model = null;
  /** Whether the tokens are those of a text that was measured instead of an answer. */
  reads = false;
  /** Tokens of the prompt, if they were measured. @type {Token[]} */ prompt = [];
  /** Breakpoint at which it is paused. @type {PausedBy | null} */ pausedBy = null;
  /** Text of a run whose server reports no tokens. */
  text = "";

  /** @type {AnyModel<State>} */ #model;
  #sequence = 0;
  #requests = 0;
  #waitingForSnapshot = false;
  /** @type {Set<(change: Change) => void>} */ #listeners = new Set();
  /** @type {Map<number, Alternative[]>} */ #alternatives = new Map();
  /** @type {Set<number>} */ #wanted = new Set();
  /** @type {number} */ #timer = 0;
  /** @type {number} */ #frame = 0;
  /** The tokens in their wire form. @type {WireToken[]} */ #wire = [];

  /** @param {AnyModel<State>} model @param {AbortSignal} signal */
  constructor(model, signal) {
    this.#model = model;
    model.on("msg:custom", (/** @type {Message} */ message) => this.#receive(message));
    model.on("change:snapshot", () => {
      this.#waitingForSnapshot = false;
      this.#restore(model.get("snapshot"));
    });
    model.on("change:selected", () => this.#emitSelected());
    model.on("change:problem", () => this.#emit({ kind: "state", from: 0 }));
    model.on("change:unit", () => this.#emit({ kind: "unit", from: 0 }));
    model.on("change:forks", () => this.#emit({ kind: "forks", from: 0 }));
    signal.addEventListener("abort", () => {
      window.clearTimeout(this.#timer);
      window.cancelAnimationFrame(this.#frame);
      this.#listeners.clear();
    });
    this.#restore(model.get("snapshot"));
    // The stored snapshot of a run in progress is its start, so that a page loaded later has to request the rest.
    if (this.active) this.#askForSnapshot();
  }

  get active() {
    return isActive(this.state);
  }

  /** @returns {number[]} positions; the last one is the one inspected */
  get selected() {
    return this.#model.get("selected") ?? [];
  }

  /** The position to inspect; null if there is none. */
  get current() {
    const position = this.selected.at(-1);
    return position !== undefined && position < this.steps.length ? position : null;
  }

  /** Why the last run could not be shown; "" if it was. @returns {string} */
  get problem() {
    return this.#model.get("problem") ?? "";
  }

  /** @returns {number[]} positions at which another run of the prompt has another token */
  get forks() {
    return this.#model.get("forks") ?? [];
  }

  /** Unit in which surprisal and entropy are shown. */
  get unit() {
    return this.#model.get("unit");
  }

  /** Show surprisal and entropy in another unit, in all views of the run. @param {Unit} unit */
  measureIn(unit) {
    this.#model.set("unit", unit);
    this.#model.save_changes();
  }

  /** Focus the view of the text or of the selected token. @param {"text" | "token"} place */
  focus(place) {
    this.#emit({ kind: "focus", from: 0, place });
  }

  /** @param {number[]} positions */
  select(positions) {
    this.#model.set("selected", positions);
    this.#model.save_changes();
  }

  /** Select a token, at most the first or the last. @param {number} target */
  walkTo(target) {
    if (this.steps.length) this.select([Math.max(0, Math.min(this.steps.length - 1, target))]);
  }

  /** @param {(change: Change) => void} listener @param {AbortSignal} signal */
  listen(listener, signal) {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  /** @param {number} position @returns {Alternative[] | null} null until they came; ask with `want` */
  alternatives(position) {
    return this.#alternatives.get(position) ?? (isSaved(this.#model) ? [] : null);
  }

  /** Request alternatives, at most a few times a second. @param {number} from @param {number} to */
  want(from, to) {
    if (isSaved(this.#model)) return;
    for (let i = from; i < Math.min(to, this.steps.length); i += 1) if (!this.#alternatives.has(i)) this.#wanted.add(i);
    if (this.#wanted.size && !this.#timer) {
      this.#timer = window.setTimeout(() => this.#askForAlternatives(), this.active ? 250 : 30);
    }
  }

  #askForAlternatives() {
    this.#timer = 0;
    const positions = [...this.#wanted].filter((i) => !this.#alternatives.has(i)).sort((a, b) => a - b);
    this.#wanted.clear();
    // One request per group of neighboring positions; there are rarely more than two groups on the screen.
    for (let i = 0; i < positions.length;) {
      let end = i;
      while (
        end + 1 < positions.length &&
        positions[end + 1] - positions[i] < 100 &&
        positions[end + 1] - positions[end] < 20
      )
        end += 1;
      this.#send({ kind: "alternatives", run: this.run, from: positions[i], to: positions[end] + 1 });
      i = end + 1;
    }
  }

  /** @param {Message} message */
  #receive(message) {
    if (message.kind === "delta") this.#append(message);
    else if (message.kind === "end") this.#end(message);
    else if (message.kind === "snapshot") {
      this.#waitingForSnapshot = false;
      this.#restore(message.snapshot);
      // The prompt is sent once; neither later deltas nor the end repeat it.
      if (message.snapshot.prompt) this.#keep({ prompt: message.snapshot.prompt });
    } else if (message.kind === "alternatives" && !message.error && message.run === this.run) {
      const { alternatives: kept = [] } = this.#model.get("snapshot");
      message.items.forEach((items, i) => {
        kept[message.from + i] = items;
        this.#alternatives.set(message.from + i, items.map(alternativeOf));
      });
      this.#keep({ alternatives: kept });
      this.#emit({ kind: "alternatives", from: message.from });
    }
  }

  /** @param {Delta} delta */
  #append(delta) {
    const [run, sequence, at, tokens, tokensPerS] = delta.news;
    if (run !== this.run || sequence > this.#sequence + 1 || at > this.tokens.length) {
      this.#askForSnapshot();
      return;
    }
    if (sequence <= this.#sequence) return;
    this.#sequence = sequence;
    this.state = delta.state ?? "running";
    this.pausedBy = delta.paused_by ?? null;
    this.progress = progressOf(delta.progress);
    const from = this.tokens.length;
    if (delta.prompt) {
      this.prompt = delta.prompt.map(tokenOf);
      this.#keep({ prompt: delta.prompt });
    }
    const fresh = tokens.slice(from - at);
    this.#wire.push(...fresh);
    this.tokens.push(...fresh.map(tokenOf));
    if (delta.usage) this.usage = usageOf(delta.usage);
    else if (this.usage) this.usage = { ...this.usage, generated: this.tokens.length - this.usage.kept, tokensPerS };
    for (const [place, status, text, ...read] of delta.calls ?? []) {
      this.calls[place] = callOf([status, (this.calls[place]?.text ?? "") + text, ...read]);
    }
    this.#keep({ tokens: this.#wire, state: this.state, sequence });
    this.#emit({ kind: this.tokens.length > from ? "append" : "state", from });
  }

  /** @param {End} end */
  #end(end) {
    if (end.run !== this.run || end.sequence > this.#sequence || end.at > this.tokens.length) {
      // A reply to an earlier request may be lost too, and no message follows the end.
      this.#waitingForSnapshot = false;
      this.#askForSnapshot();
      return;
    }
    const { prompt } = this.#model.get("snapshot");
    const whole = { prompt, ...end, tokens: [...this.#wire.slice(0, end.at), ...end.tokens] };
    this.#keep(whole);
    this.#restore(whole);
  }

  /**
   * Store facts in the state of the model, which the page may save with the notebook, without sending them to the kernel.
   * @param {Partial<Snapshot>} facts
   */
  #keep(facts) {
    const snapshot = this.#model.get("snapshot");
    if (snapshot.run === this.run) Object.assign(snapshot, facts);
  }

  /** @param {Snapshot} snapshot */
  #restore(snapshot) {
    const isSameRun = snapshot.run !== null && snapshot.run === this.run;
    // A reply may arrive after the end of its run; an older snapshot is ignored.
    if (isSameRun && (snapshot.sequence < this.#sequence || (!this.active && isActive(snapshot.state)))) return;
    const before = this.steps;
    this.run = snapshot.run;
    this.state = isActive(snapshot.state) && isSaved(this.#model) ? "unfinished" : snapshot.state;
    this.#sequence = snapshot.sequence;
    this.#wire = [...snapshot.tokens];
    this.tokens = snapshot.tokens.map(tokenOf);
    this.steps = snapshot.end ? [...this.tokens, { ...tokenOf(snapshot.end), special: true }] : this.tokens;
    this.calls = (snapshot.calls ?? []).map(callOf);
    this.usage = usageOf(snapshot.usage);
    this.stopReason = snapshot.stop_reason ?? null;
    this.error = snapshot.error ?? null;
    this.canPause = snapshot.can_pause ?? false;
    this.progress = progressOf(snapshot.progress);
    this.model = snapshot.model ?? null;
    this.reads = snapshot.reads ?? false;
    this.prompt = (snapshot.prompt ?? []).map(tokenOf);
    this.pausedBy = snapshot.paused_by ?? null;
    this.text = snapshot.text ?? "";
    if (!isSameRun) {
      this.#alternatives.clear();
      this.#wanted.clear();
    }
    snapshot.alternatives?.forEach((items, i) => items && this.#alternatives.set(i, items.map(alternativeOf)));
    // A saved notebook needs all alternatives, because no kernel can provide them later.
    if (!this.active && savedWith(this.#model)) this.want(0, this.steps.length);
    const continues =
      isSameRun &&
      before.length <= this.steps.length &&
      before.every((token, i) => token.piece === this.steps[i].piece);
    if (!continues) this.#emit({ kind: "reset", from: 0 });
    else this.#emit({ kind: this.steps.length > before.length ? "append" : "state", from: before.length });
  }

  #askForSnapshot() {
    if (this.#waitingForSnapshot) return;
    this.#waitingForSnapshot = true;
    this.#send({ kind: "snapshot" });
  }

  /** @param {{kind: string} & Record<string, unknown>} message */
  #send(message) {
    this.#requests += 1;
    this.#model.send({ id: this.#requests, ...message });
  }

  /** Report a selection at most once per frame: a held key may repeat faster than a long text is drawn. */
  #emitSelected() {
    this.#frame ||= window.requestAnimationFrame(() => {
      this.#frame = 0;
      this.#emit({ kind: "selected", from: 0 });
    });
  }

  /** @param {Change} change */
  #emit(change) {
    for (const listener of [...this.#listeners]) listener(change);
  }
}

export default {
  /** @param {Pick<InitializeProps<State>, "model" | "signal">} context */
  initialize({ model, signal }) {
    keepSavedState(model);
    return { store: new RunStore(model, signal) };
  },
};
