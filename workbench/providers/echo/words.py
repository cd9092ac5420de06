"""The echo's language: its tokens are words, and their probabilities are powers of 1/2.

At every position, the word to be echoed has probability 1/2, and its variant of rank r, the word followed by r - 1
tildes, has 2**-r: an endless vocabulary whose probabilities add up to 1, with an entropy of 2 bits.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import zlib
from collections.abc import Sequence

from workbench.protocol import SamplingParams, effective_sampling
from workbench.records import Alternative, PromptToken, TokenRecord

ENTROPY = 2 * math.log(2)
DIMENSIONS = 32
"""Length of an embedding."""

_WORD = re.compile(r"\s*\S+|\s+\Z")
_MAX_RANK = 64
"""Variants with a probability below 2**-64 are never drawn."""


def words_of(text: str) -> list[str]:
    """Split a text into tokens, each with the white space before it; joined, they are the text."""
    return _WORD.findall(text)


def token_id(word: str) -> int:
    """Return a word's id, from 0 to 2**31 - 1; the same in every process."""
    return zlib.crc32(word.encode()) & 0x7FFFFFFF


def prompt_token(word: str, *, is_control: bool = False) -> PromptToken:
    return PromptToken(token_id(word), word, word.encode(), is_control)


def token_record(
    word: str, position: int, *, rank: int = 1, alternatives: int = 0, elapsed_s: float = 0.0
) -> TokenRecord:
    """Return the record of a word's variant of ``rank``, with the ``alternatives`` most probable others."""
    others = [other for other in range(1, alternatives + 2) if other != rank][:alternatives]
    text = variant(word, rank)
    return TokenRecord(
        position=position,
        token_id=token_id(text),
        text=text,
        bytes=text.encode(),
        logprob=-rank * math.log(2),
        rank=rank,
        entropy=ENTROPY,
        alternatives=tuple(_alternative(variant(word, other), other) for other in others),
        elapsed_s=elapsed_s,
    )


def variant(word: str, rank: int) -> str:
    return word + "~" * (rank - 1)


class Dice:
    """Draws ranks according to the sampling parameters; reproducible only with a seed."""

    def __init__(self, params: SamplingParams) -> None:
        effective = effective_sampling(params)
        self._random = random.Random(params.seed)  # noqa: S311 - reproducible on purpose
        self._weights: Sequence[float] = [1.0]
        if effective.temperature > 0:
            weights = [2 ** (-rank / effective.temperature) for rank in range(_MAX_RANK)]
            count = effective.top_k or _MAX_RANK
            mass = effective.top_p * sum(weights)
            while count > 1 and sum(weights[: count - 1]) >= mass:
                count -= 1
            self._weights = weights[:count]

    def rank(self) -> int:
        return self._random.choices(range(1, len(self._weights) + 1), self._weights)[0]


def embedding(text: str) -> list[float]:
    """Return a unit vector; vectors are nearer to each other the more words their texts share."""
    totals = [0.0] * DIMENSIONS
    for word in text.split() or [""]:
        digest = hashlib.sha256(word.lower().encode()).digest()
        for index, byte in enumerate(digest[:DIMENSIONS]):
            totals[index] += byte - 127.5
    length = math.hypot(*totals)
    return [total / length for total in totals]


def _alternative(word: str, rank: int) -> Alternative:
    return Alternative(token_id(word), word, word.encode(), -rank * math.log(2), rank)
