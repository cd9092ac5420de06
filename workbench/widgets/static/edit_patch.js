// Patching: a cell of another run's grid is dragged to a cell of this run's, or both are chosen with the keyboard.

import { h, uniqueId } from "./dom.js";
import { layerGrid, spotName } from "./layer_grid.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { EditState, EditTexts } from "./edit_view.js"
 * @import { Spot } from "./layer_grid.js"
 */

/** The pointer moves this far before a press becomes a drag. */
const DRAG_PX = 4;

/** @param {AnyModel<EditState>} model @param {EditTexts} texts @param {Ask} ask @param {AbortSignal} signal */
export function patchForm(model, texts, ask, signal) {
  let from = /** @type {Spot | null} */ (null);
  let to = /** @type {Spot | null} */ (null);
  const layers = () => model.get("shape")[0] ?? 0;
  const source = layerGrid(
    "Cell to take",
    {
      layers,
      labels: () => model.get("source").labels ?? [],
      chosen: () => from,
      choose: (spot) => {
        from = spot;
        show();
      },
      enter: () => target.plane.focus(),
    },
    false,
    signal,
  );
  const target = layerGrid(
    "Cell to set",
    {
      layers,
      labels: texts.labels,
      chosen: () => to,
      choose: (spot) => {
        to = spot;
        show();
      },
      enter: () => apply(),
    },
    true,
    signal,
  );
  const button = h("button", { type: "button", class: "wb-button wb-edit-add", text: "Add change" });
  const apply = () => {
    const { id } = model.get("source");
    if (!from || !to || !id) return;
    ask({ kind: "patch", source: id, ...from, to_layer: to.layer, to: to.position });
  };
  const show = () => {
    source.show();
    target.show();
    button.disabled = !from || !to;
  };
  button.addEventListener("click", apply);
  const measureSource = () => {
    from = within(from, model.get("source").labels?.length ?? 0, layers());
    from ??= model.get("source").labels
      ? { layer: layers() >> 1, position: (model.get("source").labels ?? []).length - 1 }
      : null;
    source.measure();
    if (from) source.reveal(from.position);
    show();
  };
  const measureTarget = () => {
    to = within(to, texts.labels().length, layers());
    target.measure();
    show();
  };
  drag(source.plane, signal, {
    start: (x, y) => {
      const spot = source.spotAt(x, y);
      if (!spot) return null;
      from = spot;
      show();
      return spotName(spot, model.get("source").labels ?? []);
    },
    move: (x, y) => target.preview(target.spotAt(x, y)),
    end: (x, y) => {
      const spot = target.spotAt(x, y);
      target.preview(null);
      if (!spot) return;
      to = spot;
      show();
      apply();
    },
    cancel: () => target.preview(null),
  });
  model.on("change:source", measureSource);
  model.on("change:shape", () => {
    measureSource();
    measureTarget();
  });
  texts.listen(measureTarget, signal);
  measureSource();
  measureTarget();
  const grids = h(
    "div",
    { class: "wb-edit-grids" },
    h("div", {}, h("h3", { text: "From another run" }), sourceForm(model, ask, signal), source.root),
    h(
      "div",
      {},
      h("h3", { text: "To this run" }),
      h("p", { class: "wb-quiet", text: "Shaded: what it may affect." }),
      target.root,
    ),
  );
  const hint = h("p", {
    class: "wb-quiet",
    text: "Drag a cell of the other run to a cell of this one, or choose one in each and add the change.",
  });
  return {
    root: h("div", { class: "wb-edit-patch" }, hint, grids, button),
    /** Called when the form was hidden and is shown: it has a size only now. */
    measure() {
      measureSource();
      measureTarget();
    },
  };
}

/** Return a cell if it is one of the grid's. @param {Spot | null} spot @param {number} count @param {number} layers */
function within(spot, count, layers) {
  return spot && spot.position < count && spot.layer < layers ? spot : null;
}

/** The choice of the other run: one that the view has seen, or a second prompt. @param {AnyModel<EditState>} model @param {Ask} ask @param {AbortSignal} signal */
function sourceForm(model, ask, signal) {
  const select = h("select", { class: "wb-field wb-edit-run", "aria-label": "Run to patch from" });
  select.addEventListener("change", () => select.value && ask({ kind: "source", source: select.value }));
  const show = () => {
    const none = h("option", { value: "", text: "Choose a run …" });
    select.replaceChildren(none, ...model.get("others").map(({ id, text }) => h("option", { value: id, text })));
    select.value = model.get("source").id ?? "";
  };
  const id = uniqueId("prompt");
  const box = h("input", {
    class: "wb-field wb-edit-prompt",
    id,
    type: "text",
    placeholder: "or a second prompt",
    dir: "auto",
  });
  const read = () => ask({ kind: "read", prompt: box.value });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    read();
    event.preventDefault();
  });
  const button = h("button", { type: "button", class: "wb-button", text: "Read", on: { click: read } });
  const second = h(
    "div",
    { class: "wb-edit-second" },
    h("label", { class: "wb-sr", for: id, text: "Second prompt" }),
    box,
    button,
  );
  const showSecond = () => {
    second.hidden = !model.get("can_ask");
  };
  for (const name of /** @type {const} */ (["others", "source"])) model.on(`change:${name}`, show);
  model.on("change:can_ask", showSecond);
  show();
  showSecond();
  return h("div", { class: "wb-edit-source" }, select, second);
}

/**
 * Drag from an element with the pointer; a label follows it. Touches scroll instead.
 * @param {HTMLElement} plane @param {AbortSignal} signal
 * @param {{
 *   start: (x: number, y: number) => string | null,
 *   move: (x: number, y: number) => void,
 *   end: (x: number, y: number) => void,
 *   cancel: () => void,
 * }} spec  `start` returns the text of the label; null if nothing is dragged
 */
function drag(plane, signal, { start, move, end, cancel }) {
  plane.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType === "touch") return;
    const [x, y] = [event.clientX, event.clientY];
    const label = h("div", { class: "wb-edit-ghost", "aria-hidden": "true" });
    const round = new AbortController();
    let isDragged = false;
    const stop = () => {
      label.remove();
      round.abort();
    };
    const onMove = (/** @type {PointerEvent} */ moved) => {
      if (!isDragged) {
        if (Math.hypot(moved.clientX - x, moved.clientY - y) < DRAG_PX) return;
        const text = start(x, y);
        if (text === null) return stop();
        isDragged = true;
        label.textContent = text;
        plane.append(label);
      }
      label.style.left = `${moved.clientX + 12}px`;
      label.style.top = `${moved.clientY + 12}px`;
      move(moved.clientX, moved.clientY);
      moved.preventDefault();
    };
    const onEnd = (/** @type {PointerEvent} */ ended) => {
      stop();
      if (isDragged) end(ended.clientX, ended.clientY);
    };
    const onCancel = () => {
      stop();
      cancel();
    };
    const options = { signal: round.signal };
    document.addEventListener("pointermove", onMove, options);
    document.addEventListener("pointerup", onEnd, options);
    document.addEventListener("pointercancel", onCancel, options);
    // Before the widget, which keeps its keys to itself.
    const onKey = (/** @type {KeyboardEvent} */ pressed) => pressed.key === "Escape" && onCancel();
    document.addEventListener("keydown", onKey, { ...options, capture: true });
    signal.addEventListener("abort", stop, options);
  });
}
