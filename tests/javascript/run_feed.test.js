// The store that the views of a run read: whatever is lost or late between kernel and page, it tells the run.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import feed from "../../workbench/widgets/static/run_feed.js";
import { FakeModel, stillWindow } from "./fake_page.js";
import { pick, random } from "./random.js";

/**
 * @import { Change, State, Store } from "../../workbench/widgets/static/run_feed.js"
 * @import { Delta, End, RunState, Snapshot, WireToken, WireUsage } from "../../workbench/widgets/static/run_wire.js"
 */

/** @type {Snapshot} */
const IDLE = { run: null, state: "idle", sequence: 0, tokens: [], usage: null };

/** @param {number} i @returns {WireToken} */
const wire = (i) => (i % 5 === 4 ? [i, `<${i}>`, -0.5, 1, 1, 1, ""] : [i, ` t${i}`, -0.5, 1, 1]);

/** @param {number} count @param {Partial<Snapshot>} [facts] @returns {Snapshot} */
function snapshot(count, facts = {}) {
  const tokens = Array.from({ length: count }, (_, i) => wire(i));
  return { run: "r1", state: "running", sequence: 0, tokens, usage: [3, 0, count, 0.1, 20], ...facts };
}

/** @param {Snapshot} first */
function opened(first) {
  const fake = new FakeModel(
    /** @type {State} */ ({ snapshot: first, selected: [], forks: [], unit: "bits", problem: "" }),
  );
  const controller = new AbortController();
  const { store } = feed.initialize({ model: fake.model, signal: controller.signal });
  /** @type {Change[]} */ const told = [];
  store.listen((change) => told.push(change), controller.signal);
  fake.take(); // a page that finds a run going on asks for it
  return { fake, store, told, controller };
}

/** @param {Store} store */
const labels = (store) => store.tokens.map((token) => token.label);

/** @param {number} sequence @param {number} at @param {number} to @param {Partial<Delta>} [more] @returns {Delta} */
function delta(sequence, at, to, more = {}) {
  const tokens = Array.from({ length: to - at }, (_, i) => wire(at + i));
  return { kind: "delta", news: ["r1", sequence, at, tokens, 21], ...more };
}

beforeEach(stillWindow);

test("tokens come with what they add to the text, and usage grows with them", () => {
  const { fake, store, told } = opened(snapshot(0));
  fake.receive(delta(1, 0, 2));
  fake.receive(delta(2, 2, 5, { usage: [3, 1, 5, 0.2, 22] }));
  fake.receive(delta(3, 5, 6));
  assert.deepEqual(labels(store), [" t0", " t1", " t2", " t3", "<4>", " t5"]);
  assert.deepEqual(store.tokens.map((token) => token.special).indexOf(true), 4);
  assert.equal(store.tokens.map((token) => token.piece).join(""), " t0 t1 t2 t3 t5");
  assert.deepEqual(store.usage, { prompt: 3, reused: 1, generated: 6, firstTokenS: 0.2, tokensPerS: 21, kept: 0 });
  assert.deepEqual(
    told.map(({ kind, from }) => [kind, from]),
    [
      ["append", 0],
      ["append", 2],
      ["append", 5],
    ],
  );
  assert.deepEqual(fake.take(), []);
});

test("a branch counts what it generated itself, apart from the tokens that it kept", () => {
  const { fake, store } = opened(snapshot(3, { usage: [3, 5, 0, null, null, 3] }));
  fake.receive(delta(1, 3, 5));
  assert.deepEqual([store.usage?.kept, store.usage?.generated, store.tokens.length], [3, 2, 5]);
});

