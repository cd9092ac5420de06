// A parser of inline Markdown: code, emphasis, links and images; everything else is text. It needs no page.

/**
 * @typedef {{kind: "text", text: string}} Text
 * @typedef {{kind: "code", text: string}} Code
 * @typedef {{kind: "em" | "strong" | "del", children: Inline[]}} Emphasis
 * @typedef {{kind: "link", children: Inline[], address: string}} Link
 * @typedef {{kind: "image", text: string, address: string}} Image
 * @typedef {Text | Code | Emphasis | Link | Image} Inline
 *
 * @typedef {object} Opener  a run of marks with which emphasis may begin
 * @property {string} mark
 * @property {number} count
 * @property {number} at  its index among the nodes
 */

const MOST_DEPTH = 8;
const MOST_LINKS = 2;
// Each piece ends where the next may begin, so that any text is read once.
const PIECE = /\\[!-/:-@[-`{-~]|`+|\*+|_+|~~|!?\[|https?:\/\/|<https?:\/\//g;
// The length of a link is bounded, which bounds the cost of a bracket that never closes.
const TARGET =
  /\]\([ \t]{0,9}<?([^\s<>()]{0,1999}(?:\([^\s<>()]{0,500}\)[^\s<>()]{0,500})?)>?(?:[ \t]{1,9}(?:"[^"\n]{0,500}"|'[^'\n]{0,500}'))?[ \t]{0,9}\)/y;
const ADDRESS = /https?:\/\/[^\s<>"`]{1,2000}/y;

/** @param {string} source @param {number} [links]  number of links around it @returns {Inline[]} */
export function inlineOf(source, links = 0) {
  return new InlineReader(source, links).read();
}

class InlineReader {
  /** @type {Inline[]} */ #nodes = [];
  /** How deeply each node is nested. @type {number[]} */ #depths = [];
  /** By mark. @type {Map<string, Opener[]>} */ #openers = new Map();
  /** Positions of the runs of backticks by their length, the next one last. @type {Map<number, number[]> | null} */
  #ticks = null;
  /** Positions of closing brackets by the position behind their opening bracket. @type {Map<number, number> | null} */ #closings =
    null;
  #from = 0;

  /** @param {string} source @param {number} links */
  constructor(source, links) {
    this.source = source;
    this.links = links;
  }

  read() {
    PIECE.lastIndex = 0;
    for (let found = PIECE.exec(this.source); found; found = PIECE.exec(this.source)) {
      const at = found.index;
      const end = this.#piece(found[0], at);
      if (end > at) PIECE.lastIndex = end;
    }
    this.#text(this.source.length);
    return joined(this.#nodes);
  }

  /** Read a piece and return the position of the next. @param {string} piece @param {number} at */
  #piece(piece, at) {
    const end = at + piece.length;
    if (piece[0] === "\\") return this.#put({ kind: "text", text: piece[1] }, at, end);
    if (piece[0] === "`") return this.#code(piece, at);
    if (piece.endsWith("[")) return this.#link(piece, at);
    if (piece.endsWith("//")) return this.#address(piece, at);
    return this.#emphasis(piece, at);
  }

  /** Add the text before a position that belongs to no other node. @param {number} end */
  #text(end) {
    if (end > this.#from) this.#push({ kind: "text", text: this.source.slice(this.#from, end) }, 0);
    this.#from = end;
  }

  /** @param {Inline} node @param {number} depth */
  #push(node, depth) {
    this.#nodes.push(node);
    this.#depths.push(depth);
  }

  /** @param {Inline} node @param {number} at @param {number} end */
  #put(node, at, end) {
    this.#text(at);
    this.#push(node, 0);
    this.#from = end;
    return end;
  }

  /** @param {string} ticks @param {number} at */
  #code(ticks, at) {
    this.#ticks ??= ticksOf(this.source);
    const places = this.#ticks.get(ticks.length) ?? [];
    while (places.length && places[places.length - 1] <= at) places.pop();
    const close = places[places.length - 1];
    if (close === undefined) return at + ticks.length;
    const inside = this.source.slice(at + ticks.length, close).replaceAll("\n", " ");
    const isPadded = inside.startsWith(" ") && inside.endsWith(" ") && inside.trim() !== "";
    return this.#put({ kind: "code", text: isPadded ? inside.slice(1, -1) : inside }, at, close + ticks.length);
  }

  /** @param {string} piece  `[`, or `![` for an image @param {number} at */
  #link(piece, at) {
    const start = at + piece.length;
    this.#closings ??= closingsOf(this.source);
    const close = this.#closings.get(start);
    if (close === undefined || this.links === MOST_LINKS) return start;
    TARGET.lastIndex = close;
    const found = TARGET.exec(this.source);
    if (!found) return start;
    const [text, address, end] = [this.source.slice(start, close), found[1], TARGET.lastIndex];
    if (piece.length === 2) return this.#put({ kind: "image", text, address }, at, end);
    return this.#put({ kind: "link", children: inlineOf(text, this.links + 1), address }, at, end);
  }

  /** Read an address in the text. @param {string} piece @param {number} at */
  #address(piece, at) {
    const start = at + (piece[0] === "<" ? 1 : 0);
    ADDRESS.lastIndex = start;
    const found = ADDRESS.exec(this.source);
    if (!found) return at + piece.length;
    const ends = found[0].includes("(") ? /[.,:;!?'*_~\]]{1,9}$/ : /[.,:;!?'*_~\])]{1,9}$/;
    const whole = piece[0] === "<" ? found[0] : found[0].replace(ends, "");
    const end = start + whole.length;
    const isClosed = piece[0] === "<" && this.source[end] === ">";
    if (piece[0] === "<" && !isClosed) return at + piece.length;
    return this.#put(
      { kind: "link", children: [{ kind: "text", text: whole }], address: whole },
      at,
      end + (isClosed ? 1 : 0),
    );
  }

  /** @param {string} marks  of one kind @param {number} at */
  #emphasis(marks, at) {
    const mark = marks[0];
    const end = at + marks.length;
    const before = this.source[at - 1] ?? " ";
    const after = this.source[end] ?? " ";
    const isWordInside = mark === "_" && isLetter(before) && isLetter(after);
    const canOpen = !isSpace(after) && !isWordInside;
    const canClose = !isSpace(before) && !isWordInside;
    let left = marks.length;
    const openers = this.#openers.get(mark) ?? [];
    this.#openers.set(mark, openers);
    this.#text(at);
    while (canClose && left > 0 && openers.length) {
      const opener = openers[openers.length - 1];
      const taken = this.#wrap(opener, Math.min(2, left, opener.count));
      if (!taken) break;
      left -= taken;
      if (opener.count === 0) openers.pop();
    }
    this.#from = end - left;
    if (left > 0 && canOpen) {
      this.#text(end);
      openers.push({ mark, count: left, at: this.#nodes.length - 1 });
    }
    return end;
  }

  /** Move the nodes after an opener into one node, and return the number of marks used. @param {Opener} opener @param {number} count */
  #wrap(opener, count) {
    if (opener.mark === "~" && count < 2) return 0;
    const start = opener.at + 1;
    const depth = 1 + this.#depths.slice(start).reduce((most, one) => Math.max(most, one), 0);
    if (depth > MOST_DEPTH) this.#openers.forEach((others) => others.splice(0)); // nodes around it would be nested deeper
    if (depth > MOST_DEPTH || start >= this.#nodes.length) return 0;
    // Openers inside the node can no longer be closed.
    for (const others of this.#openers.values())
      while (others.length && others[others.length - 1].at > opener.at) others.pop();
    const children = joined(this.#nodes.splice(start));
    this.#depths.length = start;
    const kind = opener.mark === "~" ? "del" : count === 2 ? "strong" : "em";
    opener.count -= count;
    const marks = /** @type {Text} */ (this.#nodes[opener.at]);
    marks.text = marks.text.slice(0, opener.count);
    this.#push({ kind, children }, depth);
    return count;
  }
}

/** Return the nodes without empty texts, with adjacent texts joined. @param {Inline[]} nodes @returns {Inline[]} */
function joined(nodes) {
  /** @type {Inline[]} */ const whole = [];
  /** @type {string[]} */ let texts = [];
  const flush = () => {
    const text = texts.join("");
    if (text) whole.push({ kind: "text", text });
    texts = [];
  };
  for (const node of nodes) {
    if (node.kind === "text") texts.push(node.text);
    else {
      flush();
      whole.push(node);
    }
  }
  flush();
  return whole;
}

/** Return the positions of runs of backticks by their length, the last one first. @param {string} source */
function ticksOf(source) {
  /** @type {Map<number, number[]>} */ const places = new Map();
  for (const found of source.matchAll(/`+/g)) {
    const known = places.get(found[0].length);
    if (known) known.push(found.index);
    else places.set(found[0].length, [found.index]);
  }
  for (const known of places.values()) known.reverse();
  return places;
}

/** Return the position of the closing bracket by the position behind each opening bracket. @param {string} source */
function closingsOf(source) {
  /** @type {Map<number, number>} */ const closings = new Map();
  /** @type {number[]} */ const open = [];
  for (const { 0: piece, index } of source.matchAll(/\\.|\[|\]/gs)) {
    if (piece === "[") open.push(index + 1);
    else if (piece === "]") {
      const start = open.pop();
      if (start !== undefined) closings.set(start, index);
    }
  }
  return closings;
}

/** @param {string} char */
function isSpace(char) {
  return char.trim() === "";
}

/** @param {string} char */
function isLetter(char) {
  return /[\p{L}\p{N}]/u.test(char);
}
