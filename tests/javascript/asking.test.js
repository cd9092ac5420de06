// Messages to the kernel that are answered.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { requester, setter } from "../../workbench/widgets/static/asking.js";
import { FakeModel, stillWindow } from "./fake_page.js";

function asked() {
  const fake = new FakeModel({});
  const controller = new AbortController();
  /** @type {(string | null)[]} */ const shown = [];
  const ask = requester(fake.model, controller.signal, (text) => shown.push(text));
  return { fake, ask, shown, controller };
}

beforeEach(stillWindow);

test("what is wished for is sent with an id, and its own answer alone is shown", () => {
  const { fake, ask, shown } = asked();
  ask({ kind: "run", prompt: "Hi" });
  ask({ kind: "stop" });
  assert.deepEqual(fake.take(), [
    { id: 1, kind: "run", prompt: "Hi" },
    { id: 2, kind: "stop" },
  ]);
  fake.receive({ kind: "reply", id: 1, error: "too late" });
  fake.receive({ kind: "other", id: 2, error: "not mine" });
  assert.deepEqual(shown, [null, null]);
  fake.receive({ kind: "reply", id: 2, error: "no" });
  assert.deepEqual(shown, [null, null, "no"]);
});

test("a kernel that is busy is said to be, until it answers or the view is closed", () => {
  const busy = "The kernel is busy: this takes effect when the running cell ends.";
  const first = asked();
  first.ask({ kind: "stop" });
  mock.timers.tick(1499);
  assert.deepEqual(first.shown, [null]);
  mock.timers.tick(1);
  first.fake.receive({ kind: "reply", id: 1, error: null });
  assert.deepEqual(first.shown, [null, busy, null]);
  const second = asked();
  second.ask({ kind: "stop" });
  second.fake.receive({ kind: "reply", id: 1, error: null });
  second.ask({ kind: "stop" });
  second.controller.abort();
  mock.timers.tick(5000);
  assert.ok(!second.shown.includes(busy));
});

test("a widget that was read from a notebook asks nobody and says what to do", () => {
  const fake = new FakeModel({ layout: { comm_live: false } });
  /** @type {(string | null)[]} */ const shown = [];
  requester(fake.model, new AbortController().signal, (text) => shown.push(text))({ kind: "run" });
  mock.timers.tick(5000);
  assert.deepEqual(shown, [null, "Saved view. Run the cell to continue."]);
  assert.deepEqual(fake.take(), []);
});

test("what was set in any widget goes ahead of the next request, once and as the page shows it", () => {
  const { fake, ask } = asked();
  const part = new FakeModel({ params: 0, seed: 0 });
  const controller = new AbortController();
  const set = setter(part.model, "params", controller.signal);
  ask({ kind: "stop" });
  set(1);
  set(2);
  assert.deepEqual([part.take(), part.saves], [[], 2]);
  part.set("params", 3); // by Python
  fake.take();
  fake.send = (content) => fake.sent.push(...part.take(), content);
  ask({ kind: "run" });
  ask({ kind: "stop" });
  assert.deepEqual(fake.take(), [
    { kind: "state", state: { params: 3 } },
    { id: 2, kind: "run" },
    { id: 3, kind: "stop" },
  ]);
  set(4);
  controller.abort();
  ask({ kind: "run" });
  assert.deepEqual(part.take(), []);
});
