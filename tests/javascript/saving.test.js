// What a notebook keeps of its widgets: those that its cells show, with all their parts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { keepSavedState, savedWith, statesToKeep } from "../../workbench/widgets/static/saving.js";

/** @import { Output, States } from "../../workbench/widgets/static/saving.js" */

const STATE_TYPE = "application/vnd.jupyter.widget-state+json";
const VIEW_TYPE = "application/vnd.jupyter.widget-view+json";

/** @param {Record<string, unknown>} state */
const ours = (state = {}) => saved("AnyModel", { _anywidget_id: "workbench.widgets.some.Widget", ...state });

/** @param {string} name @param {Record<string, unknown>} [state] */
const saved = (name, state = {}) => ({ model_name: name, model_module: "m", model_module_version: "1", state });

/** @type {States} */
const KNOWN = {
  box: ours({ feed: "anywidget:feed", layout: "IPY_MODEL_l1", _esm: '"anywidget:hidden"' }),
  feed: ours({ layout: "IPY_MODEL_l2" }),
  hidden: ours({ layout: "IPY_MODEL_l3" }),
  slider: saved("FloatSliderModel", { layout: "IPY_MODEL_l4" }),
  link: saved("LinkModel"),
  ...Object.fromEntries(["l1", "l2", "l3", "l4"].map((id) => [id, saved("LayoutModel")])),
};

test("of our widgets those are kept that a cell shows, and of others all", () => {
  const kept = statesToKeep(KNOWN, Object.keys(KNOWN), ["box", "unknown"]);
  assert.deepEqual(Object.keys(kept).sort(), ["box", "feed", "l1", "l2", "l4", "link", "slider"]);
});

test("a widget that is shown is kept though no kernel answers for it, and one of another package is not brought back", () => {
  assert.deepEqual(Object.keys(statesToKeep(KNOWN, [], ["box"])).sort(), ["box", "feed", "l1", "l2"]);
});

/** A notebook with outputs, as JupyterLab has it. @param {Output[]} outputs @param {States | null} written */
function notebookOf(outputs, written) {
  /** @type {Record<string, any>} */ const metadata = written ? { widgets: { [STATE_TYPE]: { state: written } } } : {};
  /** @type {((sender: unknown, stage: string) => void)[]} */ const slots = [];
  const model = {
    toJSON: () => ({ cells: [{ outputs }, {}] }),
    getMetadata: (/** @type {string} */ name) => metadata[name],
    setMetadata: (/** @type {string} */ name, /** @type {unknown} */ value) => {
      metadata[name] = value;
    },
  };
  const context = { model, saveState: { connect: (/** @type {(typeof slots)[0]} */ slot) => slots.push(slot) } };
  return { context, metadata, slots, save: () => slots.forEach((slot) => slot(context, "started")) };
}

const SHOWN = [{ data: { [VIEW_TYPE]: { model_id: "box" } } }, {}];

test("each save puts the state right, with one slot for all widgets of a notebook", () => {
  const { context, metadata, slots, save } = notebookOf(SHOWN, { hidden: KNOWN.hidden, l3: KNOWN.l3 });
  const dead = {
    name: "AnyModel",
    module: "anywidget",
    get: () => "~0.11",
    get_state: () => ({ turns: [1] }),
    serialize: (/** @type {any} */ state) => ({ ...state, _anywidget_id: "workbench.chat" }),
  };
  const widget_manager = { context, _modelsSync: new Map([["box", dead]]) };
  for (let i = 0; i < 3; i += 1) keepSavedState({ widget_manager });
  assert.equal(slots.length, 1);
  save();
  assert.deepEqual(metadata.widgets[STATE_TYPE].state, {
    box: {
      model_name: "AnyModel",
      model_module: "anywidget",
      model_module_version: "~0.11",
      state: { turns: [1], _anywidget_id: "workbench.chat" },
    },
  });
});

test("where nothing is saved, nothing is written", () => {
  const { context, metadata, save } = notebookOf(SHOWN, null);
  keepSavedState({ widget_manager: { context } });
  save();
  assert.deepEqual(metadata, {});
});

test("a host that saves no state has no notebook", () => {
  for (const widget_manager of [undefined, {}, { context: null }, { context: { model: {} } }]) {
    assert.equal(savedWith({ widget_manager }), null);
    keepSavedState({ widget_manager });
  }
});
