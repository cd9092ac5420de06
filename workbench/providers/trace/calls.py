"""Calls as they are recorded: what was asked, what came, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic_core import to_jsonable_python

from workbench.protocol import (
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionMessage,
    CompletionResponseStreamChunk,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.providers.chunks import ChunkMaker
from workbench.providers.emissions import emission_of
from workbench.providers.requests import Request
from workbench.providers.wire import Json, detail_from_wire, detail_to_wire
from workbench.records import Emission

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
    emissions: list[tuple[float, Emission]] = field(default_factory=list)
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
        if emissions := list(self.emissions):  # of a call under way
            maker = ChunkMaker(
                is_chat=self.method == "chat_completion", wants_logprobs=self.request.get("logprobs") is not None
            )
            wire["chunks"] = _chunks_to_wire(emissions, maker)
        optional = {"result": self.result, "error": self.error, "refused": self.refused or None}
        return wire | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_wire(cls, wire: Json) -> RecordedCall:
        fields = {name: value for name, value in wire.items() if name != "chunks"}
        return cls(**fields, emissions=_emissions_from_wire(wire["method"], wire.get("chunks", ())))


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


async def message_emissions(message: CompletionMessage) -> AsyncIterator[Emission]:
    """Yield the shortest stream that folds to a message."""
    for call in message.tool_calls:
        yield Emission(ToolCallDelta(content=call, parse_status=ToolCallParseStatus.success))
    if message.content:
        yield Emission(str(message.content))
    yield Emission(stop_reason=message.stop_reason)


_LASTING = ("seed", "notes")
"""What all emissions of a run have in common."""


def _chunks_to_wire(emissions: list[tuple[float, Emission]], maker: ChunkMaker) -> list[Json]:
    """Time, chunk, detail; what all details of a run have in common is written once, with the first."""
    wire = []
    before: Json = {}
    for elapsed_s, emission in emissions:
        *first, chunk = maker.chunks(emission)
        wire += [[round(elapsed_s, 6), start.model_dump(mode="json"), {}] for start in first]
        detail = detail_to_wire(emission)
        lasting = {name: detail.pop(name, []) for name in _LASTING}
        detail |= {name: value for name, value in lasting.items() if value != before.get(name, [])}
        before = lasting
        wire.append([round(elapsed_s, 6), chunk.model_dump(mode="json"), detail])
    return wire


def _emissions_from_wire(method: str, wire: Json) -> list[tuple[float, Emission]]:
    emissions = []
    lasting: Json = {}
    for elapsed_s, written, detail in wire:
        chunk: Any
        if method == "chat_completion":
            chunk = ChatCompletionResponseStreamChunk.model_validate(written).event
            if chunk.event_type is ChatCompletionResponseEventType.start:
                continue
        else:
            chunk = CompletionResponseStreamChunk.model_validate(written)
        known = lasting | (detail or {})
        lasting = {name: known[name] for name in _LASTING if name in known}
        emissions.append((elapsed_s, replace(emission_of(chunk), **detail_from_wire(known))))
    return emissions
