// Markdown of models: what is read of it, that nothing in it runs or loads, and that no text takes long.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { markdownOf } from "../../workbench/widgets/static/markdown.js";
import { inlineOf } from "../../workbench/widgets/static/markdown_inline.js";
import { markdownView } from "../../workbench/widgets/static/markdown_view.js";
import { FakeElement, fakeDocument } from "./fake_document.js";

/** @import { Block } from "../../workbench/widgets/static/markdown.js" */

const TAGS = "blockquote button code del div em hr li ol p pre span strong table tbody td th thead tr ul".split(" ");
const ATTRIBUTES = "aria-label aria-level class dir role scope start tabindex type".split(" ");
const MOST_S = 5;
// `make check`, which is run often, reads shorter texts.
const MEGABYTE = process.env.FEWER_INPUTS ? 200_000 : 1_000_000;

fakeDocument();

/** @param {string} text */
function draw(text) {
  const view = markdownView();
  view.show(text);
  return /** @type {FakeElement} */ (/** @type {unknown} */ (view.root));
}

/** What the blocks are drawn as, without the bar above code. @param {string} text */
function outline(text) {
  return draw(text)
    .children.map((block) => block.outline)
    .join("")
    .replace(
      /<div><span>([^<]*)<\/span><span><\/span><span><button>Copy<\/button><span><\/span><\/span><\/div>/g,
      "[$1]",
    );
}

/** The processor's seconds that a call takes. @param {() => unknown} call */
function seconds(call) {
  const before = process.cpuUsage();
  call();
  return process.cpuUsage(before).user / 1e6;
}

test("headings, paragraphs with their line breaks, and rules", () => {
  assert.equal(
    outline("# One\n\nTwo\nthree\n\n---\n###### Six ##"),
    "<div>One</div><p>Two\nthree</p><hr></hr><div>Six</div>",
  );
  assert.equal(outline("#no heading\n####### seven"), "<p>#no heading\n####### seven</p>");
  assert.equal(outline("A line\n---"), "<p>A line</p><hr></hr>");
  const [heading] = draw("## Two").children;
  assert.deepEqual(heading.attributes, { class: "wb-md-h2", role: "heading", "aria-level": "4", dir: "auto" });
});

test("emphasis, strong text, deleted text and code within a line", () => {
  assert.equal(
    outline("*a* __b__ ***c*** ~~d~~ `e*f*`"),
    ["<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <del>d</del> <code>e*f*</code></p>"].join(""),
  );
  assert.equal(outline("snake_case_name and 2 * 3 * 4 and \\*so\\*"), "<p>snake_case_name and 2 * 3 * 4 and *so*</p>");
  assert.equal(outline("**open and `open"), "<p>**open and `open</p>");
  assert.equal(outline("`` a`b ``"), "<p><code>a`b</code></p>");
  assert.equal(outline("*a **b** c*"), "<p><em>a <strong>b</strong> c</em></p>");
});

test("lists nest, keep their numbers, and hold code and paragraphs", () => {
  assert.equal(
    outline("- a\n- b\n  - c\n    - d\n- e"),
    "<ul><li>a</li><li>b<ul><li>c<ul><li>d</li></ul></li></ul></li><li>e</li></ul>",
  );
  assert.equal(outline("3. a\n4. b\n   - c"), "<ol><li>a</li><li>b<ul><li>c</li></ul></li></ol>");
  assert.deepEqual(draw("3. a").children[0].attributes, { start: "3" });
  assert.equal(outline("1. a\n\n   more\n\n2. b"), "<ol><li>a<p>more</p></li><li>b</li></ol>");
  assert.equal(
    outline("- a\n  ```py\nx\n  ```\n- b"),
    "<ul><li>a<div>[py]<pre><code>x</code></pre></div></li><li>b</li></ul>",
  );
  assert.equal(outline("Such as:\n* a\n* b\nand on"), "<p>Such as:</p><ul><li>a</li><li>b\nand on</li></ul>");
  assert.equal(outline("It was in\n1984. A year"), "<p>It was in\n1984. A year</p>");
  assert.equal(outline("- a\n\ntext"), "<ul><li>a</li></ul><p>text</p>");
});

test("fenced code is kept to the letter, and is code before its end has come", () => {
  assert.equal(
    outline("```python\n  a = '*b*'\n\n<b>\n```\nafter"),
    "<div>[python]<pre><code>  a = '*b*'\n\n<b></code></pre></div><p>after</p>",
  );
  assert.equal(outline("~~~\na\n```\n"), "<div>[code]<pre><code>a\n```\n</code></pre></div>");
  assert.equal(outline("```js\nlet a"), "<div>[js]<pre><code>let a</code></pre></div>");
});

