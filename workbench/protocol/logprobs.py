"""Log-probabilities of tokens: what to ask for, the protocol's dictionary, and the lossless list beside it.

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
"""Stands for minus infinity (probability 0), which JSON cannot hold."""


def _finite(logprob: object) -> object:
    return LOGPROB_FLOOR if logprob == -math.inf else logprob


class LogProbConfig(ProtocolModel):
    """Asks for logprobs: of the sampled token, of the ``top_k`` most probable others, and of the prompt if wanted.

    ``prompt`` is an addition, and is left out when a request is written without it.
    """

    top_k: int | None = 0
    """Alternatives beside the sampled token; 0 for the sampled token alone; clipped to the vocabulary."""
    prompt: bool = Field(default=False, strict=True, exclude_if=lambda prompt: not prompt)
    """Logprobs of the prompt's tokens as well."""

    @field_validator("top_k", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if value is not None and not is_count(value):
            raise InvalidRequestError("top_k", value, "a whole number, 0 (the sampled token alone) or above")
        return int(value) if isinstance(value, numbers.Integral) else None


class TokenLogProb(ProtocolModel):
    """One candidate of one position, by its id: nothing is lost where two tokens have the same text."""

    token_id: int
    text: str
    """The token decoded alone; U+FFFD stands for bytes that are no whole character."""
    bytes: list[int]
    """The token's bytes, 0 to 255 each."""
    logprob: float
    rank: int
    """1 is the most probable token of the vocabulary; 0 where a remote server does not tell."""
    is_sampled: bool

    _finite_logprob = field_validator("logprob", mode="before")(_finite)


class TokenLogProbs(ProtocolModel):
    """The candidates of one position of the text.

    ``tokens`` is an addition, and is left out where it is empty.
    """

    logprobs_by_token: dict[str, float]
    """By the token's text. The sampled token is always there; of two tokens with one text the likelier keeps it."""
    tokens: list[TokenLogProb] = Field(default_factory=list, exclude_if=lambda tokens: not tokens)
    """Every candidate, best first; exactly one of them is the sampled token."""

    @field_validator("logprobs_by_token", mode="before")
    @classmethod
    def _finite_logprobs(cls, logprobs: object) -> object:
        return {text: _finite(value) for text, value in logprobs.items()} if isinstance(logprobs, dict) else logprobs
