// The tool-call microscope: three charts over the same tokens, and a table with their numbers.

import { removedInWords, startInWords, stepInWords, stepOf, summary } from "./call_step_words.js";
import { around, h, svgElement, uniqueId } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { visible } from "./format.js";
import { keyTarget } from "./jumping.js";
import { openRoot } from "./root.js";

/**
 * @import { RenderProps } from "@anywidget/types"
 * @import { ParseState, Step, WireStep } from "./call_step_words.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed, which holds the selection
 * @property {WireStep[]} steps  steps of a run that has ended
 * @property {string} message  why there is nothing to show; empty if there is
 *
 * During a run: `{kind: "steps", run, changes: [[position, step], ...]}` from the kernel; the page requests all steps with
 * `{kind: "steps"}`.
 *
 * @typedef {[number, WireStep]} StepChange
 */

/** @type {ParseState[]} */
const STATES = ["started", "in_progress", "success", "failure"];
const COLUMNS = ["#", "token", "a call begins", "parse state", "removed by the schema"];

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  if (signal.aborted) return;
  openRoot({ model, el, signal }, "wb-scope");
  const said = h("p", { class: "wb-scope-said", role: "status" });
  const chart = h("div", {
    class: "wb-scope-chart",
    role: "group",
    tabindex: 0,
    "aria-label": "Tokens of the run; arrow keys move between them",
  });
  const idPrefix = uniqueId("step");
  const body = h("tbody");
  const table = h(
    "table",
    { class: "wb-number" },
    h("thead", {}, h("tr", {}, ...COLUMNS.map((name) => h("th", { scope: "col", text: name })))),
    body,
  );
  const scroller = h(
    "div",
    { class: "wb-scope-scroller", role: "region", tabindex: 0, "aria-label": "Tokens of the run as a table" },
    table,
  );
  el.append(h("h3", { text: "Tool calls, token by token" }), said, chart, legend(), scroller);
  /** @type {Step[]} */ const steps = [];
  /** The steps that were drawn, as JSON. @type {string[]} */ const drawn = [];
  /** @type {((position: number | null) => void)[]} */ let marks = [];

  const showSelected = () => {
    const current = store.current;
    for (const mark of marks) mark(current);
    for (const row of body.querySelectorAll(".wb-selected")) row.classList.remove("wb-selected");
    const row = current === null ? null : body.children[current];
    row?.classList.add("wb-selected");
    if (row) scrollTo(scroller, /** @type {HTMLElement} */ (row));
    const words =
      model.get("message") ||
      (current !== null && steps[current] ? stepInWords(steps[current], current) : summary(steps));
    // A summary that changes with every token is not announced.
    said.setAttribute("aria-live", store.active && current === null ? "off" : "polite");
    if (said.textContent !== words) said.textContent = words;
  };
  /** Draw changed steps. @param {StepChange[]} changes @param {number} count  of all steps */
  const draw = (changes, count) => {
    steps.length = drawn.length = Math.min(steps.length, count);
    while (body.children.length > count) body.lastElementChild?.remove();
    for (const [position, wire] of changes) {
      const key = JSON.stringify(wire);
      if (drawn[position] === key || position > steps.length) continue;
      [steps[position], drawn[position]] = [stepOf(wire), key];
      const row = tableRow(steps[position], position, `${idPrefix}-${position}`);
      if (body.children[position]) body.children[position].replaceWith(row);
      else body.append(row);
    }
    const isEmpty = steps.length === 0;
    for (const part of [chart, scroller]) part.hidden = isEmpty;
    el.setAttribute("data-wb-steps", String(steps.length));
    const lanes = isEmpty ? [] : [startLane(steps), stateLane(steps), removedLane(steps)];
    marks = lanes.map((lane) => lane.mark);
    chart.replaceChildren(...lanes.map((lane) => lane.root));
    showSelected();
  };
  const show = () =>
    draw(
      model.get("steps").map((wire, i) => [i, wire]),
      model.get("steps").length,
    );
  chart.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const svg = around(event, "svg");
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    store.walkTo(Math.floor(((event.clientX - box.left) / box.width) * steps.length));
  });
  body.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const row = around(event, "[data-wb-position]");
    if (row) store.walkTo(Number(row.getAttribute("data-wb-position")));
  });
  for (const part of [chart, scroller])
    part.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => walk(event, store, steps.length));
  model.on("change:steps", show);
  model.on("change:message", showSelected);
  model.on("msg:custom", (/** @type {{kind: string, run: string, changes: StepChange[]}} */ message) => {
    if (message.kind === "steps" && message.run === store.run && store.active) draw(message.changes, Infinity);
  });
  let run = store.run;
  store.listen((change) => {
    if (store.run !== run) show();
    else if (change.kind === "selected") showSelected();
    run = store.run;
  }, signal);
  show();
  if (store.active) model.send({ kind: "steps" });
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {KeyboardEvent} event @param {Store} store @param {number} count */
function walk(event, store, count) {
  const at = store.current;
  const target = keyTarget(event.key.replace("Down", "Right").replace("Up", "Left"), at, count - 1);
  if (event.key === "Escape" && at !== null) store.select([]);
  else if (target !== undefined && !event.ctrlKey && !event.metaKey) store.walkTo(target);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** Scroll the box alone to a row. @param {HTMLElement} box @param {HTMLElement} row */
function scrollTo(box, row) {
  const top = row.offsetTop - /** @type {HTMLElement} */ (row.parentElement).offsetTop;
  if (top < box.scrollTop || top + 2 * row.offsetHeight > box.scrollTop + box.clientHeight)
    box.scrollTop = top - box.clientHeight / 2;
}

/**
 * One chart over all tokens, with its name.
 * @param {string} name @param {string} label @param {number} height @param {number} count
 */
function lane(name, label, height, count) {
  const here = svgElement("path", { class: "wb-scope-here", d: "" });
  const shape = { viewBox: `0 0 ${count} ${height}`, preserveAspectRatio: "none", height };
  const svg = svgElement("svg", { ...shape, role: "img", "aria-label": label }, here);
  return {
    root: h("div", { class: "wb-scope-lane" }, h("span", { class: "wb-quiet", text: name }), svg),
    /** @param {string} kind @param {string} d */
    path: (kind, d) => svg.append(svgElement("path", { class: kind, d })),
    /** @param {number | null} position */
    mark: (position) => here.setAttribute("d", position === null ? "" : `M${position} 0h1v${height}h-1z`),
  };
}

const BAR_HEIGHT = 40;
const BAND_HEIGHT = 16;

/** @param {number} position @param {number} share @param {number} height */
function bar(position, share, height) {
  return share > 0 ? `M${position + 0.1} ${height}v${(-Math.max(1, share * height)).toFixed(2)}h0.8V${height}z` : "";
}

/** @param {Step[]} steps */
function startLane(steps) {
  const made = lane(
    "a call begins",
    "Probability that a call begins, for each token outside of calls",
    BAR_HEIGHT,
    steps.length,
  );
  made.path(
    "wb-scope-start",
    steps.map((step, i) => (step.isExact ? bar(i, step.start ?? 0, BAR_HEIGHT) : "")).join(""),
  );
  made.path(
    "wb-scope-start wb-scope-bound",
    steps.map((step, i) => (step.isExact ? "" : bar(i, step.start ?? 0, BAR_HEIGHT))).join(""),
  );
  return made;
}

/** @param {Step[]} steps */
function stateLane(steps) {
  const made = lane("parse state", "Parse state after each token", BAND_HEIGHT, steps.length);
  for (const state of STATES)
    made.path(
      `wb-scope-${state}`,
      steps.map((step, i) => (step.state === state ? `M${i} 0h1v${BAND_HEIGHT}h-1z` : "")).join(""),
    );
  return made;
}

/** @param {Step[]} steps */
function removedLane(steps) {
  const made = lane(
    "removed by the schema",
    "Probability that the schema removed at each token",
    BAR_HEIGHT,
    steps.length,
  );
  made.path("wb-scope-removed", steps.map((step, i) => bar(i, step.removed, BAR_HEIGHT)).join(""));
  made.path("wb-scope-forced", steps.map((step, i) => (step.isForced ? `M${i + 0.1} 0h0.8v3h-0.8z` : "")).join(""));
  return made;
}

function legend() {
  const item = (/** @type {string} */ kind, /** @type {string} */ text) =>
    h("span", { class: "wb-scope-key" }, h("span", { class: `wb-scope-swatch ${kind}`, "aria-hidden": "true" }), text);
  return h(
    "div",
    { class: "wb-scope-legend wb-quiet" },
    item("wb-scope-swatch-bound", "lower bound"),
    ...STATES.map((state) => item(`wb-scope-swatch-${state}`, state.replace("_", " "))),
    item("wb-scope-swatch-forced", "no choice left"),
  );
}

/** @param {Step} step @param {number} position @param {string} id */
function tableRow(step, position, id) {
  return h(
    "tr",
    { id, "data-wb-position": position, "data-wb-state": step.state },
    h("td", { text: String(position + 1) }),
    h("td", {}, h("code", { text: visible(step.label) })),
    h("td", { text: startInWords(step) }),
    h("td", { text: step.state.replace("_", " ") }),
    h("td", { text: removedInWords(step) }),
  );
}

export default { render };
