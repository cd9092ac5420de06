"""Models for memory providers that need no weights: words are their tokens, and texts with the same words are near."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from typing import Any

import numpy as np

from workbench.errors import InvalidRequestError, ModelNotFoundError
from workbench.records import Embeddings, TokenSpans

DIMENSIONS = 32
MAX_TOKENS = 64


class WordModels:
    """Satisfies what memory providers use of ``ModelAccess``, with the sentence model ``words`` and the other ``chat``.

    A vector is the sum of one random vector for each word, so the same on every machine.
    """

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        self.dimensions = dimensions
        self.calls: Counter[str] = Counter()
        self.embedded: list[str] = []

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        self._check(model)
        self.calls["token_spans"] += 1
        return TokenSpans(tuple(match.span() for match in re.finditer(r"\S+", text)), MAX_TOKENS)

    async def embed(self, model: str, contents: list[Any]) -> Embeddings:
        self._check(model)
        self.calls["embed"] += 1
        self.embedded += contents
        return Embeddings([vector_of(text, self.dimensions).tolist() for text in contents])

    def _check(self, model: str) -> None:
        if model == "chat":
            raise InvalidRequestError("model", model, "a sentence model")
        if model != "words":
            raise ModelNotFoundError(model, ["chat", "words"])


def vector_of(text: str, dimensions: int = DIMENSIONS) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The vector of a text, of any length; zeros for a text without words."""
    words = [zlib.crc32(word.encode()) for word in text.lower().split()]
    vectors = [np.random.default_rng(seed).standard_normal(dimensions) for seed in words]
    return np.sum(vectors, axis=0, dtype=np.float32) if vectors else np.zeros(dimensions, dtype=np.float32)
