// What a module finds in a page and tests bring themselves: a widget model, and clocks that are turned by hand.

import { mock } from "node:test";

/** @import { AnyModel } from "@anywidget/types" */

/** @template {Record<string, unknown>} State */
export class FakeModel {
  /** @type {Map<string, ((...args: unknown[]) => void)[]>} */ #listeners = new Map();
  /** Messages to the kernel. @type {Record<string, unknown>[]} */ sent = [];
  saves = 0;

  /** @param {State} state */
  constructor(state) {
    this.state = state;
  }

  /** As modules are given it. @returns {AnyModel<State>} */
  get model() {
    return /** @type {AnyModel<State>} */ (/** @type {unknown} */ (this));
  }

  /** @param {keyof State} name */
  get(name) {
    return this.state[name];
  }

  /** @template {keyof State & string} Name @param {Name} name @param {State[Name]} value */
  set(name, value) {
    this.state[name] = value;
    this.emit(`change:${name}`);
  }

  save_changes() {
    this.saves += 1;
  }

  /** @param {Record<string, unknown>} content */
  send(content) {
    this.sent.push(content);
  }

  /** @param {string} event @param {(...args: unknown[]) => void} listener */
  on(event, listener) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  /** A message from the kernel. @param {unknown} content */
  receive(content) {
    this.emit("msg:custom", content);
  }

  /** What was sent since the last look. */
  take() {
    return this.sent.splice(0);
  }

  /** Call the listeners of an event. @param {string} event @param {unknown[]} args */
  emit(event, ...args) {
    for (const listener of this.#listeners.get(event) ?? []) listener(...args);
  }
}

/** A window whose time stands still until `mock.timers.tick`; a frame takes 16 of its milliseconds. */
export function stillWindow() {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  Object.assign(globalThis, {
    window: globalThis,
    document: new EventTarget(),
    requestAnimationFrame: (/** @type {() => void} */ draw) => setTimeout(draw, 16),
    cancelAnimationFrame: clearTimeout,
  });
}
