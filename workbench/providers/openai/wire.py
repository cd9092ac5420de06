"""What servers answer, as far as it is read: checked once here, so that nothing behind it meets a wrong type.

Fields that are not named here are passed over, and those that some servers leave out have a default.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _joined(content: object) -> object:
    """The text of content that is told as a list of texts; anything else as it is."""
    if not isinstance(content, list):
        return content
    texts: list[Any] = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    is_text = len(texts) == len(content) and all(isinstance(text, str) for text in texts)
    return "".join(texts) if is_text else content


def _null_is(empty: object) -> BeforeValidator:
    """Reads null as if the field were absent, which is then ``empty``."""
    return BeforeValidator(lambda value: empty if value is None else value)


class Answer(BaseModel):
    """What some server tells."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Candidate(Answer):
    """A token that stood at one position."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    id: int | None = None
    """llama.cpp's; nobody else tells it here."""


class TokenLogprob(Candidate):
    """The token that was sampled there, with the most probable ones."""

    top_logprobs: list[Candidate] | None = None


class Logprobs(Answer):
    """Either ``content``, as in chats, or the three lists of the older completions."""

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Function(Answer):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallPart(Answer):
    """A part of a tool call, or the whole of one."""

    index: int | None = None
    id: str | None = None
    function: Annotated[Function, _null_is({})] = Field(default_factory=Function)


class Message(Answer):
    """What is new in an answer, or the whole of it."""

    content: Annotated[str | None, BeforeValidator(_joined)] = None
    refusal: str | None = None
    tool_calls: list[CallPart] | None = None


class Choice(Answer):
    text: str | None = None
    """Of a completion."""
    delta: Message | None = None
    """Of a chat that is streamed."""
    message: Message | None = None
    """Of one that is not."""
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None
    """vLLM's, of the tokens that are new."""
    prompt_logprobs: list[dict[int, PromptCandidate] | None] | None = None

    @property
    def new(self) -> Message:
        return self.delta or self.message or Message(content=self.text)


class PromptCandidate(Answer):
    """vLLM's: a token at a position of the prompt, by its id."""

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

    choices: Annotated[list[Choice], _null_is([])] = Field(default_factory=list)
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
    """llama.cpp's."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_params: int | None = None


class ServedModel(Answer):
    id: str = Field(min_length=1)
    max_model_len: int | None = None
    """vLLM's."""
    meta: ModelMeta | None = None


class Listing(Answer):
    data: list[ServedModel]
