"""Precision and recall of a shield on labelled messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.protocol import ViolationLevel
from workbench.providers.safety.hazards import HAZARDS
from workbench.providers.safety.labelled import SAFE, LabelledMessage

if TYPE_CHECKING:
    from workbench.protocol import SafetyViolation


@dataclass(frozen=True, slots=True)
class Measure:
    """Counts of one category, or of all of them. Only violations of level ``error`` count as flags."""

    category: str
    """Code of a hazard category, or ``all``."""
    messages: int
    """Messages with this label; for ``all``, all harmful ones."""
    found: int
    """How many of them the shield flagged, whatever the category that it named."""
    flags: int
    """Flags that name this category; for ``all``, all flags."""
    right_flags: int
    """How many of them are right: of messages with this label; for ``all``, of harmful messages."""

    @property
    def precision(self) -> float | None:
        """Share of right flags; None without a flag."""
        return self.right_flags / self.flags if self.flags else None

    @property
    def recall(self) -> float | None:
        """Share of the messages that were found; None without a message."""
        return self.found / self.messages if self.messages else None


def measures(messages: Sequence[LabelledMessage], violations: Sequence[SafetyViolation | None]) -> list[Measure]:
    """Return the measures of all categories together and then of each; one violation or None for each message."""
    named = [_flag(violation) for violation in violations]
    labels = [message.category for message in messages]
    pairs = list(zip(labels, named, strict=True))
    harmful = [(label, flag) for label, flag in pairs if label != SAFE]
    overall = Measure(
        "all",
        messages=len(harmful),
        found=sum(flag is not None for _, flag in harmful),
        flags=sum(flag is not None for _, flag in pairs),
        right_flags=sum(flag is not None for _, flag in harmful),
    )
    return [overall, *(_of_category(category, pairs) for category in HAZARDS)]


def _of_category(category: str, pairs: Sequence[tuple[str, str | None]]) -> Measure:
    of_label = [flag for label, flag in pairs if label == category]
    return Measure(
        category,
        messages=len(of_label),
        found=sum(flag is not None for flag in of_label),
        flags=sum(flag == category for _, flag in pairs),
        right_flags=sum(flag == category for flag in of_label),
    )


def _flag(violation: SafetyViolation | None) -> str | None:
    """Return the category that a flag names, an empty text if it names none; None if there is no flag."""
    if violation is None or violation.violation_level != ViolationLevel.error:
        return None
    return str(violation.metadata.get("category") or "")
