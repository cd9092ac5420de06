"""The static twin of the edit view: the changes in effect, and the edited run beside the original."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from workbench.widgets.html.twins import document, line, shown


def edits_html(changes: Sequence[str], message: str, comparison: str) -> str:
    """Return the changes and a comparison as HTML.

    Args:
        changes: the changes in words.
        message: an error, or why nothing can be edited; empty if there is none.
        comparison: HTML of the comparison; empty before the first run of the edits.
    """
    items = "".join(f"<li>{escape(shown(change))}</li>" for change in changes)
    said = [line(message)] if message else []
    return document(*said, f"<ol>{items}</ol>" if items else line("No changes."), comparison)
