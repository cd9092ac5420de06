"""Servers' answers, validated once here, so that later code meets no wrong types.

Other fields are ignored, and fields that some servers omit have defaults.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _joined(content: object) -> object:
    """Join content that is a list of text parts; return anything else unchanged."""
    if not isinstance(content, list):
        return content
    texts: list[Any] = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    is_text = len(texts) == len(content) and all(isinstance(text, str) for text in texts)
    return "".join(texts) if is_text else content


def _null_as(empty: object) -> BeforeValidator:
    """Return a validator that replaces null by ``empty``, as if the field were absent."""
    return BeforeValidator(lambda value: empty if value is None else value)


class Answer(BaseModel):
    """Base model for server responses."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Candidate(Answer):
    """A candidate token at one position."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    id: int | None = None
    """Only sent by llama.cpp."""


class TokenLogprob(Candidate):
    """The sampled token at one position, with the most probable ones."""

    top_logprobs: list[Candidate] | None = None


class Logprobs(Answer):
    """Either ``content``, as in chats, or the three lists, as in the older completions."""

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Function(Answer):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallPart(Answer):
    """A part of a tool call, or a whole one."""

    index: int | None = None
    id: str | None = None
    function: Annotated[Function, _null_as({})] = Field(default_factory=Function)


class Message(Answer):
    """The new part of an answer, or a whole one."""

    content: Annotated[str | None, BeforeValidator(_joined)] = None
    refusal: str | None = None
    tool_calls: list[CallPart] | None = None


class Choice(Answer):
    text: str | None = None
    """Only in completions."""
    delta: Message | None = None
    """Only in streamed chats."""
    message: Message | None = None
    """Only in other chats."""
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None
    """Ids of the new tokens; only sent by vLLM."""
    prompt_logprobs: list[dict[int, PromptCandidate] | None] | None = None

    @property
    def new(self) -> Message:
        return self.delta or self.message or Message(content=self.text)


class PromptCandidate(Answer):
    """A candidate token at a position of the prompt, from vLLM, which sends them by id."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


class PromptDetails(Answer):
    cached_tokens: int | None = None


class UsageCounts(Answer):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class Part(Answer):
    """One event of a stream, or a whole answer."""

    choices: Annotated[list[Choice], _null_as([])] = Field(default_factory=list)
    usage: UsageCounts | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[dict[int, PromptCandidate] | None] | None = None


class Vector(Answer):
    index: int
    embedding: list[float]


class Vectors(Answer):
    data: list[Vector]
    usage: UsageCounts | None = None


class ModelMeta(Answer):
    """Model facts from llama.cpp."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_params: int | None = None


class ServedModel(Answer):
    id: str = Field(min_length=1)
    max_model_len: int | None = None
    """Only sent by vLLM."""
    meta: ModelMeta | None = None


class Listing(Answer):
    data: list[ServedModel]
