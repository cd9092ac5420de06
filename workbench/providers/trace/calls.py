"""Calls as they are recorded: what was asked, what came, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_jsonable_python

from workbench.protocol import (
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionMessage,
    CompletionResponseStreamChunk,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.providers.emissions import Piece
from workbench.providers.requests import Request
from workbench.providers.wire import Json, detail_from_wire, detail_to_wire
from workbench.records import RunDetail, attach_detail, detail_of

Method = Literal[
    "completion",
    "chat_completion",
    "batch_completion",
    "batch_chat_completion",
    "embeddings",
    "score",
    "render",
    "register_model",
]
Chunk = CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk


@dataclass(slots=True, eq=False)
class RecordedCall:
    """One call of a model."""

    method: Method
    model: str
    request: Json
    """As protocol JSON, without the model; defaults are written out."""
    number: int = -1
    """Of this call in its recording, which looks at its positions name."""
    at_s: float = 0.0
    """When it was asked, since the recording began."""
    chunks: list[tuple[float, Chunk]] = field(default_factory=list)
    """Of a stream, each with the seconds since the call."""
    result: Json = None
    """Of a call that does not stream."""
    elapsed_s: float = 0.0
    """Until its end."""
    end: Literal["finished", "failed", "left"] = "left"
    """``left``: its reader went before the end."""
    error: Json = None
    refused: bool = False
    """The error came from the call itself, before anything was awaited."""

    def to_wire(self) -> Json:
        wire = {
            "method": self.method,
            "model": self.model,
            "request": self.request,
            "number": self.number,
            "at_s": round(self.at_s, 6),
            "elapsed_s": round(self.elapsed_s, 6),
            "end": self.end,
        }
        if self.chunks:
            wire["chunks"] = _chunks_to_wire(list(self.chunks))  # of a call under way
        optional = {"result": self.result, "error": self.error, "refused": self.refused or None}
        return wire | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_wire(cls, wire: Json) -> RecordedCall:
        return cls(**wire | {"chunks": _chunks_from_wire(wire["method"], wire.get("chunks", ()))})


def request_json(request: Request) -> Json:
    """All that makes two requests the same."""
    asked: Json = {name: value for name, value in request.body() if name not in ("model", "stream")}
    if not request.tools:
        asked.pop("tool_choice", None)
        asked.pop("tool_prompt_format", None)
    if (answer_prefix := request.answer_prefix) is not None:
        asked["beginning"] = {"kept": len(answer_prefix.kept), "token_ids": list(answer_prefix.token_ids)}
    return plain_json(asked)


def batch_json(requests: Sequence[Request]) -> Json:
    """Of several requests under the same parameters."""
    batch = [request_json(request) for request in requests]
    kind = "messages" if requests[0].is_chat else "content"
    return {f"{kind}_batch": [one.pop(kind) for one in batch]} | batch[0]


def plain_json(value: object) -> Json:
    """Models of the protocol, lists and dicts of them, as JSON."""
    # What is no JSON was refused by its provider, and is only shown.
    return to_jsonable_python(value, fallback=repr, inf_nan_mode="strings")


async def message_pieces(message: CompletionMessage, *, is_chat: bool) -> AsyncIterator[Piece]:
    """The shortest stream that folds to a message."""
    text, stop_reason = str(message.content), message.stop_reason
    if not is_chat:
        yield CompletionResponseStreamChunk(delta=text, stop_reason=stop_reason)
        return
    for call in message.tool_calls:
        yield ToolCallDelta(content=call, parse_status=ToolCallParseStatus.success)
    event_type = ChatCompletionResponseEventType.complete
    event = ChatCompletionResponseEvent(event_type=event_type, delta=text, stop_reason=stop_reason)
    yield ChatCompletionResponseStreamChunk(event=event)


_LASTING = ("prompt_tokens", "seed", "notes")
"""What all details of a run have in common."""


def _chunks_to_wire(chunks: list[tuple[float, Chunk]]) -> list[Json]:
    """Time, chunk, detail; what all details of a run have in common is written once, with the first."""
    wire = []
    before: Json = {}
    for elapsed_s, chunk in chunks:
        detail = detail_to_wire(detail_of(chunk))
        lasting = {name: (detail or {}).get(name, []) for name in _LASTING}
        if detail is not None:
            detail = {name: value for name, value in detail.items() if name not in lasting}
            detail |= {name: value for name, value in lasting.items() if value != before.get(name, [])}
            before = lasting
        wire.append([round(elapsed_s, 6), chunk.model_dump(mode="json"), detail])
    return wire


def _chunks_from_wire(method: str, wire: Json) -> list[tuple[float, Chunk]]:
    kind = ChatCompletionResponseStreamChunk if method == "chat_completion" else CompletionResponseStreamChunk
    chunks: list[tuple[float, Chunk]] = []
    lasting: Json = {}
    for elapsed_s, written, detail in wire:
        chunk: Any = kind.model_validate(written)
        if detail is not None:
            found = detail_from_wire(lasting | detail)
            lasting |= {name: detail[name] for name in _LASTING if name in detail}
            attach_detail(chunk, found or RunDetail())
        chunks.append((elapsed_s, chunk))
    return chunks
