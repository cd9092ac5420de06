"""Bodies of OpenAI's requests, and their conversion to the protocol's parameters.

An unsupported field that would change the answer is refused by name; one that only describes the caller is accepted
and has no effect. The table in `docs/serving.md` is generated from the fields here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.prompts.tools.definitions import Toolset
from workbench.protocol import (
    JsonSchemaResponseFormat,
    LogProbConfig,
    ResponseFormat,
    SamplingParams,
    SamplingStrategy,
    ToolChoice,
    ToolDefinition,
)
from workbench.protocol.sampling import MAX_SEED
from workbench.sampling_stages import SAMPLING_STAGES
from workbench.server.openai.fields import NoEffect, OpenAIModel, OpenAIRequest, Refused
from workbench.server.openai.messages import OpenAIMessage
from workbench.server.openai.tools import AllowedTools, NamedTool, OpenAITool, callable_names, tool_definition

_COMPLETION_MAX_TOKENS = 16
"""OpenAI's default for completions; chats have none."""


class StreamOptions(OpenAIModel):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(OpenAIRequest):
    """Fields that chat and completion requests share."""

    model: str
    """The name of a served model."""
    temperature: float | None = 1.0
    """Divisor of the logits; 0 is greedy, null is 1."""
    top_p: float | None = 1.0
    """Probability mass to sample from; 0 is greedy, null is 1."""
    top_k: int | None = None
    """Number of tokens to sample from, instead of `top_p`; 0 is off. An extension of most servers with this API."""
    repetition_penalty: float | None = None
    """Penalty for repeated tokens, above 0; 1 is off. An extension."""
    min_p: float | None = None
    """Lowest probability relative to the most probable token, from 0 (off) to 1. An extension."""
    seed: Annotated[int | None, Field(ge=-MAX_SEED - 1, le=MAX_SEED)] = None
    """Random seed: the same seed gives the same answer. A negative seed counts from the end of the protocol's range: -1
    is the seed 2<sup>63</sup> - 1."""
    stop: str | list[str] | None = None
    """One stop string or up to 16, of 1 to 256 characters each; null and an empty list are none."""
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    """Maximum number of tokens, 1 or above. The default is as many as fit for a chat, and 16 for a completion."""
    stream: bool | None = False
    """Whether to stream the answer as server-sent events."""
    stream_options: StreamOptions | None = None
    """`include_usage` adds the token counts as a last event; `include_obfuscation` has no effect. Only if `stream` is
    true."""
    n: Annotated[int | None, Field(ge=1), Refused(1)] = 1
    frequency_penalty: float | None = 0.0
    """Penalty per occurrence of a token in the answer, without the prompt, from -2 to 2."""
    presence_penalty: float | None = 0.0
    """Penalty for any occurrence of a token in the answer, without the prompt, from -2 to 2."""
    logit_bias: dict[str, float] | None = None
    """Numbers from -100 to 100 that are added to logits, by token id; at most 300."""
    user: Annotated[str | None, NoEffect()] = None

    def names(self) -> Mapping[str, str]:
        strategy = "top_k" if self.top_k else "temperature"
        return {r"sampling_params\.strategy": strategy, r"sampling_params\.": ""}

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self) -> None:
        """Raise `InvalidRequestError` for the first field that contradicts another or cannot be honoured."""
        super().check()
        if self.stream_options is not None and not self.stream:
            raise InvalidRequestError("stream_options", self.stream_options, "absent unless stream is true")

    def sampling_params(self, max_tokens: int | None) -> SamplingParams:
        by_top_k = bool(self.top_k)
        if by_top_k and self.top_p not in {None, 1.0}:
            raise InvalidRequestError("top_k", self.top_k, "absent if top_p is given: a strategy uses only one of them")
        is_greedy = self.temperature == 0 or self.top_p == 0
        strategy = SamplingStrategy.top_k if by_top_k else SamplingStrategy.top_p
        return SamplingParams(
            strategy=SamplingStrategy.greedy if is_greedy else strategy,
            temperature=0.0 if is_greedy else 1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k,
            max_tokens=max_tokens,
            **{stage.field: getattr(self, stage.field) for stage in SAMPLING_STAGES if stage.is_ability},
            seed=None if self.seed is None else self.seed % (MAX_SEED + 1),
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
        )


