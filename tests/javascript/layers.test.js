// A lens: what the page has of it whatever is lost on the way, how keys move, what is said, and where lines are drawn.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import {
  layerAt,
  layerTicks,
  layerX,
  probabilityScale,
  rankScale,
} from "../../workbench/widgets/static/layers_chart.js";
import { LayersStore } from "../../workbench/widgets/static/layers_store.js";
import { cellInWords, cellTarget, courseInWords, settledFrom } from "../../workbench/widgets/static/layers_words.js";
import { FakeModel, stillWindow } from "./fake_page.js";
import { pick, random } from "./random.js";
import { tokens } from "./tokens.js";

/**
 * @import { Cell, Change, Feed, LayersState, LensKind, Stored, WireColumn } from "../../workbench/widgets/static/layers_store.js"
 */

const LAYERS = 3;

/** @param {number} position @param {LensKind} lens @returns {WireColumn} */
function wireColumn(position, lens) {
  const top = lens === "logit" ? 0.25 : 0.5;
  return [position, Array.from({ length: LAYERS }, (_, layer) => [position, ` w${layer}`, top, 0.1, 9 - layer])];
}

/** @param {number[]} ranks @returns {Cell[]} */
function cells(...ranks) {
  return ranks.map((rank) => ({
    top: { id: rank === 1 ? 7 : 8, label: " x", probability: 0.5 },
    probability: 0.25,
    rank,
  }));
}

class FakeFeed {
  /** @type {((change: {kind: string}) => void)[]} */ #listeners = [];
  /** @type {string | null} */ run = "r1";
  tokens = tokens(...Array.from({ length: 40 }, () => -1));
  reads = false;
  active = false;
  /** @type {number[]} */ selected = [];

  get current() {
    return this.selected.at(-1) ?? null;
  }

  /** @param {number[]} positions */
  select(positions) {
    this.selected = positions;
    this.emit("selected");
  }