test("whatever is lost, doubled or late, no token is ever wrong, and the end is the run", () => {
  for (let seed = 0; seed < 300; seed += 1) {
    const draw = random(seed);
    const { fake, store } = opened(snapshot(0));
    let [count, sequence] = [0, 0];
    /** @type {(Delta | {kind: "snapshot", snapshot: Snapshot} | End)[]} */ const underWay = [];
    const carry = () => {
      if (underWay.length) fake.receive(underWay.shift());
      for (const { kind } of fake.take()) {
        assert.equal(kind, "snapshot");
        if (draw() < 0.8) underWay.push({ kind: "snapshot", snapshot: snapshot(count, { sequence }) });
      }
      assert.deepEqual(
        labels(store),
        Array.from({ length: store.tokens.length }, (_, i) => wire(i)[1]),
      );
      assert.ok(store.tokens.length <= count);
    };
    for (let step = 0; step < 30; step += 1) {
      const from = count;
      count += Math.floor(draw() * 4);
      sequence += 1;
      const news = delta(sequence, from, count);
      underWay.push(...pick(draw, [[news], [news], [news], [], [news, news]]));
      while (draw() < 0.7) carry();
    }
    const whole = snapshot(count, { sequence, state: "finished", stop_reason: "end_of_turn" });
    underWay.push({ ...whole, kind: "end", at: count, tokens: [] });
    while (underWay.length || fake.sent.length) {
      if (fake.sent.length) underWay.push({ kind: "snapshot", snapshot: whole });
      fake.take();
      if (underWay.length) fake.receive(underWay.shift());
    }
    assert.deepEqual([store.tokens.length, store.state, store.stopReason], [count, "finished", "end_of_turn"]);
    assert.equal(store.active, false);
  }
});

test("progress is what the last message said of it, and the seconds of a stage go on in a new page", () => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 100_000 });
  const { fake, store } = opened(snapshot(0, { progress: ["loading", null, 600, 4], model: "tiny" }));
  assert.deepEqual(
    [store.progress, store.model],
    [{ stage: "loading", done: null, total: 600, sinceMs: 96_000 }, "tiny"],
  );
  fake.receive(delta(1, 0, 0, { progress: ["reading", 64, 200, 0] }));
  assert.deepEqual([store.progress?.stage, store.progress?.done], ["reading", 64]);
  fake.receive(delta(2, 0, 1));
  assert.equal(store.progress, null);
});

test("the measured prompt that an answered page was told stays to the end, which does not repeat it", () => {
  const { fake, store } = opened(snapshot(0));
  /** @type {WireToken[]} */ const prompt = [[7, " upon", -0.5, 1, 1]];
  fake.receive({ kind: "snapshot", snapshot: snapshot(2, { sequence: 1, prompt }) });
  fake.receive({ ...snapshot(0, { state: "finished", sequence: 1 }), kind: "end", at: 2 });
  assert.deepEqual([store.prompt.length, fake.state.snapshot.prompt], [1, prompt]);
});

test("the measured prompt is told once and stays, in the page and in what the page saves", () => {
  const { fake, store } = opened(snapshot(0));
  assert.deepEqual([store.prompt, store.reads], [[], false]);
  /** @type {WireToken[]} */ const prompt = [
    [-1, "Once", null, 0, null],
    [7, " upon", -0.5, 1, 1],
  ];
  fake.receive(delta(1, 0, 2, { prompt }));
  fake.receive(delta(2, 2, 3));
  fake.receive({ ...snapshot(0, { state: "finished", sequence: 2 }), kind: "end", at: 3 });
  assert.deepEqual(
    store.prompt.map(({ piece, logprob }) => [piece, logprob]),
    [
      ["Once", null],
      [" upon", -0.5],
    ],
  );
  assert.deepEqual(fake.state.snapshot.prompt, prompt);
  fake.model.set("snapshot", snapshot(2, { run: "r2", reads: true, state: "finished" }));
  assert.deepEqual([store.prompt, store.reads], [[], true]);
});

test("what is told twice counts once, and what is told of another run or after a gap is asked about", () => {
  const { fake, store } = opened(snapshot(2));
  fake.receive({ kind: "snapshot", snapshot: snapshot(2) });
  const call = delta(1, 2, 3, { calls: [[0, "started", "<"]] });
  fake.receive(call);
  fake.receive(call);
  assert.deepEqual([store.tokens.length, store.calls[0].text, fake.take()], [3, "<", []]);
  const strangers = [
    { ...delta(2, 3, 4), news: ["r2", 2, 3, [wire(3)], 1] },
    delta(3, 3, 3, { state: "paused" }),
    delta(2, 4, 5),
    { ...snapshot(0, { run: "r2", sequence: 1 }), kind: "end", at: 3 },
    { ...snapshot(0, { sequence: 2 }), kind: "end", at: 3 },
    { ...snapshot(0, { sequence: 1 }), kind: "end", at: 4 },
  ];
  for (const stranger of strangers) {
    fake.receive(stranger);
    assert.deepEqual(
      fake.take().map(({ kind }) => kind),
      ["snapshot"],
    );
    assert.deepEqual([store.tokens.length, store.state], [3, "running"]);
    fake.receive({ kind: "snapshot", snapshot: snapshot(3, { sequence: 1 }) });
  }
});

