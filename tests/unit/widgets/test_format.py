"""Numbers and tokens in words."""

from __future__ import annotations

import math

import pytest

from tests.unit.widgets import twin_cases
from workbench.widgets.format import (
    divergence,
    duration,
    fixed,
    parameter_count,
    percent,
    percent_of,
    stop_words,
    to_precision,
    visible,
)


@pytest.mark.parametrize(
    "text, expected",
    [
        (" a\n", "␣a⏎"),
        ("\t\x00\x1b\x7f", "⇥␀␛␡"),
        ("\u200b", "⟨U+200B⟩"),
        ("\u202ex", "⟨U+202E⟩x"),
        ("\u200d", "⟨U+200D⟩"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("\u00a0", "⟨U+00A0⟩"),
        ("漢字 né", "漢字␣né"),
    ],
)
def test_white_space_and_control_characters_are_visible(text: str, expected: str) -> None:
    assert visible(text) == expected


@pytest.mark.parametrize(
    "probability, expected",
    [
        (1.0, "100 %"), (0.9996, "100 %"), (0.99, "99.0 %"), (0.49, "49.0 %"), (0.0881, "8.81 %"),
        (0.0034, "0.340 %"), (0.00034, "0.034 %"), (1e-9, "< 0.0001 %"), (0.0, "0.0 %"),
    ],
)  # fmt: skip
def test_probabilities_have_three_digits_that_count(probability: float, expected: str) -> None:
    assert percent(probability) == expected


def test_an_unknown_probability_is_a_dash() -> None:
    assert percent_of(math.nan) == "–"


def test_durations_counts_and_reasons() -> None:
    assert (duration(0.034), duration(1.26)) == ("34 ms", "1.3 s")
    assert (parameter_count(134_515_008), parameter_count(1_500_000_000), parameter_count(900)) == (
        "135 M",
        "1.5 B",
        "900",
    )
    assert stop_words("out_of_tokens") == "length limit"
    assert stop_words(None) is None


def test_what_lies_between_two_numbers_is_rounded_as_in_the_page() -> None:
    assert [fixed(value, 2) for value in (0.125, -0.125, -0.004)] == ["0.13", "-0.13", "0.00"]
    assert (percent(0.1225), to_precision(12.25, 3), divergence(10.5, "nats")) == ("12.3 %", "12.3", "11 nats")
    assert (duration(0.0345), duration(1.25), parameter_count(134_500_000)) == ("35 ms", "1.3 s", "135 M")


def test_the_cases_that_the_page_is_asked_are_what_python_answers() -> None:
    assert twin_cases.FILE.read_text(encoding="utf-8") == twin_cases.text(), "python -m tests.unit.widgets.twin_cases"
