// What JupyterLab saves of the widgets in a notebook: the state of those that its cells show.
//
// By itself it saves every model that a kernel answers for, shown or not, and drops those that were read from the
// notebook: to open a notebook and save it would lose what was saved before. It also keeps both for Notebook 7.

/**
 * @typedef {{model_name: string, model_module: string, model_module_version: string, state: Record<string, unknown>}} Saved
 * @typedef {Record<string, Saved>} States  by the ids of the models
 *
 * What is used of JupyterLab:
 * @typedef {{data?: Record<string, any>}} Output
 * @typedef {{toJSON(): {cells: {outputs?: Output[]}[]}, getMetadata(name: string): any, setMetadata(name: string, value: unknown): void}} Notebook
 * @typedef {{connect(slot: (sender: unknown, stage: string) => void): unknown}} Signal
 * @typedef {{model: Notebook, saveState?: Signal} & Record<symbol, boolean>} Context
 * @typedef {{name: string, module: string, get(name: string): any, get_state(dropDefaults: boolean): Record<string, any>, serialize(state: Record<string, any>): Record<string, unknown>}} Model
 * @typedef {{context?: Context | null, _modelsSync?: Map<string, Model>}} Manager
 */

const STATE_TYPE = "application/vnd.jupyter.widget-state+json";
const VIEW_TYPE = "application/vnd.jupyter.widget-view+json";
// Each widget has this module's text of its own, and a notebook needs it once.
const IS_KEPT = Symbol.for("workbench.saving");

/** The notebook that a model is saved with; null in hosts that save no state. @param {{widget_manager?: unknown}} model */
export function savedWith({ widget_manager: manager }) {
  const { context } = /** @type {Manager} */ (manager ?? {});
  return context?.saveState && typeof context.model?.getMetadata === "function" ? context : null;
}

/** Put the state right each time the notebook of a model is saved. @param {{widget_manager?: unknown}} model */
export function keepSavedState(model) {
  const context = savedWith(model);
  if (!context?.saveState || context[IS_KEPT]) return;
  context[IS_KEPT] = true;
  const manager = /** @type {Manager} */ (model.widget_manager);
  // JupyterLab's own slot was connected before, and has written its state by now.
  context.saveState.connect((_, stage) => stage === "started" && putRight(context.model, manager));
}

/** @param {Notebook} notebook @param {Manager} manager */
function putRight(notebook, manager) {
  const metadata = notebook.getMetadata("widgets");
  const written = metadata?.[STATE_TYPE];
  if (!written) return; // the user does not want any state to be saved
  /** @type {States} */ const known = { ...written.state };
  for (const [id, model] of manager._modelsSync ?? []) known[id] ??= stateOf(model);
  const kept = statesToKeep(known, Object.keys(written.state), shownIn(notebook));
  notebook.setMetadata("widgets", { ...metadata, [STATE_TYPE]: { ...written, state: kept } });
}

/** The ids of the models that cells show. @param {Notebook} notebook */
function shownIn(notebook) {
  const outputs = notebook.toJSON().cells.flatMap((cell) => cell.outputs ?? []);
  return outputs.flatMap(({ data }) => data?.[VIEW_TYPE]?.model_id ?? []);
}

/**
 * The states of what is shown with all its parts, and of the widgets of other packages as they were written.
 * @param {States} known @param {string[]} written  ids that JupyterLab would save @param {string[]} shown  ids
 * @returns {States}
 */
export function statesToKeep(known, written, shown) {
  const kept = reachable(known, shown);
  const others = written.filter((id) => !isOurs(known[id]) && known[id].model_name !== "LayoutModel");
  for (const id of reachable(known, others)) kept.add(id);
  return Object.fromEntries([...kept].map((id) => [id, known[id]]));
}

/** The models, and all that they refer to. @param {States} known @param {string[]} ids */
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

/** A model as JupyterLab writes it. @param {Model} model @returns {Saved} */
function stateOf(model) {
  return {
    model_name: model.name,
    model_module: model.module,
    model_module_version: model.get("_model_module_version"),
    state: model.serialize(model.get_state(true)),
  };
}