test("the end brings what is missing, and the page keeps the whole with the notebook", () => {
  const { fake, store } = opened(snapshot(0));
  fake.receive(delta(1, 0, 3));
  const rest = snapshot(4, { sequence: 1, state: "finished", stop_reason: "out_of_tokens" });
  fake.receive({ ...rest, kind: "end", at: 3, tokens: rest.tokens.slice(3) });
  assert.deepEqual(labels(store), [" t0", " t1", " t2", " t3"]);
  assert.deepEqual(fake.state.snapshot.tokens, rest.tokens);
  assert.deepEqual([fake.state.snapshot.state, fake.saves], ["finished", 0]);
});

test("the end is a step behind the tokens, with alternatives, and none of the tokens", () => {
  const { fake, store, told } = opened(snapshot(0));
  fake.receive(delta(1, 0, 3));
  assert.equal(store.steps, store.tokens);
  const end = /** @type {WireToken} */ ([2, "<|im_end|>", -0.5, 1, 1, 0, ""]);
  const rest = snapshot(3, { sequence: 1, state: "finished", end });
  fake.receive({ ...rest, kind: "end", at: 3, tokens: [] });
  assert.deepEqual([store.tokens.length, store.steps.length, store.steps[3].special], [3, 4, true]);
  assert.deepEqual([told.at(-1)?.kind, told.at(-1)?.from], ["append", 3]);
  store.walkTo(9);
  assert.equal(store.current, 3);
  store.want(2, 9);
  mock.timers.tick(30);
  assert.deepEqual(fake.take(), [{ id: 2, kind: "alternatives", run: "r1", from: 2, to: 4 }]);
  assert.deepEqual(fake.state.snapshot.end, end);
  fake.model.set("snapshot", snapshot(1, { run: "r2" }));
  assert.equal(store.steps.length, 1);
});

test("a snapshot older than what is shown says nothing, and a run that has ended does not go on", () => {
  const { fake, store } = opened(snapshot(0));
  fake.receive(delta(1, 0, 2));
  fake.receive({ kind: "snapshot", snapshot: snapshot(0, { sequence: 0 }) });
  assert.equal(store.tokens.length, 2);
  fake.receive({ kind: "snapshot", snapshot: snapshot(3, { sequence: 1, state: "cancelled" }) });
  fake.receive({ kind: "snapshot", snapshot: snapshot(2, { sequence: 1, state: "running" }) });
  assert.deepEqual([store.tokens.length, store.state], [3, "cancelled"]);
});

test("another run begins anew, and one that goes on is added to", () => {
  const { fake, store, told } = opened(snapshot(2, { state: "finished" }));
  fake.model.set("snapshot", snapshot(1, { run: "r2" }));
  assert.deepEqual([store.run, store.tokens.length, told.at(-1)?.kind], ["r2", 1, "reset"]);
  fake.model.set("snapshot", snapshot(4, { run: "r2", sequence: 2 }));
  assert.deepEqual([told.at(-1)?.kind, told.at(-1)?.from], ["append", 1]);
  fake.model.set("snapshot", { ...IDLE, state: "failed", error: "no model" });
  assert.deepEqual([store.run, store.error, store.tokens.length], [null, "no model", 0]);
});

test("calls grow by their new text and are read once", () => {
  const { fake, store } = opened(snapshot(0));
  fake.receive(delta(1, 0, 1, { calls: [[0, "started", "<tool"]] }));
  fake.receive(
    delta(2, 1, 2, {
      calls: [
        [0, "success", "_call>", "get", "{}"],
        [1, "started", "<"],
      ],
    }),
  );
  assert.deepEqual(store.calls, [
    { status: "success", text: "<tool_call>", name: "get", args: "{}" },
    { status: "started", text: "<", name: null, args: null },
  ]);
});

