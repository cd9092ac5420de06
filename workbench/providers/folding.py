"""Folding of emissions to whole responses, so that streamed and whole responses cannot differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.protocol import (
    ChatCompletionResponse,
    CompletionMessage,
    CompletionResponse,
    StopReason,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.providers.chunks import logprobs_of
from workbench.providers.requests import Request
from workbench.records import CallAttempt, Emission

_LAST = ("stop_reason", "prompt_tokens", "end", "usage", "inspector", "seed", "notes", "retrieved", "call_opening")
"""Fields of an emission whose last value counts."""


def response(request: Request, emissions: Sequence[Emission]) -> Any:
    """Return the protocol's response to a request; an answer without a stop reason is out of tokens."""
    answer = Answer()
    for emission in emissions:
        answer.add(emission.delta)
    message = CompletionMessage(
        content=answer.text(ended=True),
        stop_reason=next((one.stop_reason for one in emissions if one.stop_reason), StopReason.out_of_tokens),
        tool_calls=answer.tool_calls,
    )
    logprobs = None if request.logprobs is None else [entry for one in emissions for entry in logprobs_of(one)]
    if not request.is_chat:
        return CompletionResponse(completion_message=message, logprobs=logprobs)
    retrieved = next((one.retrieved for one in reversed(emissions) if one.retrieved), None)
    return ChatCompletionResponse(completion_message=message, logprobs=logprobs, retrieval=retrieved)


def folded(emissions: Sequence[Emission]) -> Emission:
    """Return the emissions of an answer as one, with its tokens and text but without its tool calls."""
    answer = Answer()
    for emission in emissions:
        answer.add(emission.delta)
    is_explicit = any(one.logprobs is not None for one in emissions)
    return Emission(
        answer.text(ended=True),
        tuple(token for one in emissions for token in one.tokens),
        logprobs=tuple(entry for one in emissions for entry in logprobs_of(one)) if is_explicit else None,
        **{name: value for one in emissions for name in _LAST if (value := getattr(one, name)) not in (None, (), "")},
    )


class Answer:
    """Text and tool calls of an answer, collected from the deltas of its stream."""

    def __init__(self) -> None:
        self.tool_calls: list[ToolCall] = []
        """Complete calls so far; only appended to."""
        self._parts: list[str | CallAttempt] = []
        self._call_texts: list[str] = []
        self._status: ToolCallParseStatus | None = None
        """Status of the call in progress, if there is one."""

    def add(self, delta: str | ToolCallDelta) -> None:
        if isinstance(delta, str):
            self._parts.append(delta)
        elif delta.parse_status in (ToolCallParseStatus.started, ToolCallParseStatus.in_progress):
            self._call_texts.append(str(delta.content))
            self._status = delta.parse_status
        else:
            written = "".join(self._call_texts)
            self._call_texts.clear()
            self._status = None
            if isinstance(delta.content, str):
                self._parts.append(CallAttempt(delta.parse_status.value, delta.content))
            else:
                self.tool_calls.append(delta.content)
                self._parts.append(CallAttempt(delta.parse_status.value, written, delta.content))

    def parts(self, *, ended: bool) -> list[str | CallAttempt]:
        """Return text and calls in order; if the answer has ended, an incomplete call is a failure."""
        if self._status is None:
            return list(self._parts)
        status = ToolCallParseStatus.failure if ended else self._status
        return [*self._parts, CallAttempt(status.value, "".join(self._call_texts))]

    def text(self, *, ended: bool) -> str:
        """Return the text without calls, except the raw text of failed ones and, if ``ended``, of an incomplete one."""
        return "".join(part if isinstance(part, str) else _failed_text(part) for part in self.parts(ended=ended))


def _failed_text(attempt: CallAttempt) -> str:
    return attempt.text if attempt.status == ToolCallParseStatus.failure else ""
