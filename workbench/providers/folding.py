"""Streams to whole responses: a non-streamed answer is the fold of the streamed one, so the two cannot differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionMessage,
    CompletionResponse,
    CompletionResponseStreamChunk,
    StopReason,
    TokenLogProbs,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.protocol.responses import DetailedModel
from workbench.providers.requests import Request
from workbench.records import CallAttempt, RunDetail, attach_detail, detail_of


def response(request: Request, chunks: Sequence[Any]) -> Any:
    """Return the whole response to a request, a chat's or a completion's, that its chunks make up."""
    fold: Any = chat_response if request.is_chat else completion_response
    return fold(chunks, wants_logprobs=request.logprobs is not None)


def completion_response(
    chunks: Sequence[CompletionResponseStreamChunk], *, wants_logprobs: bool = False
) -> CompletionResponse:
    """The response that the chunks make up; a stream that was cut off counts as out of tokens."""
    stop_reason = next((chunk.stop_reason for chunk in chunks if chunk.stop_reason), StopReason.out_of_tokens)
    message = CompletionMessage(content="".join(chunk.delta for chunk in chunks), stop_reason=stop_reason)
    logprobs = [entry for chunk in chunks for entry in chunk.logprobs or ()]
    response = CompletionResponse(completion_message=message, logprobs=logprobs if wants_logprobs else None)
    return attach_detail(response, folded_detail(chunks))


def chat_response(
    chunks: Sequence[ChatCompletionResponseStreamChunk], *, wants_logprobs: bool = False
) -> ChatCompletionResponse:
    """The chat response that the chunks make up; a stream that was cut off counts as out of tokens."""
    events = [chunk.event for chunk in chunks]
    answer = Answer()
    for event in events:
        answer.add(event.delta)
    message = CompletionMessage(
        content=answer.text(ended=True),
        stop_reason=next((event.stop_reason for event in events if event.stop_reason), StopReason.out_of_tokens),
        tool_calls=answer.tool_calls,
    )
    logprobs: list[TokenLogProbs] = [entry for event in events for entry in event.logprobs or ()]
    response = ChatCompletionResponse(completion_message=message, logprobs=logprobs if wants_logprobs else None)
    return attach_detail(response, folded_detail(chunks))


class Answer:
    """Text and calls of an answer, added up from the deltas of its stream."""

    def __init__(self) -> None:
        self.tool_calls: list[ToolCall] = []
        """Whole calls so far; only ever appended to."""
        self._parts: list[str | CallAttempt] = []
        self._under_way: list[str] = []
        self._status: ToolCallParseStatus | None = None
        """Of the call that is under way."""

    def add(self, delta: str | ToolCallDelta) -> None:
        if isinstance(delta, str):
            self._parts.append(delta)
        elif delta.parse_status in (ToolCallParseStatus.started, ToolCallParseStatus.in_progress):
            self._under_way.append(str(delta.content))
            self._status = delta.parse_status
        else:
            written = "".join(self._under_way)
            self._under_way.clear()
            self._status = None
            if isinstance(delta.content, str):
                self._parts.append(CallAttempt(delta.parse_status.value, delta.content))
            else:
                self.tool_calls.append(delta.content)
                self._parts.append(CallAttempt(delta.parse_status.value, written, delta.content))

    def parts(self, *, ended: bool) -> list[str | CallAttempt]:
        """Plain text and calls as they came; a call that is not whole when all has ended is a failure."""
        if self._status is None:
            return list(self._parts)
        status = ToolCallParseStatus.failure if ended else self._status
        return [*self._parts, CallAttempt(status.value, "".join(self._under_way))]

    def text(self, *, ended: bool) -> str:
        """The text outside of calls, and the raw text of broken ones; of an unfinished one too where all has ended."""
        return "".join(part if isinstance(part, str) else _left_in_text(part) for part in self.parts(ended=ended))


def _left_in_text(attempt: CallAttempt) -> str:
    return attempt.text if attempt.status == ToolCallParseStatus.failure else ""


def folded_detail(chunks: Sequence[DetailedModel]) -> RunDetail:
    """All tokens of the chunks, with the latest usage."""
    details = [detail for chunk in chunks if (detail := detail_of(chunk))]
    if not details:
        return RunDetail()
    return RunDetail(
        tokens=tuple(token for detail in details for token in detail.tokens),
        end=details[-1].end,
        usage=details[-1].usage,
        prompt_tokens=details[-1].prompt_tokens,
        inspector=details[-1].inspector,
        seed=details[-1].seed,
        notes=details[-1].notes,
        call_opening=details[-1].call_opening,
    )
