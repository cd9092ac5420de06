"""What the shields that judge by hazard category have in common: their parameters and their violations."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field

from workbench.protocol import SafetyViolation, ViolationLevel
from workbench.providers.safety.hazards import HAZARDS, Category
from workbench.providers.safety.interface import ShieldParams

Threshold: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""Probability from which on something is a violation of level ``error``."""

WarnBand: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""Width of the band below the threshold in which it is a violation of level ``warn``; see `warns_from`."""


class HazardParams(ShieldParams):
    """Parameters of a shield that judges by hazard category."""

    categories: Annotated[list[Category], Field(min_length=1)] = Field(default_factory=lambda: list(HAZARDS))
    """Categories to judge by; all of them unless some are given."""
    threshold: Threshold = 0.5
    """Probability of all these categories together from which on a message is a violation of level ``error``."""
    warn_band: WarnBand = 0.0
    """Width of the band below the threshold in which it is a violation of level ``warn``, at most half the threshold;
    0 for none."""

    def ordered_categories(self) -> list[Category]:
        """Return the categories in the order of the taxonomy, each once."""
        return [category for category in HAZARDS if category in self.categories]


def warns_from(threshold: float, warn_band: float) -> float:
    """Return the least probability of a violation; the band is never wider than half the threshold."""
    return threshold - min(warn_band, threshold / 2)


def level_of(probability: float, threshold: float) -> ViolationLevel:
    """Return ``error`` from the threshold on, and ``warn`` below it."""
    return ViolationLevel.error if probability >= threshold else ViolationLevel.warn


def hazard_violation(category: Category | None, probability: float, threshold: float, **found: Any) -> SafetyViolation:
    """Return a violation whose metadata has the category, the numbers, and whatever else was found.

    Args:
        category: None if the judge found the message unsafe without naming a category.
    """
    name = HAZARDS[category] if category else "Unsafe Content"
    label = f"{name} ({category})" if category else name
    return SafetyViolation(
        violation_level=level_of(probability, threshold),
        user_message=f"This message was flagged: {label}.",
        metadata={"category": category, "name": name, "probability": probability, "threshold": threshold, **found},
    )
