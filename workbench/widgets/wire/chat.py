"""The wire form of a conversation, for the browser and the static twin: one dictionary per turn.

A user message is ``{role: "user", turn, text}``, where ``turn`` is its index among the turns. An answer is ``{role:
"assistant", turn, run, model, state, stop_reason, text, generated, tokens_per_s, notes, error, refused_by, calls,
version}``, where ``turn`` is the index of the user message that it answers; the run feed has text and calls of an
answer in progress. ``refused_by`` is the shield that refused the message or the answer, else null. ``version`` is
``[number, count]`` at the last answer to a message with several versions, else null.

A call is ``{status, text, name, arguments, place, state, can_run, result}``. ``status`` is its parse status in the
protocol's words, ``place`` its index among the answer's calls. ``state`` is ``waiting`` (for a decision), ``running``,
``ran`` (it has a result), ``declined``, ``failed`` (its function raised) or ``stopped``; null if there is nothing to
decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from workbench.errors import ShieldViolationError
from workbench.protocol import CompletionMessage, InterleavedTextMedia, Message, ToolResponseMessage, UserMessage
from workbench.records import CallAttempt
from workbench.widgets.chat_transcript import Transcript
from workbench.widgets.contract import RunLike
from workbench.widgets.wire.run import called, error_text, number

Turn = dict[str, Any]


def turns_wire(transcript: Transcript) -> list[Turn]:
    """Return all turns that a chat shows, in order."""
    runs = iter(transcript.runs)
    wire: list[Turn] = []
    question: int | None = None
    for index, turn in enumerate(transcript.conversation.turns):
        if isinstance(turn, UserMessage):
            question = index
            wire.append({"role": "user", "turn": index, "text": text_of(turn.content)})
        elif isinstance(turn, CompletionMessage):
            wire.append({**_answer(transcript, next(runs), turn, index), "turn": question})
    if transcript.pending is not None:
        wire.append({**_facts(transcript.pending), "text": "", "calls": [], "turn": question})
    return [
        _with_version(turn, following, transcript) for turn, following in zip(wire, [*wire[1:], None], strict=False)
    ]


def tool_wire(tool: Mapping[str, Any]) -> dict[str, str]:
    """Return a tool for the list in the settings; its parameters are a JSON schema as text."""
    schema = json.dumps(tool["parameters"], ensure_ascii=False, indent=1)
    return {"name": tool["name"], "description": tool["description"], "parameters": schema}


def text_of(content: InterleavedTextMedia) -> str:
    """Return the text of a message, with ``[image]`` for each image."""
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else "[image]" for part in parts)


def _with_version(turn: Turn, following: Turn | None, transcript: Transcript) -> Turn:
    if turn["role"] == "user":
        return turn
    is_last = following is None or following["role"] == "user"
    versions = transcript.versions.get(turn["turn"]) if is_last else None
    return {**turn, "version": None if versions is None else [versions.current + 1, len(versions.tails)]}


def _answer(transcript: Transcript, run: RunLike, turn: CompletionMessage, index: int) -> Turn:
    conversation = transcript.conversation
    open_calls = conversation.open_calls if index == transcript.answers[-1] else {}
    settled = _results_after(conversation.turns, index)
    outcomes = conversation.outcomes
    calls = []
    indexes = iter(range(len(turn.tool_calls)))
    for attempt in run.call_attempts:
        place = next(indexes, None) if attempt.call is not None else None
        if place is None:
            calls.append(_call(attempt))
        elif place in open_calls:
            can_run = conversation.can_run(turn.tool_calls[place])
            is_running = place in transcript.calling
            calls.append(_call(attempt, place=place, state="running" if is_running else "waiting", can_run=can_run))
        else:
            at, result = next(settled, (None, None))
            state = None if at is None else outcomes.get(at, "ran")
            calls.append(_call(attempt, place=place, state=state, result=result))
    return {**_facts(run), "text": text_of(turn.content), "calls": calls}


def _results_after(turns: Sequence[Message], index: int) -> Iterator[tuple[int, str]]:
    """Yield index and text of each result of an answer's calls."""
    for at, turn in enumerate(islice(turns, index + 1, None), index + 1):
        if not isinstance(turn, ToolResponseMessage):
            return
        yield at, text_of(turn.content)


def _facts(run: RunLike) -> Turn:
    has_failed = run.state == "failed" and run.error is not None
    return {
        "role": "assistant",
        "run": run.id,
        "model": run.model,
        "state": run.state,
        "stop_reason": None if run.stop_reason is None else str(getattr(run.stop_reason, "value", run.stop_reason)),
        "generated": run.usage.generated_tokens,
        "tokens_per_s": number(run.usage.decode_tokens_per_s, digits=1),
        "notes": list(run.notes),
        "error": error_text(run.error) if has_failed and run.error else None,
        "refused_by": run.error.shield if isinstance(run.error, ShieldViolationError) else None,
    }


def _call(
    attempt: CallAttempt,
    *,
    place: int | None = None,
    state: str | None = None,
    can_run: bool = False,
    result: str | None = None,
) -> Turn:
    name, arguments = (None, None) if attempt.call is None else called(attempt.call)
    return {
        "status": attempt.status,
        "text": attempt.text,
        "name": name,
        "arguments": arguments,
        "place": place,
        "state": state,
        "can_run": can_run,
        "result": result,
    }
