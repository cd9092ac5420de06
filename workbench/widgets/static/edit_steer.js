// Steering: texts to steer towards and away from, the layer, and how strongly.

import { h, uniqueId } from "./dom.js";
import { labelledBox } from "./prompt_box.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { EditState } from "./edit_view.js"
 */

const MOST_FACTOR = 20;

/** @param {AnyModel<EditState>} model @param {Ask} ask */
export function steerForm(model, ask) {
  const towards = labelledBox("Towards, one text a line", { class: "wb-steer-box", dir: "auto" }, "wb-steer-label");
  const away = labelledBox("Away from, one text a line", { class: "wb-steer-box", dir: "auto" }, "wb-steer-label");
  const layer = numberField("After layer", { min: 0, step: 1, class: "wb-field wb-steer-layer", type: "number" });
  const factor = numberField("Factor", { min: -MOST_FACTOR, max: MOST_FACTOR, step: 0.5, type: "range" });
  factor.input.value = "4";
  const said = h("output", { class: "wb-number wb-steer-factor", for: factor.input.id });
  const add = h("button", { type: "button", class: "wb-button wb-edit-add", text: "Add change" });
  const none = h("p", {
    class: "wb-quiet",
    text: "Open this view with bench.edit(run) to steer: texts are read for it.",
  });
  let isSet = false;
  const show = () => {
    said.textContent = Number(factor.input.value).toFixed(1);
    const [layers = 0] = model.get("shape");
    layer.input.max = String(Math.max(0, layers - 1));
    if (!isSet && layers) {
      layer.input.value = String(layers >> 1);
      isSet = true;
    }
    none.hidden = model.get("can_ask");
    add.disabled = !model.get("can_ask");
  };
  factor.input.addEventListener("input", show);
  add.addEventListener("click", () =>
    ask({
      kind: "steer",
      towards: towards.box.value,
      away: away.box.value,
      layer: Number(layer.input.value),
      factor: Number(factor.input.value),
    }),
  );
  model.on("change:shape", show);
  model.on("change:can_ask", show);
  show();
  const boxes = h(
    "div",
    { class: "wb-steer-boxes" },
    h("div", {}, towards.label, towards.box),
    h("div", {}, away.label, away.box),
  );
  const row = h("div", { class: "wb-steer-row" }, layer.label, layer.input, factor.label, factor.input, said);
  return h("div", { class: "wb-edit-steer" }, none, boxes, row, add);
}

/** @param {string} text @param {{[name: string]: string | number}} attributes */
function numberField(text, attributes) {
  const input = h("input", { id: uniqueId("number"), ...attributes });
  return { input, label: h("label", { for: input.id, text }) };
}
