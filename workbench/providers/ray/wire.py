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
from workbench.providers.requests import Request, chat_request, completion_request
from workbench.providers.wire import Json, detail_from_wire, detail_to_wire
from workbench.records import attach_detail, detail_of

Chunk = CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk


def request_to_json(request: Request) -> str:
    common = {
        "model": request.model,
        "sampling_params": request.sampling_params,
        "logprobs": request.logprobs,
        "response_format": request.response_format,
    }
    body: CompletionRequest | ChatCompletionRequest
    if request.content is not None:
        body = CompletionRequest.model_validate(common | {"content": request.content})
    else:
        asked = {"messages": list(request.messages), "tools": list(request.tools)}
        asked |= {"tool_choice": request.tool_choice, "tool_prompt_format": request.tool_prompt_format}
        body = ChatCompletionRequest.model_validate(common | asked)
    return json.dumps({"field": request.field, "is_chat": request.is_chat, "body": body.model_dump(mode="json")})


def request_from_json(text: str) -> Request:
    wire = json.loads(text)
    if not wire["is_chat"]:
        asked = CompletionRequest.model_validate(wire["body"])
        return completion_request(
            asked.model,
            asked.content,
            asked.sampling_params,
            asked.logprobs,
            asked.response_format,
            field=wire["field"],
        )
    chat = ChatCompletionRequest.model_validate(wire["body"])
    return chat_request(
        chat.model,
        chat.messages,
        chat.sampling_params,
        chat.tools,
        chat.tool_choice,
        chat.tool_prompt_format,
        chat.logprobs,
        chat.response_format,
        field=wire["field"],
    )


def chunks_to_json(chunks: Sequence[Chunk]) -> str:
    return json.dumps([[chunk.model_dump(mode="json"), detail_to_wire(detail_of(chunk))] for chunk in chunks])


def chunk_from_wire(wire: Json, *, is_chat: bool) -> Chunk:
    kind = ChatCompletionResponseStreamChunk if is_chat else CompletionResponseStreamChunk
    chunk = kind.model_validate(wire[0])
    detail = detail_from_wire(wire[1])
    return chunk if detail is None else attach_detail(chunk, detail)
