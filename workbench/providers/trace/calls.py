"""Recorded calls: requests, results and times."""

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
from workbench.providers.wire import Json, extras_from_wire, extras_to_wire
from workbench.records import Emission

Method = Literal[
    "completion",
    "chat_completion",
    "batch_completion",
    "batch_chat_completion",
    "embeddings",
    "token_spans",
    "score",
    "render",
    "register_model",
]


@dataclass(slots=True, eq=False)
class RecordedCall:
    """Recorded call of a model."""

    method: Method
    model: str
    request: Json
    """Request as protocol JSON, without the model but with all defaults."""
    number: int = -1
    """Index of the call in its recording, by which inspections refer to it."""
    at_s: float = 0.0
    """Time of the call, in seconds since the recording began."""
    emissions: list[tuple[float, Emission]] = field(default_factory=list)
    """Emissions of a stream, each with the seconds since the call."""
    result: Json = None
    """Result of a call that does not stream."""
    elapsed_s: float = 0.0
    """Duration of the call."""
    end: Literal["finished", "failed", "left"] = "left"
    """``left``: the reader stopped before the end."""
    error: Json = None
    refused: bool = False
    """Whether the call itself raised the error, before anything was awaited."""

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
        if emissions := list(self.emissions):  # a call in progress may add more
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
    """Return the JSON by which equal requests are found; a provider gets them without shields and retrieval."""
    omitted = ("model", "stream", "shields", "retrieval")
    wire: Json = {name: value for name, value in request.body() if name not in omitted}
    if not request.edits:
        wire.pop("edits")  # calls that were recorded before there were edits have none
    if not request.tools:
        wire.pop("tool_choice", None)
        wire.pop("tool_prompt_format", None)
    if (answer_prefix := request.answer_prefix) is not None:
        wire["beginning"] = {"kept": len(answer_prefix.kept), "token_ids": list(answer_prefix.token_ids)}
    return plain_json(wire)


def batch_json(requests: Sequence[Request]) -> Json:
    """Return `request_json` of several requests under the same parameters, with their contents in a list."""
    batch = [request_json(request) for request in requests]
    kind = "messages" if requests[0].is_chat else "content"
    return {f"{kind}_batch": [one.pop(kind) for one in batch]} | batch[0]


def plain_json(value: object) -> Json:
    """Return models of the protocol, or lists and dicts of them, as JSON."""
    # The provider refused values that are not JSON; they are only displayed.
    return to_jsonable_python(value, fallback=repr, inf_nan_mode="strings")


async def message_emissions(message: CompletionMessage) -> AsyncIterator[Emission]:
    """Yield the shortest stream that folds to a message."""
    for call in message.tool_calls:
        yield Emission(ToolCallDelta(content=call, parse_status=ToolCallParseStatus.success))
    if message.content:
        yield Emission(str(message.content))
    yield Emission(stop_reason=message.stop_reason)


_SHARED = ("seed", "notes")
"""Fields that all emissions of a run usually share."""


def _chunks_to_wire(emissions: list[tuple[float, Emission]], maker: ChunkMaker) -> list[Json]:
    """Return a list of time, chunk and extra fields; a shared field is written with the first and where it changes."""
    wire = []
    before: Json = {}
    for elapsed_s, emission in emissions:
        *first, chunk = maker.chunks(emission)
        wire += [[round(elapsed_s, 6), start.model_dump(mode="json"), {}] for start in first]
        extras = extras_to_wire(emission)
        shared = {name: extras.pop(name, []) for name in _SHARED}
        extras |= {name: value for name, value in shared.items() if value != before.get(name, [])}
        before = shared
        wire.append([round(elapsed_s, 6), chunk.model_dump(mode="json"), extras])
    return wire


def _emissions_from_wire(method: str, wire: Json) -> list[tuple[float, Emission]]:
    emissions = []
    shared: Json = {}
    for elapsed_s, written, extras in wire:
        chunk: Any
        if method == "chat_completion":
            chunk = ChatCompletionResponseStreamChunk.model_validate(written).event
            if chunk.event_type is ChatCompletionResponseEventType.start:
                continue
        else:
            chunk = CompletionResponseStreamChunk.model_validate(written)
        known = shared | (extras or {})
        shared = {name: known[name] for name in _SHARED if name in known}
        emissions.append((elapsed_s, replace(emission_of(chunk), **extras_from_wire(known))))
    return emissions
