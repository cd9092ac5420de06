"""A stop string ends the text at its earliest completion, and none of its characters is ever safe to show."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from workbench.stopping import StopMatch, StopMatcher

ALPHABET = "abc "
TEXTS = st.text(alphabet=ALPHABET, max_size=24)
STOPS = st.lists(st.text(alphabet=ALPHABET, min_size=1, max_size=5), max_size=16)


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the text ends, by trying every occurrence of every stop string."""
    found = [(start + len(stop), start) for stop in stops for start in range(len(text)) if text.startswith(stop, start)]
    return min(found)[1] if found else None


def pieces_of(text: str, cuts: Sequence[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def feed_all(stops: Sequence[str], pieces: Sequence[str]) -> tuple[StopMatch | None, StopMatcher, int]:
    """The match, and how much of the text was safe before it."""
    matcher = StopMatcher(stops)
    safe = 0
    for piece in pieces:
        if match := matcher.feed(piece):
            return match, matcher, safe
        assert matcher.safe >= safe, "what was safe once stays so"
        safe = matcher.safe
    return None, matcher, safe


@settings(max_examples=budget(400))
@given(text=TEXTS, stops=STOPS, cuts=st.lists(st.integers(0, 100), max_size=12))
def test_any_split_finds_what_looking_everywhere_finds(text: str, stops: list[str], cuts: list[int]) -> None:
    match, _, safe = feed_all(stops, pieces_of(text, cuts))
    expected = first_stop(text, stops)
    assert (match.start if match else None) == expected
    assert safe <= (len(text) if expected is None else expected)
    if match:
        assert text.startswith(match.stop, match.start)


@settings(max_examples=budget(200))
@given(text=TEXTS, stops=STOPS)
def test_no_more_is_held_back_than_could_become_a_stop_string(text: str, stops: list[str]) -> None:
    match, matcher, _ = feed_all(stops, list(text))
    if match is None:
        held = text[matcher.safe :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)
        longer = text[max(0, matcher.safe - 1) :]
        assert longer == held or not any(stop.startswith(longer) for stop in stops)


def test_of_two_stops_completed_by_one_character_the_longer_wins() -> None:
    match, _, _ = feed_all(["c", "abc"], ["xxab", "c"])
    assert match == StopMatch(2, "abc")


def test_a_stop_that_begins_another_is_completed_first() -> None:
    match, _, _ = feed_all(["ab", "abab"], ["xabab"])
    assert match == StopMatch(1, "ab")


def test_a_near_miss_is_released() -> None:
    matcher = StopMatcher(["</end>"])
    assert (matcher.feed("text </en"), matcher.safe) == (None, 5)
    assert (matcher.feed("tity"), matcher.safe) == (None, 13)


def test_without_stop_strings_everything_is_safe_at_once() -> None:
    matcher = StopMatcher([])
    assert (matcher.feed("abc"), matcher.safe) == (None, 3)


def test_sixteen_long_stop_strings_are_found_far_into_a_long_text() -> None:
    stops = [chr(ord("a") + index) * 255 + "!" for index in range(16)]
    text = "".join(stop[:-1] + "?" for stop in stops) + stops[7]
    match, _, _ = feed_all(stops, [text[at : at + 3] for at in range(0, len(text), 3)])
    assert match == StopMatch(16 * 256, stops[7])


@pytest.mark.parametrize("stop", ["\n\n", "🇫🇷", "e\u0301"])
def test_stops_of_any_characters_are_found(stop: str) -> None:
    match, _, _ = feed_all([stop], [*f"before{stop}after"])
    assert match == StopMatch(6, stop)
