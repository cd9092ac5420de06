"""Probabilities of the hazard categories for many sentences, through one served sentence model."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.providers.safety.content_guard.classifier import Classifier, fit, unit_vectors
from workbench.providers.safety.content_guard.examples import PROBE, examples, stored_weights
from workbench.providers.safety.sentences import normalized

if TYPE_CHECKING:
    from workbench.providers.model_access import ModelAccess

_CACHED_SENTENCES = 4096
_BATCH = 256
"""Sentences of one call of the sentence model, between which other requests get their turn."""
_SAME_MODEL = 0.999
"""Least cosine of two vectors of one text by one model, which may be computed in another precision."""

Probabilities = NDArray[np.float64]


class SentenceScorer:
    """Classifier over the vectors of one sentence model, with the results of the latest sentences.

    It may be called from several event loops at a time.

    Args:
        model: name of a served sentence model.
    """

    def __init__(self, models: ModelAccess, model: str) -> None:
        self._models = models
        self._model = model
        self._classifier: Classifier | None = None
        self._cache: OrderedDict[str, Probabilities] = OrderedDict()
        self._lock = threading.Lock()

    async def probabilities(self, sentences: Sequence[str]) -> list[Probabilities]:
        """Return the probability of each class for each sentence."""
        texts = [normalized(sentence) for sentence in sentences]
        known = self._cached(texts)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            classifier = await self._ready()
            for start in range(0, len(new), _BATCH):
                batch = new[start : start + _BATCH]
                vectors = await self._vectors(batch)
                computed = await asyncio.to_thread(lambda: [classifier.probabilities(vector) for vector in vectors])  # noqa: B023
                known.update(zip(batch, computed, strict=True))
            self._keep(known)
        return [known[text] for text in texts]

    async def _ready(self) -> Classifier:
        """Return the stored classifier if this is the model that it was fitted for, or else fit one.

        Two concurrent first calls may both fit it, with the same result.
        """
        if self._classifier is None:
            stored = stored_weights()
            (probe,) = await self._vectors([PROBE])
            if probe.shape == stored.probe.shape and float(probe @ stored.probe) > _SAME_MODEL:
                self._classifier = stored.classifier
            else:
                vectors = await self._vectors([example.text for example in examples()])
                labels = [example.category for example in examples()]
                self._classifier = await asyncio.to_thread(fit, vectors, labels)
        return self._classifier

    async def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return unit_vectors((await self._models.embed(self._model, list(texts))).vectors)

    def _cached(self, texts: Sequence[str]) -> dict[str, Probabilities]:
        with self._lock:
            known = {text: self._cache[text] for text in texts if text in self._cache}
            for text in known:
                self._cache.move_to_end(text)
        return known

    def _keep(self, known: dict[str, Probabilities]) -> None:
        with self._lock:
            self._cache.update(known)
            while len(self._cache) > _CACHED_SENTENCES:
                self._cache.popitem(last=False)
