"""Served models for shields: vectors that a test can compute by hand, and guard models that give scripted answers."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.errors import ModelNotFoundError
from workbench.protocol import Message, ModelDef
from workbench.providers.capabilities import Capabilities
from workbench.providers.safety.content_guard.classifier import CLASSES, Classifier
from workbench.providers.safety.content_guard.examples import PROBE, StoredWeights
from workbench.records import Alternative, Embeddings, Emission, Score, TokenRecord

if TYPE_CHECKING:
    from workbench.providers.model_access import ModelAccess

WORDS = {"kill": "S1", "steal": "S2", "bomb": "S9", "vermin": "S10"}
"""Words with an axis of their own; all others point to harmless text."""

SHARPNESS = 4.0
"""Weight of each axis in the classifier below: one word alone has the probability e^4 / (e^4 + 13) = 0.81."""


def token(text: str, logprob: float = 0.0, alternatives: Mapping[str, float] | None = None) -> TokenRecord:
    """A token whose id is made of its text, with the probabilities of others."""
    others = tuple(
        Alternative(id_of(other), other, other.encode(), math.log(probability), 2)
        for other, probability in (alternatives or {}).items()
    )
    return TokenRecord(0, id_of(text), text, text.encode(), logprob, 1, 0.0, others)


def id_of(text: str) -> int:
    return int.from_bytes(text.encode()[:6], "big")


class WordVectors:
    """A sentence model with one axis for each class: a vector is the mean of its words' axes."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.served = True

    def get_model(self, identifier: str) -> ModelDef:
        if not self.served:
            raise ModelNotFoundError(identifier, [])
        return ModelDef(identifier=identifier, llama_model="word-vectors")

    def default_model(self, kind: str) -> str:
        assert kind == "embedding"
        if not self.served:
            raise ModelNotFoundError("(any embedding model)", [])
        return "words"

    async def embed(self, model: str, contents: list[Any]) -> Embeddings:
        self.calls.append(list(contents))
        return Embeddings([vector(text) for text in contents])


def vector(text: str) -> list[float]:
    axes = [CLASSES.index(WORDS.get(word.strip(".,!?").lower(), "safe")) for word in text.split()]
    return [axes.count(index) / max(1, len(axes)) for index in range(len(CLASSES))]


def word_weights() -> StoredWeights:
    """Stored weights for `WordVectors`: every axis is the evidence for its class."""
    weights = np.eye(len(CLASSES), dtype=np.float32) * SHARPNESS
    probe = np.array(vector(PROBE), dtype=np.float32)
    return StoredWeights(Classifier(weights, np.zeros(len(CLASSES), dtype=np.float32)), probe, "")


class GuardModel:
    """A guard model with given probabilities of whole answers, or a given answer.

    Args:
        masses: probability of each continuation that may be scored; others are 1e-9. The tokens of a score are its
            characters.
        answer: tokens of the answer that is generated.
    """

    def __init__(
        self, masses: Mapping[str, float] | None = None, answer: Sequence[TokenRecord] = (), *, logprobs: bool = False
    ) -> None:
        self._masses, self._answer = masses, answer
        self._capabilities = Capabilities(score=masses is not None, logprobs=logprobs, max_top_k=5)
        self.asked: list[list[Message]] = []
        self.requests: list[Any] = []

    def get_model(self, identifier: str) -> ModelDef:
        if identifier != "guard":
            raise ModelNotFoundError(identifier, ["guard"])
        return ModelDef(identifier=identifier, llama_model=identifier)

    def capabilities_of(self, model: str) -> Capabilities:
        self.get_model(model)
        return self._capabilities

    async def score(self, model: str, prompt: Any, continuations: list[str], alternatives: int = 0) -> list[Score]:
        assert self._masses is not None
        self.asked.append(prompt)
        return [self._score(text, self._masses.get(text, 1e-9)) for text in continuations]

    def _score(self, text: str, mass: float) -> Score:
        tokens = [token(character) for character in text]
        return Score(text, (*tokens[:-1], token(text[-1], math.log(mass))))

    def stream(self, request: Any) -> AsyncIterator[Emission]:
        self.requests.append(request)
        return self._emissions()

    async def _emissions(self) -> AsyncIterator[Emission]:
        for record in self._answer:
            yield Emission(record.text, (record,))


def access(models: object) -> ModelAccess:
    return cast("ModelAccess", models)


def configured(provider_type: str, **config: Any) -> Any:
    return SimpleNamespace(provider_id="guard", provider_type=provider_type, config=config)
