"""Precision and recall are those of scikit-learn, over all messages and by category."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import precision_score, recall_score

from workbench.protocol import SafetyViolation, ViolationLevel
from workbench.providers.safety.hazards import HAZARDS
from workbench.providers.safety.labelled import SAFE, LabelledMessage
from workbench.providers.safety.measuring import measures

LABELS = [*HAZARDS, SAFE]


def violation(category: str, level: ViolationLevel = ViolationLevel.error) -> SafetyViolation:
    return SafetyViolation(violation_level=level, metadata={"category": category})


def test_they_are_scikit_learn_s() -> None:
    rng = random.Random(0)
    truth = [rng.choice(LABELS) for _ in range(500)]
    named = [label if rng.random() < 0.6 else rng.choice(LABELS) for label in truth]
    messages = [LabelledMessage("text", label) for label in truth]
    overall, *by_category = measures(messages, [None if name == SAFE else violation(name) for name in named])
    harmful, flagged = [label != SAFE for label in truth], [name != SAFE for name in named]
    assert overall.precision == pytest.approx(precision_score(harmful, flagged))
    assert overall.recall == pytest.approx(recall_score(harmful, flagged))
    assert [measure.category for measure in by_category] == list(HAZARDS)
    for measure in by_category:
        of_label = [label == measure.category for label in truth]
        named_so = [name == measure.category for name in named]
        assert measure.precision == pytest.approx(precision_score(of_label, named_so))
        assert measure.recall == pytest.approx(
            recall_score(of_label, [a and b for a, b in zip(of_label, flagged, strict=True)])
        )


def test_a_warning_is_no_flag_and_a_flag_without_a_category_counts_over_all() -> None:
    messages = [LabelledMessage("a", "S1"), LabelledMessage("b", "S1"), LabelledMessage("c", SAFE)]
    none = SafetyViolation(violation_level=ViolationLevel.error)
    overall, first, *_ = measures(messages, [violation("S1", ViolationLevel.warn), none, None])
    assert (overall.recall, overall.precision) == (0.5, 1.0)
    assert (first.found, first.recall, first.precision) == (1, 0.5, None)


def test_nothing_at_all_has_no_ratio() -> None:
    overall, *_ = measures([], [])
    assert (overall.precision, overall.recall) == (None, None)
