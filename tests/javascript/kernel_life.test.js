// How a module learns that the kernel behind its widget is gone.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { requester } from "../../workbench/widgets/static/asking.js";
import { ENDED, RESTARTED, onKernelGone } from "../../workbench/widgets/static/kernel_life.js";
import { FakeModel, stillWindow } from "./fake_page.js";

class FakeSignal {
  /** @type {Set<(sender: unknown, value: string) => void>} */ slots = new Set();

  /** @param {(sender: unknown, value: string) => void} slot */
  connect(slot) {
    this.slots.add(slot);
  }

  /** @param {(sender: unknown, value: string) => void} slot */
  disconnect(slot) {
    this.slots.delete(slot);
  }

  /** @param {string} value */
  emit(value) {
    for (const slot of [...this.slots]) slot(this, value);
  }
}

/** A widget model as JupyterLab's manager has it, with the kernel's signals. */
function managed() {
  const fake = new FakeModel({});
  const kernel = { statusChanged: new FakeSignal(), disposed: new FakeSignal() };
  const controller = new AbortController();
  /** @type {string[]} */ const told = [];
  const model = Object.assign(fake.model, { widget_manager: { kernel } });
  onKernelGone(model, controller.signal, (sentence) => told.push(sentence));
  return { fake, kernel, controller, told, model };
}

beforeEach(stillWindow);

test("a manager that disconnects its models has restarted the kernel, which is told once", () => {
  const { fake, kernel, told } = managed();
  kernel.statusChanged.emit("busy");
  kernel.statusChanged.emit("idle");
  assert.deepEqual(told, []);
  fake.emit("comm_live_update");
  fake.emit("comm_live_update");
  kernel.statusChanged.emit("dead");
  assert.deepEqual(told, [RESTARTED]);
});

test("a kernel that ends is told of by itself", () => {
  for (const status of ["dead", "terminating"]) {
    const { kernel, told } = managed();
    kernel.statusChanged.emit(status);
    kernel.disposed.emit("");
    assert.deepEqual(told, [ENDED]);
  }
  const { kernel, told } = managed();
  kernel.disposed.emit("");
  assert.deepEqual(told, [ENDED]);
});

test("a view that was closed is told nothing, and a host without a manager never tells", () => {
  const { fake, kernel, controller, told } = managed();
  controller.abort();
  assert.deepEqual([kernel.statusChanged.slots.size, kernel.disposed.slots.size], [0, 0]);
  fake.emit("comm_live_update");
  assert.deepEqual(told, []);
  onKernelGone(new FakeModel({}).model, new AbortController().signal, () => assert.fail());
});

test("no kernel that is gone is said to be busy", () => {
  const { fake, model } = managed();
  /** @type {(string | null)[]} */ const shown = [];
  const ask = requester(model, new AbortController().signal, (text) => shown.push(text));
  ask({ kind: "run" });
  fake.emit("comm_live_update");
  mock.timers.tick(60_000);
  assert.deepEqual(shown, [null, null]);
});