test("a run pauses with a reason and goes on without one", () => {
  const { fake, store } = opened(snapshot(0, { can_pause: true }));
  fake.receive(delta(1, 0, 1, { state: "paused", paused_by: ["entropy_above", 2] }));
  assert.deepEqual(
    [store.state, store.pausedBy, store.active, store.canPause],
    ["paused", ["entropy_above", 2], true, true],
  );
  fake.receive(delta(2, 1, 2));
  assert.deepEqual([store.state, store.pausedBy], ["running", null]);
});

test("alternatives are asked for once, neighbours together, and forgotten with their run", () => {
  const { fake, store, told } = opened(snapshot(300, { state: "finished" }));
  for (const i of [5, 6, 7, 30, 200]) store.want(i, i + 1);
  store.want(6, 8);
  assert.deepEqual(fake.take(), []);
  mock.timers.tick(30);
  assert.deepEqual(
    fake.take().map(({ kind, run, from, to }) => [kind, run, from, to]),
    [
      ["alternatives", "r1", 5, 8],
      ["alternatives", "r1", 30, 31],
      ["alternatives", "r1", 200, 201],
    ],
  );
  fake.receive({ kind: "alternatives", run: "r1", from: 5, items: [[[9, " x", -2, 2]], [], []] });
  assert.deepEqual(store.alternatives(5), [{ id: 9, label: " x", logprob: -2, rank: 2 }]);
  assert.deepEqual([store.alternatives(6), store.alternatives(30), told.at(-1)?.kind], [[], null, "alternatives"]);
  fake.receive({ kind: "alternatives", run: "r0", from: 30, items: [[]] });
  fake.receive({ kind: "alternatives", from: 30, error: "this run is no longer shown" });
  assert.equal(store.alternatives(30), null);
  fake.model.set("snapshot", snapshot(2, { run: "r2" }));
  assert.equal(store.alternatives(5), null);
});

test("a long stretch is asked for in parts, and a gap of twenty begins another", () => {
  const { fake, store } = opened(snapshot(400, { state: "finished" }));
  store.want(0, 150);
  store.want(168, 169);
  store.want(188, 189);
  store.want(399, 900);
  mock.timers.tick(30);
  assert.deepEqual(
    fake.take().map(({ from, to }) => [from, to]),
    [
      [0, 100],
      [100, 169],
      [188, 189],
      [399, 400],
    ],
  );
});

test("selections are told once a frame, walk within the run, and may be ahead of it", () => {
  const { fake, store, told } = opened(snapshot(3, { state: "finished" }));
  store.walkTo(9);
  store.walkTo(-4);
  assert.deepEqual(fake.state.selected, [0]);
  assert.deepEqual(told, []);
  mock.timers.tick(16);
  assert.deepEqual(
    told.map(({ kind }) => kind),
    ["selected"],
  );
  store.select([1, 7]);
  assert.deepEqual([store.selected, store.current], [[1, 7], null]);
  store.select([3]);
  assert.equal(store.current, null);
  store.select([7, 2]);
  assert.equal(store.current, 2);
  const empty = opened(IDLE);
  empty.store.walkTo(1);
  assert.deepEqual(empty.fake.state.selected, []);
});

test("a page that is loaded in the middle asks for the run once, one that finds it whole does not", () => {
  for (const [state, asked] of /** @type {[RunState, number][]} */ ([
    ["queued", 1],
    ["running", 1],
    ["paused", 1],
    ["finished", 0],
    ["failed", 0],
    ["idle", 0],
  ])) {
    const fake = new FakeModel(
      /** @type {State} */ ({ snapshot: snapshot(1, { state }), selected: [], forks: [], unit: "bits", problem: "" }),
    );
    feed.initialize({ model: fake.model, signal: new AbortController().signal });
    assert.equal(fake.sent.length, asked, state);
    fake.receive({ kind: "delta", news: ["r1", 9, 8, [], 1] });
    assert.equal(fake.sent.length, 1, "a gap is asked about once");
  }
});

