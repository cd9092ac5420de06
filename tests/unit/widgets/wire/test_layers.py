"""What the page gets of a lens reads as what Python has."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from workbench.records import LensCell, LensColumn, LensWord
from workbench.widgets.format import percent
from workbench.widgets.wire.layers import wire_column, wire_probability, wire_words, word_label


@given(st.one_of(st.floats(0, 1), st.integers(0, 10**6).map(lambda n: n / 10**6), st.floats(0, 1e-5)))
@settings(max_examples=budget(3000))
def test_a_probability_reads_the_same_after_the_wire(probability: float) -> None:
    sent = wire_probability(probability)
    assert percent(sent) == percent(probability)
    assert abs(sent - probability) <= 5e-4 * probability


def test_most_probabilities_are_short_on_the_wire() -> None:
    sent = [wire_probability((i * 0.6180339887498949) % 1) for i in range(1000)]
    assert sum(len(str(one)) > 8 for one in sent) < 60


def test_a_column_has_the_first_word_of_each_layer_and_the_words_have_all() -> None:
    words = (LensWord(7, " yes", 0.5), LensWord(8, "\ufffd", 0.25))
    column = LensColumn(5, 8, "\ufffd", (LensCell(words, 0.25, 2), LensCell(words[::-1], 0.125, 1)))
    assert wire_column(3, column) == [3, [[7, " yes", 0.5, 0.25, 2], [8, "⟨id 8⟩", 0.25, 0.125, 1]]]
    assert wire_words(column)[0] == [[7, " yes", 0.5], [8, "⟨id 8⟩", 0.25]]
    assert word_label(LensWord(1, "a", 1.0)) == "a"
