// Corrects the widget state that JupyterLab saves with a notebook to that of the widgets that its cells show.
//
// JupyterLab itself saves every live model, shown or not, and drops those that were read from the notebook, so that
// opening and saving a notebook would lose them. Notebook 7 has the same widget manager.

/**
 * @typedef {{model_name: string, model_module: string, model_module_version: string, state: Record<string, unknown>}} Saved
 * @typedef {Record<string, Saved>} States  by the id of the model
 *
 * The parts of JupyterLab's interfaces that are used:
 * @typedef {{data?: Record<string, any>}} Output
 * @typedef {{toJSON(): {cells: {outputs?: Output[]}[]}, getMetadata(name: string): any, setMetadata(name: string, value: unknown): void}} Notebook
 * @typedef {{connect(slot: (sender: unknown, stage: string) => void): unknown}} Signal
 * @typedef {{model: Notebook, saveState?: Signal} & Record<symbol, boolean>} Context
 * @typedef {{name: string, module: string, get(name: string): any, get_state(dropDefaults: boolean): Record<string, any>, serialize(state: Record<string, any>): Record<string, unknown>}} Model
 * @typedef {{context?: Context | null, _modelsSync?: Map<string, Model>}} Manager
 */

const STATE_TYPE = "application/vnd.jupyter.widget-state+json";
const VIEW_TYPE = "application/vnd.jupyter.widget-view+json";
// Each widget has a copy of this module, but a notebook needs only one.
const IS_KEPT = Symbol.for("workbench.saving");

/** Return the notebook with which a model is saved; null in hosts that save no state. @param {{widget_manager?: unknown}} model */
export function savedWith({ widget_manager: manager }) {
  const { context } = /** @type {Manager} */ (manager ?? {});
  return context?.saveState && typeof context.model?.getMetadata === "function" ? context : null;
}

/** Correct the state each time the notebook of a model is saved. @param {{widget_manager?: unknown}} model */
export function keepSavedState(model) {
  const context = savedWith(model);
  if (!context?.saveState || context[IS_KEPT]) return;
  context[IS_KEPT] = true;
  const manager = /** @type {Manager} */ (model.widget_manager);
  // JupyterLab's own slot was connected earlier, so it has already written its state.
  context.saveState.connect((_, stage) => stage === "started" && putRight(context.model, manager));
}

/** @param {Notebook} notebook @param {Manager} manager */
function putRight(notebook, manager) {
  const metadata = notebook.getMetadata("widgets");
  const written = metadata?.[STATE_TYPE];
  if (!written) return; // the user has turned off saving of state
  /** @type {States} */ const known = { ...written.state };
  for (const [id, model] of manager._modelsSync ?? []) known[id] ??= stateOf(model);
  const kept = statesToKeep(known, Object.keys(written.state), shownIn(notebook));
  notebook.setMetadata("widgets", { ...metadata, [STATE_TYPE]: { ...written, state: kept } });
}

/** Return the ids of the models that cells show. @param {Notebook} notebook */
function shownIn(notebook) {
  const outputs = notebook.toJSON().cells.flatMap((cell) => cell.outputs ?? []);
  return outputs.flatMap(({ data }) => data?.[VIEW_TYPE]?.model_id ?? []);
}

/**
 * Return the states of the widgets shown and all their parts, and those of other packages as they were written.
 * @param {States} known @param {string[]} written  ids that JupyterLab would save @param {string[]} shown  ids
 * @returns {States}
 */
export function statesToKeep(known, written, shown) {
  const kept = reachable(known, shown);
  const others = written.filter((id) => !isOurs(known[id]) && known[id].model_name !== "LayoutModel");
  for (const id of reachable(known, others)) kept.add(id);
  return Object.fromEntries([...kept].map((id) => [id, known[id]]));
}

/** Return models with all models to which they refer. @param {States} known @param {string[]} ids */
function reachable(known, ids) {
  /** @type {Set<string>} */ const found = new Set();
  const waiting = [...ids];
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (found.has(id) || !known[id]) continue;
    found.add(id);
    const { _esm, _css, ...state } = known[id].state;
    for (const [, other] of JSON.stringify(state).matchAll(/"(?:IPY_MODEL_|anywidget:)(\w+)"/g)) waiting.push(other);
  }
  return found;
}

/** @param {Saved} saved */
function isOurs({ state }) {
  return String(state._anywidget_id ?? "").startsWith("workbench.");
}

/** Return a model as JupyterLab writes it. @param {Model} model @returns {Saved} */
function stateOf(model) {
  return {
    model_name: model.name,
    model_module: model.module,
    model_module_version: model.get("_model_module_version"),
    state: model.serialize(model.get_state(true)),
  };
}