  /** @param {(change: {kind: string}) => void} listener */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** @param {string} kind */
  emit(kind) {
    for (const listener of this.#listeners) listener({ kind });
  }
}

/** @param {Partial<LayersState>} [facts] */
function opened(facts = {}) {
  /** @type {LayersState} */ const state = {
    feed: "",
    kind: "logit",
    layer: null,
    state: "idle",
    message: "",
    refused: "",
    stored: {},
    ...facts,
  };
  const fake = new FakeModel(/** @type {LayersState & Record<string, unknown>} */ (state));
  const feed = new FakeFeed();
  const controller = new AbortController();
  const view = () =>
    new LayersStore(fake.model, /** @type {Feed} */ (/** @type {unknown} */ (feed)), controller.signal);
  const store = view();
  /** @type {Change[]} */ const told = [];
  store.listen((change) => told.push(change), controller.signal);
  return { fake, feed, store, told, controller, view };
}

/** @param {LayersStore} store @param {number} from @param {number} to */
function missing(store, from, to) {
  return Array.from({ length: to - from }, (_, i) => from + i).filter((position) => store.column(position) === null);
}

beforeEach(stillWindow);

test("what is on the screen is there in the end, whatever was lost, scrolled and switched before", () => {
  for (let seed = 0; seed < 200; seed += 1) {
    const draw = random(seed);
    const { fake, store } = opened();
    /** @type {Record<LensKind, Set<number>>} */ const known = { logit: new Set(), jacobian: new Set() };
    /** @type {{from: number, to: number | null}} */ let span = { from: 0, to: 0 };
    const send = (/** @type {number[]} */ positions, /** @type {number} */ loss) => {
      const lens = store.kind;
      if (positions.length && draw() >= loss)
        fake.receive({ kind: "columns", run: "r1", lens, columns: positions.map((at) => wireColumn(at, lens)) });
    };
    const answer = (/** @type {number} */ loss) => {
      for (const message of /** @type {any[]} */ (fake.take())) {
        if (message.kind !== "look" || draw() < loss) continue;
        span = message;
        send(
          message.wanted.filter((/** @type {number} */ at) => known[store.kind].has(at)),
          loss,
        );
      }
      const seen = known[store.kind];
      const fresh = Array.from({ length: (span.to ?? 40) - span.from }, (_, i) => span.from + i);
      const lacking = fresh.filter((at) => !seen.has(at));
      if (!lacking.length) return;
      fake.set("state", "computing");
      for (const at of lacking) seen.add(at);
      send(lacking, loss);
      fake.set("state", "idle");
    };
    let [from, to] = [0, 9];
    for (let i = 0; i < 8; i += 1) {
      from = Math.floor(draw() * 31);
      to = Math.min(40, from + 9);
      store.look({ from, to, isEnd: to === 40 });
      if (draw() < 0.3) fake.set("kind", pick(draw, ["logit", "jacobian"]));
      mock.timers.tick(pick(draw, [10, 100, 3000]));
      answer(0.5);
    }
    for (let i = 0; i < 4; i += 1) {
      mock.timers.tick(3000);
      answer(0);
    }
    assert.deepEqual(missing(store, from, to), [], `seed ${seed}`);
    const top = store.kind === "logit" ? 0.25 : 0.5;
    assert.equal(store.column(from)?.[0].top.probability, top);
    mock.timers.tick(60_000);
    assert.deepEqual(fake.take(), [], "nothing is asked for when nothing is missing");
  }
});

test("a held scroll is a few requests, and the end of a text that grows is open", () => {
  const { fake, store } = opened();
  for (let from = 0; from < 30; from += 1) store.look({ from, to: from + 10, isEnd: from === 30 });
  mock.timers.tick(60);
  assert.deepEqual(fake.take(), [
    { kind: "look", run: "r1", from: 29, to: 39, wanted: [29, 30, 31, 32, 33, 34, 35, 36, 37, 38] },
  ]);
  store.look({ from: 38, to: 40, isEnd: true });
  mock.timers.tick(60);
  assert.deepEqual(fake.take(), [{ kind: "look", run: "r1", from: 38, to: null, wanted: [38, 39] }]);
});

test("the last of several views that is hidden stops the computation", () => {
  const { fake, store, view } = opened();
  const other = view();
  store.look({ from: 0, to: 5, isEnd: false });
  other.look({ from: 20, to: 22, isEnd: false });
  mock.timers.tick(60);
  assert.equal(fake.take().length, 2);
  store.hide();
  mock.timers.tick(60);
  assert.deepEqual(fake.take(), [{ kind: "look", run: "r1", from: 20, to: 22, wanted: [20, 21] }]);
  other.hide();
  assert.deepEqual(fake.take(), [{ kind: "hide" }]);
});

test("columns of another run are not shown, and those of a new one are asked for", () => {
  const { fake, feed, store, told } = opened();
  store.look({ from: 0, to: 2, isEnd: false });
  fake.receive({ kind: "columns", run: "r0", lens: "logit", columns: [wireColumn(0, "logit")] });
  assert.equal(store.column(0), null);
  fake.receive({ kind: "columns", run: "r1", lens: "logit", columns: [wireColumn(0, "logit")] });
  assert.equal(store.layers, LAYERS);
  feed.run = "r2";
  feed.emit("reset");
  assert.deepEqual([store.column(0), store.layers], [null, 0]);
  assert.deepEqual(
    told.map(({ kind }) => kind),
    ["reset", "reset"],
  );
  fake.take();
  mock.timers.tick(300);
  assert.deepEqual(fake.take(), [{ kind: "look", run: "r2", from: 0, to: 2, wanted: [0, 1] }]);
});

test("what is stored is shown again without a kernel", () => {
  const { fake, store } = opened();
  store.look({ from: 0, to: 9, isEnd: false });
  const columns = Array.from({ length: 99 }, (_, position) => wireColumn(position, "logit"));
  for (const column of columns) fake.receive({ kind: "columns", run: "r1", lens: "logit", columns: [column] });
  fake.receive({ kind: "words", run: "r1", lens: "logit", position: 90, words: [[[7, " a", 0.5]]] });
  const stored = /** @type {Stored} */ (fake.get("stored"));
  assert.deepEqual([stored.columns?.length, stored.run, stored.lens], [60, "r1", "logit"]);
  const later = opened({ stored: JSON.parse(JSON.stringify(stored)) });
  assert.deepEqual(later.store.column(98), store.column(98));
  assert.deepEqual(later.store.words(90), [[{ id: 7, label: " a", probability: 0.5 }]]);
  assert.equal(later.store.column(0), null);
});

test("the words of the chosen column are requested once the choice rests", () => {
  const { fake, feed, store } = opened();
  fake.receive({
    kind: "columns",
    run: "r1",
    lens: "logit",
    columns: [wireColumn(4, "logit"), wireColumn(5, "logit")],
  });
  feed.select([4]);
  assert.equal(store.words(4), null);
  feed.select([5]);
  assert.equal(store.words(5), null);
  mock.timers.tick(60);
  assert.deepEqual(fake.take(), [{ kind: "words", run: "r1", position: 5 }]);
});

test("a cell is chosen within the grid, and the last layer stays the last", () => {
  const { fake, feed, store } = opened();
  fake.receive({ kind: "columns", run: "r1", lens: "logit", columns: [wireColumn(4, "logit")] });
  store.choose(99, 99);
  assert.deepEqual([store.current, store.layer, fake.get("layer")], [39, 2, null]);
  feed.reads = true;
  store.choose(-5, -5);
  assert.deepEqual([store.current, store.layer, fake.get("layer")], [1, 0, 0]);
  feed.select([0]); // the first token of a reading
  assert.equal(store.current, null);
});

test("keys move over the grid and stop at its edges", () => {
  const at = { position: 5, layer: 3, first: 1, last: 39, layers: 30, page: 10 };
  const after = (/** @type {string} */ key, facts = {}, keys = {}) => {
    const target = cellTarget({ key, ctrlKey: false, metaKey: false, altKey: false, ...keys }, { ...at, ...facts });
    return target && [target.position, target.layer];
  };
  assert.deepEqual(after("ArrowLeft"), [4, 3]);
  assert.deepEqual(after("ArrowRight"), [6, 3]);
  assert.deepEqual(after("ArrowUp"), [5, 2]);
  assert.deepEqual(after("ArrowDown"), [5, 4]);
  assert.deepEqual(after("Home"), [1, 3]);
  assert.deepEqual(after("End"), [39, 3]);
  assert.deepEqual(after("PageDown"), [15, 3]);
  assert.deepEqual(after("PageUp"), [1, 3]);
  assert.deepEqual(after("Home", {}, { ctrlKey: true }), [1, 0]);
  assert.deepEqual(after("End", {}, { ctrlKey: true }), [39, 29]);
  assert.deepEqual(after("ArrowRight", { position: 39 }), [39, 3]);
  assert.deepEqual(after("ArrowDown", { layer: 29 }), [5, 29]);
  assert.deepEqual(after("ArrowRight", { position: null, layer: 29 }), [1, 29]);
  assert.deepEqual(after("ArrowUp", { position: null, layer: 29 }), [39, 29]);
  for (const key of ["a", "Enter", "Tab"]) assert.equal(after(key), null);
  assert.equal(after("ArrowLeft", {}, { altKey: true }), null);
  assert.equal(after("ArrowLeft", {}, { ctrlKey: true }), null);
});

test("a cell and a course are told in words", () => {
  const said = { id: 7, label: " yes" };
  assert.equal(cellInWords(cells(1)[0], said), "“␣x” is the most probable, 50.0 %; it was said.");
  assert.equal(
    cellInWords(cells(1234)[0], said),
    "“␣x” is the most probable, 50.0 %. “␣yes”, which was said, has rank 1,234, 25.0 %.",
  );
  assert.equal(
    courseInWords(cells(900, 1, 3, 1, 1)),
    "The most probable token from layer 3 on; rank 900 after layer 0.",
  );
  assert.equal(courseInWords(cells(1, 1)), "The most probable token after every layer.");
  assert.equal(
    courseInWords(cells(40, 1)),
    "The most probable token after the last layer alone; rank 40 after layer 0.",
  );
  assert.equal(courseInWords(cells(1, 2)), "Rank 2 after the last layer.");
  assert.deepEqual([settledFrom(cells(2, 1, 1)), settledFrom(cells(2)), settledFrom(cells(1))], [1, null, 0]);
});

test("ranks are drawn on a log scale from 1 on top, probabilities from 100 %", () => {
  const scale = rankScale(30_000);
  assert.equal(scale.at(1), 0);
  assert.ok(Math.abs(scale.at(10) - scale.at(1) - (scale.at(1000) - scale.at(100))) < 1e-12);
  assert.ok(scale.at(30_000) <= 1);
  for (const worst of [1, 2, 10, 11, 999, 49_152, 250_000]) {
    const { at, ticks } = rankScale(worst);
    assert.ok(at(worst) <= 1 + 1e-12);
    assert.equal(ticks[0][1], "1");
    assert.ok(ticks.length >= 2 && ticks.length <= 4);
    assert.ok(ticks.every(([rank]) => at(rank) >= 0 && at(rank) <= 1 + 1e-12));
  }
  assert.deepEqual([1, 0.25, 0].map(probabilityScale().at), [0, 0.75, 1]);
});

test("a click on the chart chooses the layer that is drawn there", () => {
  for (const layers of [1, 2, 12, 30, 80]) {
    for (let layer = 0; layer < layers; layer += 1) assert.equal(layerAt(layerX(layer, layers) / 300, layers), layer);
    const ticks = layerTicks(layers);
    assert.deepEqual([ticks[0], ticks.at(-1)], [0, layers - 1]);
    assert.ok(ticks.length <= 8);
    assert.deepEqual(
      ticks,
      [...new Set(ticks)].sort((a, b) => a - b),
    );
  }
  assert.deepEqual([layerAt(-1, 30), layerAt(2, 30)], [0, 29]);
});
