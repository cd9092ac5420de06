// Markdown of a model in the page, with a fixed set of elements and no markup in texts. Nothing is loaded and no link can be
// followed: a link shows its address, an image its description and its address.

import { copyButton, h } from "./dom.js";
import { markdownOf } from "./markdown.js";

/**
 * @import { Props } from "./dom.js"
 * @import { Block, CodeBlock, List, Table } from "./markdown.js"
 * @import { Inline } from "./markdown_inline.js"
 *
 * @typedef {object} Drawn
 * @property {Block} block
 * @property {string} key
 * @property {HTMLElement} element
 */

/** A view of a growing text: unchanged blocks keep their elements, and code keeps its button. */
export function markdownView() {
  const root = h("div", { class: "wb-said wb-md", dir: "auto" });
  /** @type {Drawn[]} */ let drawn = [];
  return {
    root,
    /** @param {string} text */
    show(text) {
      const before = drawn;
      drawn = markdownOf(text).map((block, i) => {
        const key = JSON.stringify(block);
        if (before[i]?.key === key) return before[i];
        const known = before[i]?.block.kind === "code" ? before[i].element : null;
        return { block, key, element: block.kind === "code" && known ? codeAgain(known, block) : drawBlock(block) };
      });
      drawn.forEach(({ element }, i) => {
        if (root.children[i] !== element) root.insertBefore(element, root.children[i] ?? null);
      });
      while (root.children.length > drawn.length) root.lastElementChild?.remove();
    },
  };
}

/**
 * Return an element with any number of children; the number of arguments of a call is limited.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Props} props @param {(Node | string)[]} children
 */
function filled(tag, props, children) {
  const element = h(tag, props);
  for (const child of children) element.append(child);
  return element;
}

/** @param {Block} block @returns {HTMLElement} */
function drawBlock(block) {
  if (block.kind === "paragraph") return filled("p", { dir: "auto" }, drawInline(block.children));
  if (block.kind === "heading") {
    const props = {
      class: `wb-md-h${block.level}`,
      role: "heading",
      "aria-level": Math.min(6, block.level + 2),
      dir: "auto",
    };
    return filled("div", props, drawInline(block.children));
  }
  if (block.kind === "code") return drawCode(block);
  if (block.kind === "quote") return filled("blockquote", { dir: "auto" }, block.blocks.map(drawBlock));
  if (block.kind === "list") return drawList(block);
  return block.kind === "table" ? drawTable(block) : h("hr");
}

/** @param {CodeBlock} block */
function drawCode(block) {
  const code = h("code", { text: block.text });
  const language = h("span", { class: "wb-md-language", text: block.language || "code" });
  return h(
    "div",
    { class: "wb-md-block", dir: "ltr" },
    h(
      "div",
      { class: "wb-md-head" },
      language,
      h("span", { class: "wb-spacer" }),
      copyButton("Copy", () => code.textContent ?? ""),
    ),
    h("pre", { tabindex: 0, role: "group", "aria-label": "Code" }, code),
  );
}

/** @param {HTMLElement} element  of the code block @param {CodeBlock} block */
function codeAgain(element, block) {
  const [code, language] = [element.querySelector("code"), element.querySelector(".wb-md-language")];
  if (code) code.textContent = block.text;
  if (language) language.textContent = block.language || "code";
  return element;
}

/** @param {List} list */
function drawList(list) {
  const items = list.items.map((blocks) => filled("li", { dir: "auto" }, blocks.flatMap(drawInItem)));
  return list.start === null ? filled("ul", {}, items) : filled("ol", { start: list.start }, items);
}

/** A block of a list item; a paragraph at its beginning gets no element of its own. @param {Block} block @param {number} at */
function drawInItem(block, at) {
  return at === 0 && block.kind === "paragraph" ? drawInline(block.children) : [drawBlock(block)];
}

/** @param {Table} table */
function drawTable({ aligns, head, rows }) {
  const cells = (/** @type {"th" | "td"} */ tag, /** @type {Inline[][]} */ row) =>
    row.map((cell, i) => {
      const props = { class: aligns[i] ? `wb-md-${aligns[i]}` : null, scope: tag === "th" ? "col" : null, dir: "auto" };
      return filled(tag, props, drawInline(cell));
    });
  const body = rows.map((row) => filled("tr", {}, cells("td", row)));
  const table = h("table", {}, h("thead", {}, filled("tr", {}, cells("th", head))), filled("tbody", {}, body));
  return h("div", { class: "wb-md-table", tabindex: 0, role: "group", "aria-label": "Table" }, table);
}

/** @param {Inline[]} nodes @returns {(Node | string)[]} */
function drawInline(nodes) {
  return nodes.map((node) => {
    if (node.kind === "text") return node.text;
    if (node.kind === "code") return h("code", { text: node.text });
    if (node.kind === "image") return withAddress([`[image: ${node.text}]`], node.address);
    if (node.kind === "link") {
      const isItsText =
        node.children.length === 1 && node.children[0].kind === "text" && node.children[0].text === node.address;
      return isItsText ? withAddress([], node.address) : withAddress(drawInline(node.children), node.address);
    }
    return filled(node.kind, {}, drawInline(node.children));
  });
}

/** @param {(Node | string)[]} children @param {string} address  shown as text */
function withAddress(children, address) {
  const shown = h("span", { class: "wb-md-address", text: address });
  return filled("span", { class: "wb-md-link" }, children.length ? [...children, " (", shown, ")"] : [shown]);
}