test("block quotes and tables", () => {
  assert.equal(outline("> a\n> - b\nlazy\n\nc"), "<blockquote><p>a</p><ul><li>b\nlazy</li></ul></blockquote><p>c</p>");
  const table = "| a | b |\n|:--|--:|\n| *1* | 2 \\| 3 |\n| 4 |\n\nafter";
  assert.equal(
    outline(table),
    "<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td><em>1</em></td><td>2 | 3</td></tr>" +
      "<tr><td>4</td></tr></tbody></table></div><p>after</p>",
  );
  assert.equal(outline("a | b\nno table"), "<p>a | b\nno table</p>");
});

test("links and images are text with their address", () => {
  assert.equal(
    draw("See [the **docs**](https://a.example/x 'y') now").textContent,
    "See the docs (https://a.example/x) now",
  );
  assert.equal(
    draw('See [the **docs**](https://a.example/x "y") now').textContent,
    "See the docs (https://a.example/x) now",
  );
  assert.equal(draw("![a cat](http://a.example/cat.png)").textContent, "[image: a cat] (http://a.example/cat.png)");
  assert.equal(
    draw("At https://a.example/b_c_d, and <https://e.example>.").textContent,
    "At https://a.example/b_c_d, and https://e.example.",
  );
  assert.equal(draw("[x](javascript:alert)").textContent, "x (javascript:alert)");
});

test("nothing that a model writes runs, loads or can be followed", () => {
  const cases = JSON.parse(readFileSync(new URL("cases/twins.json", import.meta.url), "utf8"));
  const payloads = cases.format.flatMap((/** @type {[string, unknown[]]} */ [name, given]) =>
    name === "visible" ? given : [],
  );
  const hostile = [
    ...payloads,
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](data:text/html,<script>)",
    "![x](https://evil.example/leak.png)",
    "[![x](https://evil.example/a.png)](javascript:alert(1))",
    '[x](https://evil.example" onmouseover="alert(1))',
    '<https://evil.example/?a="onclick=alert(1)>',
    "```<script>\nalert(1)\n```",
    "| <img src=x> |\n|---|\n| <svg onload=alert(1)> |",
    "# <iframe srcdoc=x>",
    "[x]: javascript:alert(1)\n\n[x]",
  ];
  for (const text of [...hostile, hostile.join("\n"), hostile.join("\n\n> - "), hostile.join(" ")]) {
    for (const element of draw(text).all()) {
      assert.ok(TAGS.includes(element.tag), `${element.tag} of ${text}`);
      assert.deepEqual(
        Object.keys(element.attributes).filter((name) => !ATTRIBUTES.includes(name)),
        [],
      );
    }
  }
  assert.equal(draw("<b>*x*</b>&lt;").textContent, "<b>x</b>&lt;");
});

test("the modules make elements by name and never read markup", () => {
  for (const name of ["markdown", "markdown_inline", "markdown_view", "chat_answer", "chat_turns", "call_card"]) {
    const source = readFileSync(new URL(`../../workbench/widgets/static/${name}.js`, import.meta.url), "utf8");
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacent|DOMParser|document\.write|\.href|eval\(/);
  }
});

test("every character that is no mark stays, whatever the text", () => {
  const letters = (/** @type {string} */ text) => text.replace(/[^a-z]/g, "");
  for (const text of [
    "a *b **c* d** e",
    "- a\n    > b\n  c\n1. d",
    "[a](b `c` [d](e)",
    "| a | b\n|-|-\n| c | d | e |",
    "> ```\na\n> b",
  ]) {
    assert.equal(letters(draw(text).textContent.replaceAll("Copy", "").replaceAll("code", "")), letters(text), text);
  }
});

test("10,000 levels of anything are a few levels and text", () => {
  const deep = 10_000;
  const texts = [
    ">".repeat(deep) + " a",
    "> ".repeat(deep) + "a",
    "- ".repeat(deep) + "a",
    "1. ".repeat(deep) + "a",
    Array.from({ length: 1_000 }, (_, i) => `${"  ".repeat(i)}- a`).join("\n"),
    "*a ".repeat(deep) + "a* ".repeat(deep),
    "**a ".repeat(deep) + "a** ".repeat(deep),
    "*a _b ".repeat(deep) + "c_ d* ".repeat(deep),
    "*".repeat(deep) + "a" + "*".repeat(deep),
    "[".repeat(deep) + "a" + "](b)".repeat(deep),
    "![".repeat(deep) + "a" + "](b)".repeat(deep),
  ];
  for (const text of texts) {
    /** @param {unknown} node @returns {number} */
    const depth = (node) => (node && typeof node === "object" ? 1 + Math.max(0, ...Object.values(node).map(depth)) : 0);
    assert.ok(Math.max(0, ...markdownOf(text).map(depth)) < 120, text.slice(0, 20));
    draw(text);
  }
});

