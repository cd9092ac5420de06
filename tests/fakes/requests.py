"""Requests as providers get them, of values that need not be right."""

from __future__ import annotations

from typing import Any

from workbench.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    InterleavedTextMedia,
    LogProbConfig,
    Message,
    ResponseFormat,
    SamplingParams,
)
from workbench.providers.requests import Request


def completion_request(
    model: str,
    content: InterleavedTextMedia,
    sampling_params: SamplingParams | None = None,
    logprobs: LogProbConfig | None = None,
    response_format: ResponseFormat | None = None,
    *,
    field: str | None = None,
) -> Request:
    body = CompletionRequest.model_construct(
        model=model,
        content=content,
        sampling_params=sampling_params,
        logprobs=logprobs,
        response_format=response_format,
    )
    return Request.from_body(body, field=field)


def chat_request(model: str, messages: list[Message], *, field: str | None = None, **asked: Any) -> Request:
    """Of what is left out, nothing is asked for."""
    absent = {"sampling_params": None, "tools": None, "tool_choice": None, "tool_prompt_format": None}
    body = ChatCompletionRequest.model_construct(model=model, messages=messages, **absent | asked)
    return Request.from_body(body, field=field)
