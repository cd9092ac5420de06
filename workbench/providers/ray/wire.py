"""Conversion of requests and answers to the JSON between the provider and its actors; no class is pickled."""

from __future__ import annotations

import json

from pydantic_core import to_jsonable_python

from workbench.protocol import ChatCompletionRequest, CompletionRequest, StopReason, TokenLogProbs, ToolCallDelta
from workbench.providers.requests import Request
from workbench.providers.wire import Json, extras_from_wire, extras_to_wire
from workbench.records import Emission


def request_to_json(request: Request) -> str:
    body = request.body().model_dump(mode="json")
    return json.dumps({"field": request.field, "is_chat": request.is_chat, "body": body})


def request_from_json(text: str) -> Request:
    wire = json.loads(text)
    kind = ChatCompletionRequest if wire["is_chat"] else CompletionRequest
    return Request.from_body(kind.model_validate(wire["body"]), field=wire["field"])


def emission_to_json(emission: Emission) -> str:
    logprobs = emission.logprobs and to_jsonable_python(emission.logprobs)
    delta = to_jsonable_python(emission.delta)
    return json.dumps([delta, emission.stop_reason, logprobs, extras_to_wire(emission)])


def emission_from_wire(wire: Json) -> Emission:
    delta, stop_reason, logprobs, extras = wire
    return Emission(
        delta if isinstance(delta, str) else ToolCallDelta.model_validate(delta),
        stop_reason=None if stop_reason is None else StopReason(stop_reason),
        logprobs=None if logprobs is None else tuple(map(TokenLogProbs.model_validate, logprobs)),
        **extras_from_wire(extras),
    )