test("a megabyte is read in time that grows with its length", () => {
  const pieces = [
    "word ",
    "*a ",
    "a* ",
    "*a* ",
    "**a",
    "_a ",
    "`",
    "`a``b",
    "[",
    "]",
    "![",
    "[a](",
    "](",
    "[](",
    "[a](b ",
    "[a](<",
    "\\",
    "<https://",
    "https://a.b ",
    "https://",
    "~~",
    "~",
    "|",
    "|-",
    "a|b\n-|-\n",
    "|a|\n|-|\n|b|\n",
    "\n",
    "\n\n",
    "- ",
    "- a\n",
    "-\n",
    "- a\n\n",
    "  - a\n",
    "> ",
    ">a\n",
    "> a\nb\n",
    "1. ",
    "1. a\n\n   b\n",
    "#",
    "# a\n",
    "```\n",
    "``` a\n~~~\n",
    "- ```\n",
    " ",
    "\t",
    "* ",
    "***",
    "---\n",
    "- - -\n",
    "a\n---\n",
    "*_",
    "*a_b",
    "<",
    "&amp;",
  ];
  const slow = pieces.filter((piece) => seconds(() => markdownOf(piece.repeat(MEGABYTE / piece.length))) > MOST_S);
  assert.deepEqual(slow, []);
  const ratio = (/** @type {string} */ piece) => {
    const time = (/** @type {number} */ length) => seconds(() => markdownOf(piece.repeat(length / piece.length)));
    time(20_000);
    return time(0.8 * MEGABYTE) / Math.max(0.02, time(0.1 * MEGABYTE));
  };
  for (const piece of ["*a _b ", "a* ", "[a](", "`a``b", "- a\n\n", "> a\nb\n"]) assert.ok(ratio(piece) < 40, piece);
});

test("a line with a million marks or spaces takes no longer", () => {
  const many = MEGABYTE;
  const texts = [
    "~".repeat(many) + "`",
    "`".repeat(many) + "a`",
    "-" + " ".repeat(many),
    " ".repeat(many) + "|\n-",
    "|" + " ".repeat(many) + "\n|-",
    "* ".repeat(many) + "x",
    "[a](" + " ".repeat(many),
    "[a](" + "b".repeat(many),
    "[a](b " + '"'.repeat(many),
    "https://" + ".".repeat(many),
    "# " + "#".repeat(many) + "a",
    "# " + " ".repeat(many),
  ];
  assert.deepEqual(
    texts.filter((text) => seconds(() => markdownOf(text)) > MOST_S).map((text) => text.slice(0, 12)),
    [],
  );
});

test("blocks that stay as they were keep their elements while a text grows", () => {
  const view = markdownView();
  const root = /** @type {FakeElement} */ (/** @type {unknown} */ (view.root));
  const text =
    "# Title\n\nOne *two* three.\n\n```py\na = 1\nb = 2\n```\n\n- x\n- y\n\n| a | b |\n|---|---|\n| 1 | 2 |\n";
  let changed = 0;
  for (let end = 1; end <= text.length; end += 1) {
    const before = root.children;
    view.show(text.slice(0, end));
    assert.ok(root.children.length >= before.length, `a block vanished at ${end}`);
    const lost = before.filter((one) => !root.children.includes(one));
    assert.ok(lost.length <= 1 && (!lost.length || lost[0] === before.at(-1)), `an earlier block changed at ${end}`);
    changed += lost.length;
  }
  const code = root.children[2];
  view.show(text + "\nmore");
  assert.equal(root.children[2], code);
  assert.ok(changed < text.length);
});

test("code keeps its element, and so its button, while it grows", () => {
  const view = markdownView();
  const root = /** @type {FakeElement} */ (/** @type {unknown} */ (view.root));
  view.show("```py\na");
  const [block] = root.children;
  view.show("```py\na = 1\nb");
  assert.equal(root.children[0], block);
  assert.equal(block.querySelector("code")?.textContent, "a = 1\nb");
  view.show("gone");
  assert.deepEqual([root.children.length, root.textContent], [1, "gone"]);
});

test("what stands in a line alone is text, and the empty text nothing", () => {
  assert.deepEqual(inlineOf(""), []);
  assert.deepEqual(markdownOf(" \n\t\n"), []);
  assert.deepEqual(inlineOf("a < b && c > d"), [{ kind: "text", text: "a < b && c > d" }]);
});
