"""Conversion of requests to bodies of OpenAI's API; what the server does not support is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.errors import UnsupportedFieldError
from workbench.prompts.texts import plain_text
from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import ToolChoice
from workbench.providers.openai.config import OpenAIConfig
from workbench.providers.openai.dialects import Dialect
from workbench.providers.openai.logprobs import LogprobOptions
from workbench.providers.openai.messages import wire_messages, wire_tools
from workbench.providers.openai.native import NativeCompletion
from workbench.providers.requests import Request

_MAX_TOKENS = 2**31 - 1
"""More than any context; servers store the number in 32 bits."""


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request in the form that is sent, and what its answer must contain."""

    path: str
    """Path relative to the config's URL, or a whole URL."""
    body: dict[str, Any]
    """The request body without the messages."""
    logprobs: LogprobOptions
    tools: Toolset
    must_call: bool
    streams: bool = True
    """False if the server sends some of the requested data only in whole answers."""
    native: NativeCompletion | None = None
    """The server's own API, if it is used in place of OpenAI's."""


def prepare(request: Request, model: str, dialect: Dialect, config: OpenAIConfig) -> PreparedRequest:
    """Check and convert a request; ``model`` is the name that the server uses.

    Raises:
        InvalidRequestError: a field is invalid.
        UnsupportedFieldError: this kind of server does not support a field in this kind of request.
    """
    tools = Toolset.of(request.tools)
    options, logprobs = _logprobs(request, dialect, config)
    if dialect.completion is not None and not request.is_chat:
        native, text = dialect.completion, plain_text(request.content or "", request.field)
        body = native.body(request, model, text, logprobs.get("logprobs"))
        return PreparedRequest(f"{config.root_url}{native.path}", body, options, tools, must_call=False, native=native)
    body = {"model": model} | dialect.fields(request) | _limit(request, dialect, config) | logprobs
    if request.sampling_params.stop:
        body["stop"] = list(request.sampling_params.stop)
    if request.response_format is not None:
        body |= _format(request, dialect, tools)
    must_call = request.tool_choice == ToolChoice.required
    if tools:
        body["tools"] = wire_tools(tools)
        if must_call:
            body["tool_choice"] = "required"
    if not request.is_chat:
        body["prompt"] = plain_text(request.content or "", request.field)
    streams = not (options.prompt or (tools and options.enabled and not dialect.streams_logprobs_beside_tools))
    if streams:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    path = "/chat/completions" if request.is_chat else "/completions"
    return PreparedRequest(path, body, options, tools, must_call, streams)


def with_messages(prepared: PreparedRequest, request: Request) -> dict[str, Any]:
    """Return the body with the conversation; encoding images takes a while."""
    if not request.is_chat:
        return prepared.body
    return prepared.body | {"messages": wire_messages(request.messages, request.field)}


def _limit(request: Request, dialect: Dialect, config: OpenAIConfig) -> dict[str, Any]:
    limit = request.sampling_params.max_tokens
    if not limit:
        return {} if request.is_chat else dialect.completion_limit
    return {config.max_tokens_field if request.is_chat else "max_tokens": min(limit, _MAX_TOKENS)}


def _logprobs(request: Request, dialect: Dialect, config: OpenAIConfig) -> tuple[LogprobOptions, dict[str, Any]]:
    if request.logprobs is None:
        return LogprobOptions(), {}
    alternatives = request.logprobs.top_k or 0
    maximum = config.max_logprobs or dialect.max_logprobs
    if not request.is_chat and config.max_logprobs is None and dialect.completion_max_logprobs is not None:
        maximum = dialect.completion_max_logprobs
    if alternatives >= maximum:
        raise UnsupportedFieldError(
            "logprobs.top_k", alternatives, f"at most {maximum - 1}; config.max_logprobs can raise the limit"
        )
    # One more than the alternatives, because the sampled token may be among the most probable ones.
    count = alternatives + 1
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": count} if request.is_chat else {"logprobs": count}
    if request.logprobs.prompt:
        fields["prompt_logprobs"] = count
    return LogprobOptions(enabled=True, prompt=request.logprobs.prompt, alternatives=alternatives), fields


def _format(request: Request, dialect: Dialect, tools: Toolset) -> dict[str, Any]:
    if tools:
        allowed = "absent when tools are given: an answer in that format could not be a tool call"
        raise UnsupportedFieldError("response_format", request.response_format, allowed)
    fields = dialect.response_format(request)
    if fields is None:
        allowed = "absent in completions: this kind of server supports formats only in chats"
        raise UnsupportedFieldError("response_format", request.response_format, allowed)
    return fields
