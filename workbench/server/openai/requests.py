"""Bodies of OpenAI's requests, and the protocol's parameters that they amount to.

A field that would change the answer and cannot be honoured is refused by name; one that only tells OpenAI about the
caller is taken and has no effect.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import (
    JsonSchemaResponseFormat,
    LogProbConfig,
    ResponseFormat,
    SamplingParams,
    SamplingStrategy,
    ToolChoice,
    ToolDefinition,
)
from workbench.server.bodies import RequestModel
from workbench.server.openai.messages import OpenAIMessage
from workbench.server.openai.tools import NamedTool, OpenAITool, tool_definition

_COMPLETION_MAX_TOKENS = 16
"""OpenAI's default where a text is continued; a conversation has none."""


class StreamOptions(RequestModel):
    """What a stream tells beside its text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(RequestModel):
    """What both ways of generating have in common."""

    model: str
    temperature: float | None = 1.0
    """0 is greedy."""
    top_p: float | None = 1.0
    top_k: int | None = None
    """Not OpenAI's, but of most servers with this API; in place of ``top_p``."""
    repetition_penalty: float | None = None
    """Likewise."""
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    frequency_penalty: float | None = 0.0
    presence_penalty: float | None = 0.0
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self) -> None:
        """Raises `InvalidRequestError` for the first field that contradicts another or cannot be honoured."""
        if self.max_tokens == 0:  # which the protocol has for as many as fit
            raise InvalidRequestError("max_tokens", 0, "1 or above; absent for OpenAI's default")
        _neutral("n", self.n, 1)
        _neutral("frequency_penalty", self.frequency_penalty, 0)
        _neutral("presence_penalty", self.presence_penalty, 0)
        _neutral("logit_bias", self.logit_bias or None)
        if self.stream_options is not None and not self.stream:
            raise InvalidRequestError("stream_options", self.stream_options, "absent where stream is not true")

    def sampling_params(self, max_tokens: int | None) -> SamplingParams:
        by_top_k = bool(self.top_k)
        if by_top_k and self.top_p not in {None, 1.0}:
            raise InvalidRequestError("top_k", self.top_k, "absent where top_p is given: a strategy uses one of them")
        temperature = 1.0 if self.temperature is None else self.temperature
        strategy = SamplingStrategy.top_k if by_top_k else SamplingStrategy.top_p
        return SamplingParams(
            strategy=SamplingStrategy.greedy if temperature == 0 else strategy,
            temperature=temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k,
            max_tokens=max_tokens,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
        )


class JsonSchema(RequestModel):
    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class OpenAIResponseFormat(RequestModel):
    """How the answer has to look."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def protocol_form(self) -> ResponseFormat | None:
        if self.type == "text":
            return None
        if self.type == "json_object":
            return JsonSchemaResponseFormat(json_schema={"type": "object"})
        if self.json_schema is None:
            raise InvalidRequestError("response_format.json_schema", None, "given, because the type is json_schema")
        return JsonSchemaResponseFormat(json_schema=self.json_schema.schema_)


class ChatRequest(GenerationRequest):
    """A conversation to answer."""

    messages: list[OpenAIMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None
    tools: list[OpenAITool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = True
    response_format: OpenAIResponseFormat | None = None
    # What tells OpenAI about the caller, and changes no answer.
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def check(self) -> None:
        super().check()
        _neutral("parallel_tool_calls", self.parallel_tool_calls, True)
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequestError("max_tokens", self.max_tokens, "absent where max_completion_tokens is given")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs", self.top_logprobs, "absent where logprobs is not true")

    def sampling(self) -> SamplingParams:
        return self.sampling_params(self.max_completion_tokens or self.max_tokens)

    def logprob_config(self) -> LogProbConfig | None:
        return LogProbConfig(top_k=self.top_logprobs or 0) if self.logprobs else None

    def tool_definitions(self) -> list[ToolDefinition] | None:
        """Those that may be called."""
        if not self.tools or self.tool_choice == "none":
            return None
        tools = [tool_definition(tool, f"tools[{index}]") for index, tool in enumerate(self.tools)]
        if not isinstance(self.tool_choice, NamedTool):
            return tools
        named = [tool for tool in tools if tool.tool_name == self.tool_choice.function.name]
        if not named:
            raise InvalidRequestError("tool_choice.function.name", self.tool_choice.function.name, "one of the tools")
        return named

    def protocol_tool_choice(self) -> ToolChoice:
        must = isinstance(self.tool_choice, NamedTool) or self.tool_choice == "required"
        return ToolChoice.required if must else ToolChoice.auto


class CompletionRequest(GenerationRequest):
    """Texts to continue."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = _COMPLETION_MAX_TOKENS
    logprobs: int | None = None
    best_of: int | None = 1
    echo: bool | None = False
    suffix: str | None = None

    def check(self) -> None:
        super().check()
        _neutral("best_of", self.best_of, 1)
        _neutral("echo", self.echo, False)
        _neutral("suffix", self.suffix or None)

    def prompts(self) -> list[str]:
        texts = _texts("prompt", self.prompt)
        if self.stream and len(texts) != 1:
            raise UnsupportedFieldError("prompt", self.prompt, "one text where stream is true")
        return texts

    def sampling(self) -> SamplingParams:
        return self.sampling_params(self.max_tokens or _COMPLETION_MAX_TOKENS)

    def logprob_config(self) -> LogProbConfig | None:
        return None if self.logprobs is None else LogProbConfig(top_k=self.logprobs)


class EmbeddingsRequest(RequestModel):
    """Texts to embed."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = None
    user: str | None = None

    def check(self) -> None:
        _neutral("dimensions", self.dimensions)

    def texts(self) -> list[str]:
        return _texts("input", self.input)


def _texts(field: str, given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    texts = [given] if isinstance(given, str) else [item for item in given if isinstance(item, str)]
    if not texts and not given:
        raise InvalidRequestError(field, given, "a text, or a list of at least one")
    if not isinstance(given, str) and len(texts) != len(given):
        raise UnsupportedFieldError(field, given, "text: token ids belong to one tokenizer, and are not taken here")
    return texts


def _neutral(field: str, value: object, neutral: object = None) -> None:
    if value is not None and value != neutral:
        raise UnsupportedFieldError(field, value, "absent" if neutral is None else f"absent or {neutral}")
