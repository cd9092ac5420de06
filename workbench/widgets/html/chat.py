"""The static twin of a chat: every turn, every answer with its probabilities, every call with its result."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from workbench.widgets.contract import RunLike
from workbench.widgets.html import twins
from workbench.widgets.html.twins import document, line, prompt_block, shown

_PARSE_WORDS = {"started": "started", "in_progress": "in progress", "success": "parsed", "failure": "not parsed"}
_STATE_WORDS = {
    "waiting": "waiting for you",
    "running": "running",
    "ran": "ran",
    "declined": "declined",
    "failed": "failed",
    "stopped": "stopped",
}


def chat_html(system: str, turns: Sequence[dict[str, Any]], runs: Sequence[RunLike]) -> str:
    """Return the whole conversation as HTML.

    Args:
        turns: return value of `workbench.widgets.wire.chat.turns_wire`.
        runs: runs of the answers among them.
    """
    by_id = {run.id: run for run in runs}
    parts = [_said("System", system)] if system else []
    for turn in turns:
        parts += [_said("You", turn["text"])] if turn["role"] == "user" else _answer(turn, by_id.get(turn["run"]))
    return document(*(parts or [line("No messages yet.")]))


def _answer(turn: dict[str, Any], run: RunLike | None) -> list[str]:
    text = [] if run is None else [twins.text_html(run), twins.metrics_html(run)]
    problem = [line(turn["error"])] if turn["error"] else []
    notes = [line(note) for note in turn["notes"]]
    version = "" if turn["version"] is None else " (version {} of {})".format(*turn["version"])
    return [_speaker(f"{turn['model']}{version}"), *text, *problem, *(_call(call) for call in turn["calls"]), *notes]


def _call(call: dict[str, Any]) -> str:
    words = _STATE_WORDS.get(call["state"], _PARSE_WORDS[call["status"]])
    written = call["text"] if call["name"] is None else f"{call['name']} {call['arguments']}"
    result = "" if call["result"] is None else prompt_block(call["result"])
    return f"{line(f'Tool call ({words}):')}{prompt_block(written)}{result}"


def _said(speaker: str, text: str) -> str:
    return _speaker(speaker) + prompt_block(text)


def _speaker(name: str) -> str:
    return f"<p><strong>{escape(shown(name))}</strong></p>"