class JsonSchema(OpenAIModel):
    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class OpenAIResponseFormat(OpenAIModel):
    """Format of the answer."""

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
    """Request to answer a conversation."""

    messages: list[OpenAIMessage]
    """Messages of every role except the old `function`, with texts or parts. `name` and `detail` have no effect: chat
    templates do not use them, and `tool_call_id` links a result to its call. Audio and files are refused."""
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    """Newer name of `max_tokens`; give only one of them."""
    logprobs: bool | None = False
    """Whether to return the logprob of each token of the answer."""
    top_logprobs: Annotated[int | None, Field(ge=0)] = None
    """Number of most probable tokens to return, 0 to 100, if the server and the model's provider allow as many; above 0
    only if `logprobs` is true."""
    tools: list[OpenAITool] | None = None
    """Functions; tools of the type `custom` are refused."""
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    """`none`, `auto`, `required`, a named function, or `allowed_tools`."""
    parallel_tool_calls: bool | None = True
    """If false, the answer ends with its first call."""
    response_format: OpenAIResponseFormat | None = None
    """`text`, `json_object` or `json_schema`; enforced during generation, whether `strict` or not."""
    metadata: Annotated[dict[str, str] | None, NoEffect()] = None
    store: Annotated[bool | None, NoEffect()] = None
    service_tier: Annotated[str | None, NoEffect()] = None
    safety_identifier: Annotated[str | None, NoEffect()] = None
    prediction: Annotated[dict[str, Any] | None, NoEffect()] = None
    prompt_cache_key: Annotated[str | None, NoEffect()] = None
    prompt_cache_options: Annotated[dict[str, Any] | None, NoEffect()] = None
    prompt_cache_retention: Annotated[str | None, NoEffect()] = None
    audio: Annotated[Any, Refused()] = None
    function_call: Annotated[Any, Refused()] = None
    functions: Annotated[Any, Refused()] = None
    modalities: Annotated[list[str] | None, Refused(["text"])] = None
    moderation: Annotated[Any, Refused()] = None
    reasoning_effort: Annotated[str | None, Refused()] = None
    verbosity: Annotated[str | None, Refused("medium")] = None
    web_search_options: Annotated[Any, Refused()] = None

    def check(self) -> None:
        super().check()
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequestError("max_tokens", self.max_tokens, "absent if max_completion_tokens is given")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs", self.top_logprobs, "absent unless logprobs is true")

    def sampling(self) -> SamplingParams:
        return self.sampling_params(self.max_completion_tokens or self.max_tokens)

    def logprob_config(self) -> LogProbConfig | None:
        return LogProbConfig(top_k=self.top_logprobs or 0) if self.logprobs else None

    def names(self) -> Mapping[str, str]:
        length = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return {
            r"sampling_params\.max_tokens": length,
            **super().names(),
            r"logprobs\.top_k": "top_logprobs",
            r"(tools\[\d+\])\.(parameters|description)": r"\1.function.\2",
            r"(tools\[\d+\])\.tool_name": r"\1.function.name",
            r"(messages\[\d+\]\.tool_calls\[\d+\])\.arguments": r"\1.function.arguments",
        }

    @property
    def has_one_call(self) -> bool:
        """Whether the answer ends with its first call."""
        return bool(self.tools) and self.parallel_tool_calls is False

    def tool_definitions(self) -> list[ToolDefinition] | None:
        """Return the tools that may be called; None if there are none."""
        if not self.tools or self.tool_choice == "none":
            return None
        tools = [tool_definition(tool, f"tools[{index}]") for index, tool in enumerate(self.tools)]
        if not isinstance(self.tool_choice, NamedTool | AllowedTools):
            return tools
        Toolset.of(tools)  # before the selection, so that errors have the index in the request
        names = callable_names(self.tool_choice, {str(tool.tool_name) for tool in tools})
        return [tool for tool in tools if tool.tool_name in names]

    def protocol_tool_choice(self) -> ToolChoice:
        match self.tool_choice:
            case "required" | NamedTool():
                return ToolChoice.required
            case AllowedTools(allowed_tools=allowed):
                return ToolChoice(allowed.mode)
        return ToolChoice.auto


class CompletionRequest(GenerationRequest):
    """Request to continue texts."""

    prompt: str | list[str] | list[int] | list[list[int]]
    """A text, or a list of texts if `stream` is not true; token ids are refused."""
    logprobs: Annotated[int | None, Field(ge=0)] = None
    """Number of most probable tokens to return besides the sampled one: 0 returns only that one, null none. A streamed
    token comes with the text that it is part of; `text_offset` counts characters of the whole text."""
    best_of: Annotated[int | None, Field(ge=1), Refused(1)] = 1
    echo: Annotated[bool | None, Refused(False)] = False
    suffix: Annotated[str | None, Refused("")] = None

    def names(self) -> Mapping[str, str]:
        return {**super().names(), r"logprobs\.top_k": "logprobs", r"content(_batch)?\b": "prompt"}

    def prompts(self) -> list[str]:
        texts = _texts("prompt", self.prompt)
        if self.stream and len(texts) != 1:
            raise UnsupportedFieldError("prompt", self.prompt, "one text if stream is true")
        return texts

    def sampling(self) -> SamplingParams:
        return self.sampling_params(self.max_tokens or _COMPLETION_MAX_TOKENS)

    def logprob_config(self) -> LogProbConfig | None:
        return None if self.logprobs is None else LogProbConfig(top_k=self.logprobs)


class EmbeddingsRequest(OpenAIRequest):
    """Request to embed texts."""

    model: str
    """The name of a served embedding model."""
    input: str | list[str] | list[int] | list[list[int]]
    """A text, or a list of at least one text; token ids are refused."""
    encoding_format: Literal["float", "base64"] | None = "float"
    """`base64` encodes little-endian float32."""
    dimensions: Annotated[int | None, Refused()] = None
    user: Annotated[str | None, NoEffect()] = None

    def names(self) -> Mapping[str, str]:
        return {r"contents(\[0\])?$" if isinstance(self.input, str) else r"contents\b": "input"}

    def texts(self) -> list[str]:
        return _texts("input", self.input)


def _texts(field: str, value: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    texts = [value] if isinstance(value, str) else [item for item in value if isinstance(item, str)]
    if not texts and not value:
        raise InvalidRequestError(field, value, "a text, or a list of at least one text")
    if not isinstance(value, str) and len(texts) != len(value):
        raise UnsupportedFieldError(field, value, "text: token ids are not supported")
    return texts
