// The waterfall: the candidates of one token after each stage of the sampling chain, and the draw.

import { h, uniqueId } from "./dom.js";
import { percent, visible } from "./format.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 *
 * @typedef {object} Stage
 * @property {string} name
 * @property {string} title
 * @property {number} kept  number of candidates left
 * @property {number} removed  probability mass that the stage removed
 * @property {boolean} cuts  whether a share of 0 means that this stage removed the token
 *
 * @typedef {object} Picture  empty if no token is selected; only `position`, `name` and `error` if there is no trace
 * @property {number} position
 * @property {string} name  name of the token in the title
 * @property {string} [error]
 * @property {string} summary
 * @property {number | null} number
 * @property {[number, string]} chosen  token id and label
 * @property {[number, string]} token  the run's own token
 * @property {Stage[]} stages
 * @property {[number, string, number[]][]} rows  token id, label, one share per stage
 * @property {{count: number, shares: number[]}} others
 * @property {[number, string, number][]} axis  token id, label, share, from 0 on
 * @property {[number, number]} span  the chosen token's interval of the axis
 *
 * @typedef {object} State of the widget model
 * @property {Picture} picture
 * @property {number | null} number  random number to use; null for the one that the run drew
 * @property {boolean} has_controls  whether it follows sampling controls
 */

const LAST_NUMBER = 0.999;
const STEP = 0.001;

/** @param {RenderProps<State>} context */
function render({ model, el, signal }) {
  openRoot({ model, el, signal }, "wb-waterfall");
  const title = h("h3");
  const said = h("p", { class: "wb-fall-said", role: "status" });
  const table = h("table", { class: "wb-fall-table wb-number" });
  const scroller = h(
    "div",
    { class: "wb-fall-scroller", role: "region", tabindex: 0, "aria-label": "Candidates by stage" },
    table,
  );
  const axis = cumulativeAxis(model);
  el.append(title, said, scroller, axis.root);

  const show = () => {
    const picture = /** @type {Picture} */ (model.get("picture"));
    const isEmpty = picture.position === undefined;
    const isShown = !isEmpty && picture.error === undefined;
    el.setAttribute("data-wb-position", isEmpty ? "none" : String(picture.position));
    title.textContent = isEmpty ? "How a token is chosen" : `How ${picture.name} was chosen`;
    said.textContent = isEmpty
      ? "Select a token to see what each sampling step left to choose from."
      : (picture.error ?? picture.summary);
    said.classList.toggle("wb-quiet", !isShown);
    scroller.hidden = !isShown;
    axis.root.hidden = !isShown;
    table.style.setProperty("--wb-stages", String(picture.stages?.length ?? 0));
    table.replaceChildren(...(isShown ? tableParts(picture) : []));
    if (isShown) axis.show(picture);
  };
  model.on("change:picture", show);
  model.on("change:number", () => axis.root.hidden || axis.show(model.get("picture")));
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {Picture} picture */
function tableParts(picture) {
  const most = Math.max(...picture.others.shares, ...picture.rows.flatMap(([, , shares]) => shares));
  const rows = picture.rows.map(([id, label, shares]) => {
    const isChosen = id === picture.chosen[0];
    const marks = [isChosen && "picked", id === picture.token[0] && !isChosen && "in the run"].filter(
      (mark) => mark !== false,
    );
    const name = h(
      "th",
      { scope: "row", title: `id ${id}` },
      h("code", { text: visible(label) }),
      ...marks.map((text) => h("span", { class: "wb-fall-mark", text })),
    );
    return h("tr", { class: isChosen && "wb-fall-chosen" }, name, ...cells(shares, picture.stages, most));
  });
  const { count, shares } = picture.others;
  const others = h(
    "tr",
    { class: "wb-fall-others" },
    h("th", { scope: "row", text: `${count.toLocaleString("en-US")} others` }),
    ...cells(shares, picture.stages, most),
  );
  return [
    h("caption", { class: "wb-sr", text: "Probability of each candidate after each stage" }),
    h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "Token" }), ...picture.stages.map(stageHead))),
    h("tbody", {}, ...rows, others),
  ];
}

/** @param {Stage} stage */
function stageHead(stage) {
  const kept = `${stage.kept.toLocaleString("en-US")} tokens`;
  const gone = h("span", { class: "wb-fall-gone" });
  gone.style.width = `${100 * stage.removed}%`;
  return h(
    "th",
    { scope: "col" },
    h("span", { class: "wb-fall-stage", text: stage.title }),
    h("span", { class: "wb-fall-left", text: stage.name === "raw" ? `all ${kept}` : kept }),
    h("span", { class: "wb-fall-removed", text: stage.removed > 0 ? `${percent(stage.removed)} cut` : "" }),
    h("span", { class: "wb-fall-mass", "aria-hidden": "true" }, gone),
  );
}

