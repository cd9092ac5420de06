"""Visible text of HTML: without markup, scripts and hidden elements, one line for each block."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_INVISIBLE = {
    *("audio", "canvas", "datalist", "embed", "head", "iframe", "noscript", "object", "script", "select"),
    *("style", "svg", "template", "title", "video"),
}
_INLINE = {
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "button", "cite", "code", "data", "del", "dfn"),
    *("em", "font", "i", "img", "input", "ins", "kbd", "label", "mark", "meter", "nobr", "output"),
    *("picture", "progress", "q", "ruby", "rb", "rp", "rt", "s", "samp", "small", "span", "strike"),
    *("strong", "sub", "sup", "time", "tt", "u", "var", "wbr"),
}
_CELLS = frozenset({"td", "th"})
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def visible_text(html: str) -> str:
    """Return the text that a browser would show, as far as the HTML itself determines it."""
    # Not the standard library's parser, whose time on damaged markup grows with the square of the length.
    from lxml import etree

    if not html.strip():
        return ""
    parser = etree.HTMLParser(target=_VisibleText(), encoding="utf-8", huge_tree=True, no_network=True)
    parser.feed(html.encode())
    text: str = parser.close()
    return text


class _VisibleText:
    """Collector of the lines of a page; it builds no tree, so that nesting costs nothing."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._verbatim = 0
        self._hidden = 0
        """Open elements from the hidden one inwards; 0 where text is visible."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._hidden or _hides(tag, attributes):
            self._hidden += 1
            return
        self._separate(tag)
        self._verbatim += tag == "pre"

    def end(self, tag: str) -> None:
        if self._hidden:
            self._hidden -= 1
            return
        self._separate(tag)
        self._verbatim -= tag == "pre"

    def data(self, data: str) -> None:
        if self._hidden:
            return
        first, *others = data.split("\n") if self._verbatim else [data]
        self._line.append(first)
        for line in others:
            self._end_line(keep_empty=True)
            self._line.append(line)

    def comment(self, _: str) -> None:
        """Skip a comment."""

    def pi(self, *_: str) -> None:
        """Skip a processing instruction."""

    def close(self) -> str:
        self._end_line()
        return "\n".join(self._lines).strip("\n")

    def _separate(self, tag: str) -> None:
        if tag in _CELLS:
            self._line.append(" ")
        elif tag not in _INLINE:
            self._end_line()

    def _end_line(self, *, keep_empty: bool = False) -> None:
        line = "".join(self._line)
        line = line.rstrip() if self._verbatim else " ".join(line.split())
        self._line.clear()
        if line or keep_empty:
            self._lines.append(line)


def _hides(tag: str, attributes: Mapping[str, str]) -> bool:
    return tag in _INVISIBLE or "hidden" in attributes or bool(_HIDING_STYLE.search(attributes.get("style", "")))
