"""Provider of content shields that need no model beyond a sentence model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from workbench.errors import ModelNotFoundError, ShieldError
from workbench.protocol import HealthInfo, SafetyViolation
from workbench.providers.safety.content_guard.classifier import CLASSES
from workbench.providers.safety.content_guard.scoring import Probabilities, SentenceScorer
from workbench.providers.safety.hazards import Category
from workbench.providers.safety.interface import SafetyConfig, SafetyProvider, ShieldConfig
from workbench.providers.safety.judgments import HazardParams, Threshold, WarnBand, hazard_violation, warns_from
from workbench.providers.safety.message_text import judged_text
from workbench.providers.safety.sentences import Sentence, sentences

if TYPE_CHECKING:
    from workbench.protocol import Message, Provider
    from workbench.providers.model_access import ModelAccess

DEFAULT_SHIELD = "content_guard"
THRESHOLD = 0.54
"""Threshold that the cross-validation of ``scripts/content_guard.py`` chose."""


class ContentGuardParams(HazardParams):
    """Parameters of a content shield, which judges every sentence of a message."""

    threshold: Threshold = THRESHOLD
    """Probability of all these categories together from which on a sentence is a violation of level ``error``."""
    thresholds: dict[Category, Threshold] = Field(default_factory=dict)
    """Thresholds for sentences whose most probable category is this one, instead of ``threshold``."""
    warn_band: WarnBand = 0.15
    """Width of the band below the threshold in which a sentence is a violation of level ``warn``, at most half the
    threshold; 0 for none."""


class ContentGuardConfig(SafetyConfig):
    """Settings of a content guard."""

    shields: list[ShieldConfig] = Field(default_factory=lambda: [ShieldConfig(identifier=DEFAULT_SHIELD)])
    """Shields that run from the start; one named ``content_guard`` unless others are given."""
    embedding_model: Annotated[str, Field(min_length=1)] | None = None
    """Served sentence model whose vectors are classified; None for the first one that is served."""


class ContentGuardProvider(SafetyProvider):
    """Shields that judge every sentence of a message by hazard category."""

    Config = ContentGuardConfig
    Params = ContentGuardParams
    shield_types = ("generic_content_shield", "llama_guard")

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider, models)
        self._scorers: dict[tuple[str, str], SentenceScorer] = {}

    async def judge(self, messages: Sequence[Message], params: Any) -> SafetyViolation | None:
        """Return the violation of the sentence of the last message that exceeds its threshold most."""
        parts = await asyncio.to_thread(lambda: sentences(judged_text(messages)))
        if not parts:
            return None
        probabilities = await self._scorer().probabilities([part.text for part in parts])
        return await asyncio.to_thread(_worst_violation, parts, probabilities, params)

    def forget(self) -> None:
        self._scorers.clear()

    async def health(self) -> HealthInfo:
        """Return the status ``OK``, or that no sentence model is served."""
        try:
            self._model()
        except ShieldError as error:
            return HealthInfo(status=str(error))
        return HealthInfo(status="OK")

    def _scorer(self) -> SentenceScorer:
        """Return the scorer of the sentence model, a new one if the name has come to mean another model."""
        model, source = self._model()
        return self._scorers.setdefault((model, source), SentenceScorer(self.models, model))

    def _model(self) -> tuple[str, str]:
        """Return the name of the sentence model and its source; raise `ShieldError` if it is not served."""
        try:
            name = self.config.embedding_model or self.models.default_model("embedding")
            return name, self.models.get_model(name).llama_model
        except ModelNotFoundError as error:
            raise ShieldError(f"the content guard needs a sentence model: {error}") from None


def _worst_violation(
    parts: Sequence[Sentence], probabilities: Sequence[Probabilities], params: ContentGuardParams
) -> SafetyViolation | None:
    categories = params.ordered_categories()
    judged = np.stack(probabilities)[:, [CLASSES.index(category) for category in categories]]  # (sentences, categories)
    thresholds = np.array([params.thresholds.get(category, params.threshold) for category in categories])
    least = np.array([warns_from(threshold, params.warn_band) for threshold in thresholds])
    totals, columns = judged.sum(axis=1), judged.argmax(axis=1)
    flagged = np.flatnonzero(totals >= least[columns])
    if not flagged.size:
        return None
    worst = int(flagged[(totals - thresholds[columns])[flagged].argmax()])
    part, column = parts[worst], columns[worst]
    return hazard_violation(
        categories[column],
        float(totals[worst]),
        float(thresholds[column]),
        sentence=part.text,
        start=part.start,
        end=part.end,
    )
