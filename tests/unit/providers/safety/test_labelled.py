"""The labelled messages are enough, in fixed halves, and nothing of the test half is among the examples."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from workbench.providers.safety.content_guard.examples import digest, examples, stored_weights
from workbench.providers.safety.hazards import HAZARDS
from workbench.providers.safety.labelled import SAFE, labelled_messages

TRAIN, TEST = labelled_messages("train"), labelled_messages("test")


def test_there_are_at_least_150_harmless_and_150_harmful_messages_over_all_categories() -> None:
    counts = Counter(message.category for message in (*TRAIN, *TEST))
    assert counts.keys() == {*HAZARDS, SAFE}
    assert counts[SAFE] >= 150
    assert sum(counts[category] for category in HAZARDS) >= 150
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("category", [*HAZARDS, SAFE])
def test_the_test_half_of_a_label_are_the_messages_with_the_first_digests(category: str) -> None:
    of_label = [message.text for message in (*TRAIN, *TEST) if message.category == category]
    ranked = sorted(of_label, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    assert {message.text for message in TEST if message.category == category} == set(ranked[: len(ranked) // 2])


def test_no_message_is_there_twice_and_none_of_the_test_half_is_an_example() -> None:
    texts = [message.text.lower() for message in (*examples(), *TEST)]
    assert len(texts) == len(set(texts))


def test_messages_are_short_single_lines_without_space_around_them() -> None:
    assert all(message.text == message.text.strip() and len(message.text) <= 200 for message in (*examples(), *TEST))


def test_the_stored_weights_were_fitted_to_these_examples() -> None:
    assert stored_weights().digest == digest(), "run scripts/content_guard.py --write"
