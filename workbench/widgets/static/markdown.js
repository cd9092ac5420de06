// A parser of the Markdown that models write; it returns data and needs no page.
//
// It supports headings (#), paragraphs with their line breaks, lists, block quotes, fenced code, tables and rules. HTML,
// entities and underlined headings are text; the latter would make a growing answer jump. Parsing takes linear time, and
// anything nested deeper than a few levels is text.

import { inlineOf } from "./markdown_inline.js";

/**
 * @import { Inline } from "./markdown_inline.js"
 *
 * @typedef {{kind: "paragraph", children: Inline[]}} Paragraph
 * @typedef {{kind: "heading", level: number, children: Inline[]}} Heading
 * @typedef {{kind: "code", language: string, text: string}} CodeBlock
 * @typedef {{kind: "quote", blocks: Block[]}} Quote
 * @typedef {{kind: "list", start: number | null, items: Block[][]}} List  `start` is null without numbers
 * @typedef {"left" | "center" | "right" | null} Align
 * @typedef {{kind: "table", aligns: Align[], head: Inline[][], rows: Inline[][][]}} Table
 * @typedef {{kind: "rule"}} Rule
 * @typedef {Paragraph | Heading | CodeBlock | Quote | List | Table | Rule} Block
 */

const MOST_LEVELS = 8;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const FENCE = /^( {0,3})(`{3,}(?!`)|~{3,}(?!~))([^`]*)$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:([ \t]+)(?=[^ \t])|[ \t]*$)/;

/** @param {string} text @returns {Block[]} */
export function markdownOf(text) {
  return blocksOf(text.replaceAll("\r\n", "\n").split("\n"), 0);
}

/** @param {string[]} lines @param {number} level @returns {Block[]} */
function blocksOf(lines, level) {
  /** @type {Block[]} */ const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (isBlank(lines[at])) at += 1;
    else {
      const [block, next] = blockAt(lines, at, level);
      blocks.push(block);
      at = next;
    }
  }
  return blocks;
}

/** Return the block that begins at a line, and the line at which the next may begin. @param {string[]} lines @param {number} at @param {number} level @returns {[Block, number]} */
function blockAt(lines, at, level) {
  const line = lines[at];
  const heading = HEADING.exec(line);
  if (heading) return [headingOf(heading[1].length, heading[2] ?? ""), at + 1];
  if (FENCE.test(line)) return codeAt(lines, at);
  if (isRule(line)) return [{ kind: "rule" }, at + 1];
  if (level < MOST_LEVELS && QUOTE.test(line)) return quoteAt(lines, at, level);
  if (level < MOST_LEVELS && ITEM.test(line)) return listAt(lines, at, level);
  if (isTable(lines, at)) return tableAt(lines, at);
  return paragraphAt(lines, at, level);
}

/** @param {number} level @param {string} text @returns {Heading} */
function headingOf(level, text) {
  const bare = text.trimEnd();
  const end = bare.replace(/#{1,99}$/, "");
  return { kind: "heading", level, children: inlineOf((end === "" || end.endsWith(" ") ? end : bare).trim()) };
}

/** Return code up to its closing fence, or to the end if there is none so far. @param {string[]} lines @param {number} at @returns {[CodeBlock, number]} */
function codeAt(lines, at) {
  const [, indent, fence, info] = /** @type {RegExpExecArray} */ (FENCE.exec(lines[at]));
  let end = at + 1;
  while (end < lines.length && !closes(lines[end], fence)) end += 1;
  const text = lines.slice(at + 1, end).map((line) => withoutIndent(line, indent.length));
  const language = info.trim().split(/\s/, 1)[0].slice(0, 40);
  return [{ kind: "code", language, text: text.join("\n") }, end + 1];
}

/** @param {string} line @param {string} fence */
function closes(line, fence) {
  const bare = line.trim();
  return bare.length >= fence.length && bare[0] === fence[0] && bare === fence[0].repeat(bare.length);
}

/** @param {string[]} lines @param {number} at @param {number} level @returns {[Quote, number]} */
function quoteAt(lines, at, level) {
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || (end > at && goesOn(lines, end, level)))) end += 1;
  const inside = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [{ kind: "quote", blocks: blocksOf(inside, level + 1) }, end];
}

/**
 * Return items with one kind of mark. Indented lines and lines that continue its text belong to the item before them.
 * @param {string[]} lines @param {number} at @param {number} level @returns {[List, number]}
 */
function listAt(lines, at, level) {
  const [, outer, mark] = /** @type {RegExpExecArray} */ (ITEM.exec(lines[at]));
  const isSibling = (/** @type {string} */ line) => {
    const found = isRule(line) ? null : ITEM.exec(line);
    return found !== null && found[2].at(-1) === mark.at(-1) && found[1].length < outer.length + 2 ? found : null;
  };
  /** @type {string[][]} */ const items = [];
  /** Indentation of the item's text. */ let indent = 0;
  /** Fence of code that is not closed. @type {string | null} */ let fence = null;
  const take = (/** @type {string} */ line) => {
    items[items.length - 1].push(line);
    if (fence !== null) fence = closes(line, fence) ? null : fence;
    else fence = FENCE.exec(line)?.[2] ?? null;
  };
  let end = at;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    const sibling = fence === null ? isSibling(line) : null;
    if (sibling) {
      indent = sibling[1].length + sibling[2].length + (sibling[3]?.length ?? 1);
      items.push([]);
      take(line.slice(sibling[0].length));
    } else if (fence !== null || (indentOf(line) >= outer.length + 2 && !isBlank(line))) {
      take(withoutIndent(line, indent));
    } else if (isBlank(line)) {
      let next = end;
      while (next < lines.length && isBlank(lines[next])) next += 1;
      if (next === lines.length || !(isSibling(lines[next]) || indentOf(lines[next]) >= outer.length + 2)) break;
      for (; end < next; end += 1) take("");
      end -= 1;
    } else if (goesOn(lines, end, level)) take(line);
    else break;
  }
  const start = /\d/.test(mark) ? Number.parseInt(mark, 10) : null;
  return [{ kind: "list", start, items: items.map((item) => blocksOf(item, level + 1)) }, end];
}

/** @param {string[]} lines @param {number} at @returns {[Table, number]} */
function tableAt(lines, at) {
  const aligns = cellsOf(lines[at + 1]).map(alignOf);
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const [head, ...rows] = [lines[at], ...lines.slice(at + 2, end)].map((line) =>
    cellsOf(line).map((cell) => inlineOf(cell)),
  );
  return [{ kind: "table", aligns, head, rows }, end];
}

/** @param {string[]} lines @param {number} at @param {number} level @returns {[Paragraph, number]} */
function paragraphAt(lines, at, level) {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !begins(lines, end, level)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trim());
  return [{ kind: "paragraph", children: inlineOf(text.join("\n")) }, end];
}

/** Return whether a line begins a block of its own, even directly below a paragraph. @param {string[]} lines @param {number} at @param {number} level */
function begins(lines, at, level) {
  const line = lines[at];
  if (HEADING.test(line) || FENCE.test(line) || isRule(line)) return true;
  if (level < MOST_LEVELS && QUOTE.test(line)) return true;
  const item = level < MOST_LEVELS ? ITEM.exec(line) : null;
  // A year or a single dash at the start of a line does not begin a list.
  return (item?.[3] !== undefined && /^(?:[-*+]|0?1[.)])$/.test(item[2])) || isTable(lines, at);
}

/** Return whether a line without indentation continues the paragraph above it. @param {string[]} lines @param {number} at @param {number} level */
function goesOn(lines, at, level) {
  const above = lines[at - 1];
  return !isBlank(lines[at]) && !isBlank(above) && !FENCE.test(above.trimStart()) && !begins(lines, at, level);
}

/** @param {string} line */
function isRule(line) {
  return RULE.test(line);
}

/** @param {string[]} lines @param {number} at */
function isTable(lines, at) {
  if (!lines[at].includes("|") || !(lines[at + 1] ?? "").includes("-")) return false;
  const below = cellsOf(lines[at + 1]);
  return below.every((cell) => /^:?-+:?$/.test(cell)) && below.length === cellsOf(lines[at]).length;
}

/** @param {string} line */
function cellsOf(line) {
  const bare = line
    .trim()
    .replace(/^\|/, "")
    .replace(/(?<!\\)\|$/, "");
  return bare.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** @param {string} cell @returns {Align} */
function alignOf(cell) {
  if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
  return cell.startsWith(":") ? "left" : null;
}

/** @param {string} line */
function isBlank(line) {
  return line.trim() === "";
}

/** Return the indentation in columns; a tab counts as four. @param {string} line */
function indentOf(line) {
  let columns = 0;
  for (const char of line) {
    if (char === " ") columns += 1;
    else if (char === "\t") columns += 4;
    else break;
  }
  return columns;
}

/** @param {string} line @param {number} columns  maximum number of columns to remove */
function withoutIndent(line, columns) {
  let at = 0;
  for (let left = columns; left > 0 && (line[at] === " " || line[at] === "\t"); at += 1)
    left -= line[at] === " " ? 1 : 4;
  return line.slice(at);
}
