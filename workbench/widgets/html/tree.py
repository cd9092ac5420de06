"""The static twin of a tree of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from workbench.widgets.format import fixed, percent_of
from workbench.widgets.html.twins import code, document, line, shown


def tree_html(branches: Sequence[Mapping[str, Any]]) -> str:
    """Return the branches of ``branches.wire_branches`` as a table: position, token and text of each divergence."""
    if not branches:
        return document(line("No run yet."))
    names = ("branch", "forks from", "at token", "with", "instead of", "tokens", "perplexity", "text")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_branch_row(branch, branches) for branch in branches)
    return document(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _branch_row(branch: Mapping[str, Any], branches: Sequence[Mapping[str, Any]]) -> str:
    is_first = branch["parent"] is None
    name = f"<strong>{branch['name']}</strong> shown" if branch["shown"] else str(branch["name"])
    cells = [
        name,
        "–" if is_first else str(branches[branch["parent"]]["name"]),
        "–" if is_first else str(branch["at"] + 1),
        _token_words(branch["own"]),
        _token_words(branch["instead"]),
        str(branch["count"]),
        fixed(branch["perplexity"], 2),
    ]
    text = f'<td style="text-align:left">{escape(shown(branch["text"]))}</td>'
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}{text}</tr>"


def _token_words(token: Sequence[Any] | None) -> str:
    if token is None:
        return "–"
    name, logprob = token
    return f"{code(name)} {escape(percent_of(math.nan if logprob is None else logprob))}"
