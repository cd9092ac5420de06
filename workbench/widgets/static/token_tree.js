// All runs of one prompt, each drawn from the token on at which it leaves another one.

import { requester } from "./asking.js";
import { h, keepKeys } from "./dom.js";
import { fixed, percentOf, visible } from "./format.js";
import { listbox } from "./listbox.js";

/**
 * @typedef {object} Branch
 * @property {string} run  id of the run
 * @property {number} name  from 1, in the order in which the runs began
 * @property {number | null} parent  index of the branch that it leaves
 * @property {number} at  position of its first own token
 * @property {number} count  tokens from the start on
 * @property {number} total  tokens of the longest branch
 * @property {string} state
 * @property {string | null} stop
 * @property {[string, number | null] | null} own  label and logprob of the token that parts it
 * @property {[string, number | null] | null} instead  the parent's there
 * @property {string} text  from that token on
 * @property {number[]} bits  surprisal, a column each
 * @property {number | null} perplexity
 * @property {boolean} shown
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 * @property {Branch[]} branches
 *
 * Message to the kernel: `{kind: "choose", id, run}`.
 */

const MOST_COLUMNS = 120;
const MOST_BITS = 8;
const PLANE_HEIGHT = 28;
const ROW = "var(--wb-row)";
const SVG = "http://www.w3.org/2000/svg";
const ENDS = {
  end_of_turn: "end of turn",
  end_of_message: "end of message",
  out_of_tokens: "length limit",
  cancelled: "stopped",
  failed: "failed",
  running: "running",
  queued: "waiting",
};

/** @param {{model: any, el: HTMLElement, host: any, signal: AbortSignal}} context */
async function render({ model, el, host, signal }) {
  const { store } = (await host.getWidget(model.get("feed"))).exports;
  el.classList.add("wb-root", "wb-tree");
  keepKeys(el);
  const empty = h("p", {
    class: "wb-quiet wb-tree-empty",
    text: "Each run of the prompt becomes a branch. Run it again, and see here where the answers part.",
  });
  const message = h("p", { class: "wb-message", role: "alert", hidden: true });
  const ask = requester(model, signal, (text) => {
    message.textContent = text ?? "";
    message.hidden = !text;
  });
  const list = listbox("Branches of the prompt", (event) => {
    if (event.key !== "Escape") return false;
    store.focus("text");
    return true;
  });
  el.append(empty, list.root, message);
  const show = () => {
    const branches = /** @type {Branch[]} */ (model.get("branches"));
    el.setAttribute("data-wb-branches", String(branches.length));
    empty.hidden = branches.length > 1;
    list.root.hidden = branches.length === 0;
    const path = litPath(branches);
    list.fill(
      branches.map((branch, row) =>
        branchOption(branch, row, path.get(row) ?? 0, () => branch.shown || ask({ kind: "choose", run: branch.run })),
      ),
    );
  };
  model.on("change:branches", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** How far each branch is part of the one that is shown: to its end, or to where the next one leaves it. @param {Branch[]} branches */
function litPath(branches) {
  /** @type {Map<number, number>} */ const ends = new Map();
  let row = branches.findIndex((branch) => branch.shown);
  let end = branches[row]?.count ?? 0;
  for (let next = /** @type {number | null} */ (row < 0 ? null : row); next !== null;) {
    ends.set(next, end);
    end = branches[next].at;
    next = branches[next].parent;
  }
  return ends;
}

/** @param {Branch} branch @param {number} row @param {number} litTo @param {() => void} choose */
function branchOption(branch, row, litTo, choose) {
  return {
    key: branch.run,
    kind: branch.shown ? "wb-branch wb-branch-shown" : "wb-branch",
    isChosen: branch.shown,
    parts: [plane(branch, row, litTo), words(branch), facts(branch)],
    choose,
  };
}

/** The branch on the scale of all: a line from where it begins, its surprisal on it. @param {Branch} branch @param {number} row @param {number} litTo */
function plane(branch, row, litTo) {
  const { at, count, total, parent } = branch;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "wb-branch-picture");
  svg.setAttribute("viewBox", `0 0 ${Math.max(1, total)} ${PLANE_HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const path = (/** @type {string} */ kind, /** @type {string} */ d) => {
    const element = document.createElementNS(SVG, "path");
    element.setAttribute("class", kind);
    element.setAttribute("d", d);
    svg.append(element);
  };
  const columns = Math.min(MOST_COLUMNS, total);
  const width = total / Math.max(1, columns);
  const first = total <= MOST_COLUMNS ? at : Math.floor((at * MOST_COLUMNS) / total);
  const bars = branch.bits.map((bits, i) => {
    const height = (Math.min(MOST_BITS, bits) / MOST_BITS) * (PLANE_HEIGHT - 3);
    return `M${((first + i) * width + 0.1 * width).toFixed(2)} ${PLANE_HEIGHT - 2}v${(-height).toFixed(1)}h${(0.8 * width).toFixed(2)}v${height.toFixed(1)}z`;
  });
  path("wb-branch-bars", bars.join(""));
  const line = (/** @type {number} */ from, /** @type {number} */ to) =>
    `M${from} ${PLANE_HEIGHT - 2}H${to}v2H${from}z`;
  path("wb-branch-line", line(at, count));
  if (litTo > at) path("wb-branch-lit", line(at, litTo));
  const root = h("div", { class: "wb-branch-plane", "aria-hidden": "true" });
  root.append(svg);
  if (parent !== null) {
    const elbow = h("div", { class: litTo > 0 ? "wb-branch-elbow wb-branch-lit" : "wb-branch-elbow" });
    elbow.style.left = `${(100 * at) / Math.max(1, total)}%`;
    elbow.style.height = `calc(${ROW} * ${row - parent})`;
    root.append(elbow);
  }
  return root;
}

/** @param {Branch} branch */
function words(branch) {
  const { own, instead, at } = branch;
  const name = h("span", { class: "wb-branch-name", text: String(branch.name) });
  const parting = own
    ? [
        ` at ${at} `,
        h("code", { class: "wb-branch-own", text: visible(own[0]) }),
        ` ${percentOf(own[1])}`,
        ...(instead ? [" instead of ", h("code", { text: visible(instead[0]) }), ` ${percentOf(instead[1])}`] : []),
      ]
    : [" from the start"];
  const line = h("div", { class: "wb-quiet wb-number" }, name);
  line.append(...parting);
  return h(
    "div",
    { class: "wb-branch-words" },
    line,
    h("div", { class: "wb-branch-text", dir: "auto", text: branch.text.trim() }),
  );
}

/** @param {Branch} branch */
function facts(branch) {
  const end = /** @type {any} */ (ENDS)[branch.stop ?? branch.state] ?? branch.state;
  const perplexity = branch.perplexity === null ? "" : `, perplexity ${fixed(branch.perplexity, 2)}`;
  return h(
    "div",
    { class: "wb-branch-facts wb-number" },
    h("div", { text: `${branch.count} tokens${perplexity}` }),
    h("div", { text: branch.shown ? `${end}, shown` : end }),
  );
}

export default { render };