/** @param {number[]} shares @param {Stage[]} stages @param {number} most */
function cells(shares, stages, most) {
  return shares.map((share, i) => {
    const before = i === 0 ? 1 : shares[i - 1];
    if (share === 0 && stages[i].cuts)
      return before > 0 ? cell("cut", before / most, "wb-fall-cut") : h("td", { class: "wb-fall-none", text: "–" });
    return cell(percent(share), share / most, "");
  });
}

/** @param {string} text @param {number} length of the bar, 0 to 1 @param {string} kind */
function cell(text, length, kind) {
  const fill = h("span", { class: "wb-fill" });
  fill.style.width = `${100 * length}%`;
  return h(
    "td",
    { class: kind },
    h(
      "span",
      { class: "wb-fall-cell" },
      h("span", { class: "wb-track", "aria-hidden": "true" }, fill),
      h("span", { class: "wb-fall-share", text }),
    ),
  );
}

/**
 * Return the cumulative axis: the remaining candidates side by side, and a movable line at the random number.
 * @param {AnyModel<State>} model
 */
function cumulativeAxis(model) {
  const stretches = h("div", { class: "wb-fall-stretches", "aria-hidden": "true" });
  const line = h("div", { class: "wb-fall-line", "aria-hidden": "true" });
  const tag = h("span", { class: "wb-fall-tag wb-number" });
  line.append(tag);
  const slider = h("input", {
    type: "range",
    class: "wb-fall-slider",
    "aria-label": "Random number",
    min: 0,
    max: LAST_NUMBER,
    step: STEP,
  });
  const drawn = h("button", { type: "button", class: "wb-button", text: "Use the run's number" });
  const hint = h("span", { class: "wb-quiet", id: uniqueId("hint") });
  slider.setAttribute("aria-describedby", hint.id);
  const set = (/** @type {number | null} */ number) => {
    model.set("number", number);
    model.save_changes();
  };
  slider.addEventListener("input", () => set(Number(slider.value)));
  drawn.addEventListener("click", () => {
    set(null);
    slider.focus(); // a disabled button loses the focus
  });
  const scale = h(
    "div",
    { class: "wb-fall-scale wb-quiet wb-number", "aria-hidden": "true" },
    ...["0", "0.25", "0.5", "0.75", "1"].map((text) => h("span", { text })),
  );
  const root = h(
    "div",
    { class: "wb-fall-axis" },
    h("div", { class: "wb-fall-plane" }, stretches, line, slider),
    scale,
    h("div", { class: "wb-fall-foot" }, hint, drawn),
  );

  return {
    root,
    /** @param {Picture} picture */
    show(picture) {
      const number = picture.number === null ? null : (model.get("number") ?? picture.number);
      stretches.replaceChildren(...axisStretches(picture));
      line.hidden = number === null;
      slider.disabled = number === null;
      drawn.disabled = number === null || model.get("number") === null;
      hint.textContent =
        number === null
          ? "No random number is drawn here."
          : `Move the number to sample again${model.get("has_controls") ? ", or change the sampling settings" : ""}.`;
      if (number === null) return;
      line.style.left = `${100 * number}%`;
      line.classList.toggle("wb-fall-late", number > 0.85);
      tag.textContent = number.toFixed(4);
      slider.value = String(number);
      slider.setAttribute("aria-valuetext", `${number.toFixed(4)}, picks ${visible(picture.chosen[1])}`);
    },
  };
}

/** @param {Picture} picture */
function axisStretches(picture) {
  const [start, end] = picture.span;
  let covered = 0;
  const drawn = picture.axis.map(([id, label, share]) => {
    covered += share;
    const isChosen = id === picture.chosen[0];
    return stretch(share, isChosen ? "wb-fall-stretch wb-fall-hit" : "wb-fall-stretch", visible(label));
  });
  if (covered < 0.999) drawn.push(stretch(1 - covered, "wb-fall-stretch wb-fall-tail", "the rest"));
  // Mark the chosen token even if its interval is too narrow to see.
  if (!picture.axis.some(([id]) => id === picture.chosen[0])) {
    const hit = h("span", { class: "wb-fall-sliver" });
    hit.style.left = `${100 * start}%`;
    hit.style.width = `max(2px, ${100 * (end - start)}%)`;
    drawn.push(hit);
  }
  return drawn;
}

/** @param {number} share @param {string} kind @param {string} text */
function stretch(share, kind, text) {
  const part = h(
    "span",
    { class: kind, title: `${text} ${percent(share)}` },
    h("code", { text: share > 0.03 ? text : "" }),
  );
  part.style.width = `${100 * share}%`;
  return part;
}

export default { render };