test("a view that is closed hears nothing more, and the page's end stops all clocks", () => {
  const { fake, store, told, controller } = opened(snapshot(9, { state: "finished" }));
  store.want(1, 2);
  store.select([1]);
  controller.abort();
  mock.timers.tick(1000);
  fake.model.set("forks", [1]);
  assert.deepEqual([told, fake.take()], [[], []]);
});

test("a unit that one view asks for is told to all of them and kept with the run", () => {
  const { fake, store, told } = opened(snapshot(1, { state: "finished" }));
  assert.equal(store.unit, "bits");
  store.measureIn("nats");
  assert.deepEqual([store.unit, fake.state.unit, fake.saves], ["nats", "nats", 1]);
  assert.deepEqual(told, [{ kind: "unit", from: 0 }]);
});

test("forks and the wish for the keyboard are handed on", () => {
  const { fake, store, told } = opened(snapshot(3, { state: "finished" }));
  fake.model.set("forks", [1, 2]);
  store.focus("token");
  assert.deepEqual(store.forks, [1, 2]);
  assert.deepEqual(
    told.map(({ kind, place }) => [kind, place]),
    [
      ["forks", undefined],
      ["focus", "token"],
    ],
  );
});

/** @param {Snapshot} first  in a notebook whose kernel has gone */
function reopened(first) {
  const fake = new FakeModel({ snapshot: first, selected: [], forks: [], layout: { comm_live: false } });
  const { store } = feed.initialize({ model: /** @type {any} */ (fake.model), signal: new AbortController().signal });
  mock.timers.tick(1000);
  return { fake, store };
}

test("what the page shows is what its notebook would save, while a run goes on too", () => {
  const { fake, store } = opened(snapshot(0));
  fake.receive(delta(1, 0, 3));
  assert.deepEqual(fake.state.snapshot, { ...snapshot(3, { sequence: 1 }), usage: [3, 0, 0, 0.1, 20] });
  fake.receive({ kind: "snapshot", snapshot: snapshot(5, { sequence: 2, state: "finished" }) });
  assert.equal(store.tokens.length, 5);
});

test("where a notebook is saved, all alternatives are asked for at the end and kept with the tokens", () => {
  const { fake, store } = opened(snapshot(0));
  const context = { saveState: { connect() {} }, model: { getMetadata() {} } };
  Object.assign(fake, { widget_manager: { context } });
  const end = /** @type {End} */ ({ ...snapshot(3, { state: "finished" }), kind: "end", at: 0 });
  fake.receive(end);
  mock.timers.tick(100);
  assert.deepEqual(fake.take(), [{ id: 2, kind: "alternatives", run: "r1", from: 0, to: 3 }]);
  const items = [[[9, " x", -2, 2]], [], [[8, " y", -3, 3]]];
  fake.receive({ kind: "alternatives", run: "r1", from: 0, items });
  assert.deepEqual(fake.state.snapshot.alternatives, items);
  assert.deepEqual(store.alternatives(2), [{ id: 8, label: " y", logprob: -3, rank: 3 }]);
});

test("elsewhere only the alternatives that are seen are asked for", () => {
  const { fake } = opened(snapshot(0));
  fake.receive(/** @type {End} */ ({ ...snapshot(3, { state: "finished" }), kind: "end", at: 0 }));
  mock.timers.tick(1000);
  assert.deepEqual(fake.take(), []);
});

test("a run that was read from a notebook has the alternatives that were saved, and asks nobody", () => {
  const { fake, store } = reopened(snapshot(3, { state: "finished", alternatives: [[[9, " x", -2, 2]], null] }));
  store.want(0, 3);
  mock.timers.tick(1000);
  assert.deepEqual(fake.take(), []);
  assert.deepEqual(
    [0, 1, 2].map((position) => store.alternatives(position)?.length),
    [1, 0, 0],
  );
});

test("a run that was going on when the notebook was saved goes on no more", () => {
  const { store } = reopened(snapshot(3));
  assert.deepEqual([store.state, store.active], ["unfinished", false]);
});
