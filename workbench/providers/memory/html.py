"""Visible text of HTML: without markup, scripts and hidden elements, one line for each block."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4.element import PageElement, Tag

_INVISIBLE = frozenset(
    [
        "audio",
        "canvas",
        "datalist",
        "embed",
        "head",
        "iframe",
        "noscript",
        "object",
        "script",
        "select",
        "style",
        "svg",
        "template",
        "video",
    ]
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "caption",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    ]
)
_CELLS = frozenset({"td", "th"})
_DISPLAY_NONE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\f]+")


def visible_text(html: str) -> str:
    """Return the text that a browser would show, as far as the HTML itself determines it."""
    from bs4 import BeautifulSoup
    from bs4.element import CData, NavigableString, Tag

    soup = BeautifulSoup(html, "html.parser")
    parts: list[str] = []
    ends: list[tuple[PageElement | None, str]] = []
    node: PageElement | None = soup
    # A loop instead of a recursion, because elements may be nested more deeply than the stack.
    while node is not None:
        while ends and ends[-1][0] is node:
            parts.append(ends.pop()[1])
        if isinstance(node, Tag):
            if _is_hidden(node):
                node = _after(node)
                continue
            separator = "\n" if node.name in _BLOCKS else "\t" if node.name in _CELLS else ""
            if separator:
                parts.append(separator)
                ends.append((_after(node), separator))
        elif type(node) in {NavigableString, CData}:
            is_verbatim = any(parent.name == "pre" for parent in node.parents)
            parts.append(str(node) if is_verbatim else re.sub(r"\s+", " ", str(node)))
        node = node.next_element
    return _tidied("".join(parts))


def _is_hidden(tag: Tag) -> bool:
    return tag.name in _INVISIBLE or tag.has_attr("hidden") or bool(_DISPLAY_NONE.search(str(tag.get("style", ""))))


def _after(tag: Tag) -> PageElement | None:
    """Return the element behind a tag and everything in it."""
    last: PageElement = tag
    while contents := getattr(last, "contents", None):
        last = contents[-1]
    return last.next_element


def _tidied(text: str) -> str:
    """Return the lines without blanks at their ends and without repeated empty lines."""
    lines = [_BLANKS.sub(" ", line).strip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
