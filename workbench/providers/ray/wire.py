"""Requests and answers as the JSON that travels between the provider and its actors: nothing of ours is pickled."""

from __future__ import annotations

import json
from collections.abc import Sequence

from workbench.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponseStreamChunk,
    CompletionRequest,
    CompletionResponseStreamChunk,
)
from workbench.providers.requests import Request
from workbench.providers.wire import Json, detail_from_wire, detail_to_wire
from workbench.records import attach_detail, detail_of

Chunk = CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk


def request_to_json(request: Request) -> str:
    body = request.body().model_dump(mode="json")
    return json.dumps({"field": request.field, "is_chat": request.is_chat, "body": body})


def request_from_json(text: str) -> Request:
    wire = json.loads(text)
    kind = ChatCompletionRequest if wire["is_chat"] else CompletionRequest
    return Request.from_body(kind.model_validate(wire["body"]), field=wire["field"])


def chunks_to_json(chunks: Sequence[Chunk]) -> str:
    return json.dumps([[chunk.model_dump(mode="json"), detail_to_wire(detail_of(chunk))] for chunk in chunks])


def chunk_from_wire(wire: Json, *, is_chat: bool) -> Chunk:
    kind = ChatCompletionResponseStreamChunk if is_chat else CompletionResponseStreamChunk
    chunk = kind.model_validate(wire[0])
    detail = detail_from_wire(wire[1])
    return chunk if detail is None else attach_detail(chunk, detail)
