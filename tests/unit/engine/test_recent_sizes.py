"""Buffers grow to what is needed, stay as they are for equal uses, and shrink when it was long not needed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from workbench.engine.recent_sizes import USES, RecentSizes, Size

LENGTHS = st.tuples(st.integers(1, 16), st.integers(1, 64))


def held_by(uses: list[Size]) -> list[Size]:
    """Return the size that is held during each use."""
    sizes, held, found = RecentSizes(), None, []
    for needed in uses:
        held = sizes.chosen(needed, held)
        found.append(held)
    return found


@settings(max_examples=budget(50))
@given(st.lists(LENGTHS, min_size=1, max_size=2 * USES))
def test_every_use_has_room_and_never_twice_of_what_the_last_uses_needed(uses: list[Size]) -> None:
    for index, held in enumerate(held_by(uses)):
        recent = uses[max(0, index + 1 - USES) : index + 1]
        for length, needed, largest in zip(held, uses[index], map(max, zip(*recent, strict=True)), strict=True):
            assert needed <= length <= 2 * largest


@settings(max_examples=budget(50))
@given(st.lists(LENGTHS, min_size=1, max_size=USES))
def test_uses_that_repeat_are_served_by_one_allocation(uses: list[Size]) -> None:
    largest = tuple(map(max, zip(*uses, strict=True)))
    assert set(held_by(uses * 5)[len(uses) :]) == {held_by(uses)[-1]} == {largest}


def test_one_large_use_is_forgotten_after_so_many_small_ones() -> None:
    held = held_by([(16, 64), *[(1, 4)] * USES])
    assert held[:USES] == [(16, 64)] * USES
    assert held[USES] == (1, 4)
