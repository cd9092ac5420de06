"""A conversation as it travels to the browser and into the static twin: one dictionary a turn.

A user's turn is ``{role: "user", turn, text}``, where ``turn`` is its place among the messages. An answer is ``{role:
"assistant", run, model, state, stop_reason, text, generated, tokens_per_s, notes, error, calls}``; of one that is still
under way, text and calls come through the run feed. A call is ``{status, text, name, arguments, place, decision,
can_run, result}``: ``decision`` is ``open``, ``running`` or ``done``, and null for what is no whole call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.protocol import CompletionMessage, InterleavedTextMedia, Message, ToolResponseMessage, UserMessage
from workbench.records import CallAttempt
from workbench.widgets.contract import ConversationLike, RunLike
from workbench.widgets.wire import called, in_words, number

Turn = dict[str, Any]


@dataclass(slots=True)
class Transcript:
    """What a chat shows: the conversation, the run of each of its answers, and the calls that are being run."""

    conversation: ConversationLike
    runs: list[RunLike] = field(default_factory=list)
    """Of the answers among the conversation's turns, in order."""
    pending: RunLike | None = None
    """A run whose answer is no turn yet, or never will be: it goes on, or it failed."""
    calling: Collection[int] = ()

    def wire(self) -> list[Turn]:
        turns = self.conversation.turns
        runs = iter(self.runs)
        answers = [index for index, turn in enumerate(turns) if isinstance(turn, CompletionMessage)]
        wire: list[Turn] = []
        for index, turn in enumerate(turns):
            if isinstance(turn, UserMessage):
                wire.append({"role": "user", "turn": index, "text": text_of(turn.content)})
            elif isinstance(turn, CompletionMessage):
                is_last = index == answers[-1]
                wire.append(self._answer(next(runs), turn, _results_after(turns, index), is_last=is_last))
        if self.pending is not None:
            wire.append({**_facts(self.pending), "text": "", "calls": []})
        return wire

    def _answer(self, run: RunLike, turn: CompletionMessage, results: Sequence[str], *, is_last: bool) -> Turn:
        open_calls = self.conversation.open_calls if is_last else {}
        settled = iter(results)
        calls = []
        places = iter(range(len(turn.tool_calls)))
        for attempt in run.call_attempts:
            place = next(places, None) if attempt.call is not None else None
            if place is None:
                calls.append(_call(attempt))
            elif place in open_calls:
                decision = "running" if place in self.calling else "open"
                can_run = self.conversation.can_run(turn.tool_calls[place])
                calls.append(_call(attempt, place=place, decision=decision, can_run=can_run))
            else:
                calls.append(_call(attempt, place=place, decision="done", result=next(settled, None)))
        return {**_facts(run), "text": text_of(turn.content), "calls": calls}


def text_of(content: InterleavedTextMedia) -> str:
    """The text of a message, with a word where an image stands."""
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else "[image]" for part in parts)


def _results_after(turns: Sequence[Message], index: int) -> list[str]:
    return [text_of(turn.content) for turn in _tool_turns(turns, index + 1)]


def _tool_turns(turns: Sequence[Message], start: int) -> Iterator[ToolResponseMessage]:
    for turn in turns[start:]:
        if not isinstance(turn, ToolResponseMessage):
            return
        yield turn


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
        "error": in_words(run.error) if has_failed and run.error else None,
    }


def _call(
    attempt: CallAttempt,
    *,
    place: int | None = None,
    decision: str | None = None,
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
        "decision": decision,
        "can_run": can_run,
        "result": result,
    }
