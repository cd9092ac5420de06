// The token tree: all runs of one prompt, each drawn from the token at which it diverges from its parent.

import { requester } from "./asking.js";
import { PLANE_HEIGHT, barsPath, branchFacts, linePath, litPath } from "./branch_lines.js";
import { h, svgElement } from "./dom.js";
import { errorLine } from "./error_line.js";
import { storeOf } from "./feed_store.js";
import { percentOf, visible } from "./format.js";
import { listbox } from "./listbox.js";
import { openRoot } from "./root.js";

/**
 * @import { RenderProps } from "@anywidget/types"
 * @import { Branch } from "./branch_lines.js"
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 * @property {Branch[]} branches
 *
 * Message to the kernel: `{kind: "choose", id, run}`.
 */

const ROW = "var(--wb-row)";

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  openRoot({ model, el, signal }, "wb-tree");
  const empty = h("p", {
    class: "wb-quiet wb-tree-empty",
    text: "Each run of the prompt becomes a branch. Run it again to see where the answers fork.",
  });
  const message = errorLine();
  const ask = requester(model, signal, message.show);
  const list = listbox("Branches of the prompt", (event) => {
    if (event.key !== "Escape") return false;
    store.focus("text");
    return true;
  });
  el.append(empty, list.root, message.root);
  const show = () => {
    const branches = model.get("branches");
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

/**
 * The chart of a branch on the scale of all branches: a line from its start, with bars for its surprisal.
 * @param {Branch} branch @param {number} row @param {number} litTo
 */
function plane(branch, row, litTo) {
  const { at, count, total, parent } = branch;
  const viewBox = `0 0 ${Math.max(1, total)} ${PLANE_HEIGHT}`;
  const svg = svgElement(
    "svg",
    { class: "wb-branch-picture", viewBox, preserveAspectRatio: "none" },
    svgElement("path", { class: "wb-branch-bars", d: barsPath(branch) }),
    svgElement("path", { class: "wb-branch-line", d: linePath(at, count) }),
  );
  if (litTo > at) svg.append(svgElement("path", { class: "wb-branch-lit", d: linePath(at, litTo) }));
  const root = h("div", { class: "wb-branch-plane", "aria-hidden": "true" }, svg);
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
        ` at token ${at + 1} `,
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
  const lines = branchFacts(branch).map((text) => h("div", { text }));
  return h("div", { class: "wb-branch-facts wb-number" }, ...lines);
}

export default { render };
