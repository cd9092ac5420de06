"""Log probabilities of tokens: the request, the protocol's dictionary, and an addition, the lossless list.

A logprob is the natural log of the softmax over the model's raw float32 logits: before penalties, temperature,
top-k, top-p and grammar masks.
"""

from __future__ import annotations

import math
import numbers

from pydantic import Field, field_validator

from workbench.errors import InvalidRequestError
from workbench.protocol.base import ProtocolModel
from workbench.protocol.sampling import is_count

LOGPROB_FLOOR = -9999.0
"""Substitute for minus infinity (probability 0), which JSON cannot represent."""


def _finite(logprob: object) -> object:
    return LOGPROB_FLOOR if logprob == -math.inf else logprob


class LogProbConfig(ProtocolModel):
    """Request for logprobs of the sampled token, the ``top_k`` most probable tokens, and the prompt if set.

    ``prompt`` is an addition to the protocol; it is omitted from JSON if it is not set.
    """

    top_k: int | None = 0
    """Number of alternatives to the sampled token; 0 for none. Clipped to the vocabulary."""
    prompt: bool = Field(default=False, strict=True, exclude_if=lambda prompt: not prompt)
    """Whether to return logprobs of the prompt's tokens too."""

    @field_validator("top_k", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if value is not None and not is_count(value):
            raise InvalidRequestError("top_k", value, "a whole number, 0 (the sampled token only) or above")
        return int(value) if isinstance(value, numbers.Integral) else None


class TokenLogProb(ProtocolModel):
    """One candidate token at one position, identified by its id, because several tokens may have the same text."""

    token_id: int
    text: str
    """The token decoded alone; U+FFFD stands for bytes that are not a whole character."""
    bytes: list[int]
    """The token's bytes, 0 to 255 each."""
    logprob: float
    rank: int
    """Rank in the vocabulary, 1 for the most probable token; 0 if a remote server does not report it."""
    is_sampled: bool

    _finite_logprob = field_validator("logprob", mode="before")(_finite)


class TokenLogProbs(ProtocolModel):
    """Candidate tokens at one position of the text.

    ``tokens`` is an addition to the protocol; it is omitted from JSON if it is empty.
    """

    logprobs_by_token: dict[str, float]
    """Logprobs by token text, always including the sampled token. Of two tokens with the same text, the more probable
    one is listed."""
    tokens: list[TokenLogProb] = Field(default_factory=list, exclude_if=lambda tokens: not tokens)
    """All candidates, best first, including the sampled token."""

    @field_validator("logprobs_by_token", mode="before")
    @classmethod
    def _finite_logprobs(cls, logprobs: object) -> object:
        return {text: _finite(value) for text, value in logprobs.items()} if isinstance(logprobs, dict) else logprobs
