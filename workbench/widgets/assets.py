"""The JavaScript and CSS of a widget as one text each.

anywidget loads a module from a Blob URL, from which no other file can be imported. So an import of a sibling is
replaced by the sibling's text; in the repository every file stays a plain ES module of its own. Comments are removed,
because a saved notebook holds these texts once for each widget.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
# Comments on lines of their own; a type before an expression stays.
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*(?:(?!\*/)[\s\S])*\*/[ \t]*)\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async )?function|const|class)", re.MULTILINE)


@cache
def module_source(name: str) -> str:
    """Return the ES module ``static/<name>.js`` behind the modules that it imports, each once."""
    seen: dict[str, str] = {}
    _collect(name, seen)
    *siblings, own = (_COMMENT.sub("", text) for text in seen.values())
    return "\n".join([*(_EXPORT.sub("", text) for text in siblings), own])


@cache
def style_source(name: str) -> str:
    """Return ``static/base.css`` (colors, buttons, fields), the style of each imported module, and the module's own."""
    seen: dict[str, str] = {}
    _collect(name, seen)
    sheets = [STATIC / f"{part}.css" for part in ("base", *seen)]
    texts = (sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.exists())
    return "\n".join(_COMMENT.sub("", text) for text in texts)


def _collect(name: str, seen: dict[str, str]) -> None:
    text = (STATIC / f"{name}.js").read_text(encoding="utf-8")
    for sibling in _IMPORT.findall(text):
        if sibling not in seen:
            _collect(sibling, seen)
    seen[name] = _IMPORT.sub("", text)
