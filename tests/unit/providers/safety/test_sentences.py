"""A text is divided into sentences completely, and into parts that a sentence model reads to their end."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.providers.safety.sentences import MAX_BYTES, normalized, packed_sentences, sentences

TEXTS = st.text(st.sampled_from("ab.!? \n\"'…。é猫\ufdfa\u200b\x00😀")) | st.text(max_size=2000)


def visible(text: str) -> str:
    return "".join(text.split())


@given(TEXTS)
def test_no_visible_character_is_lost_or_doubled(text: str) -> None:
    for parts in (sentences(text), packed_sentences(text)):
        assert "".join(visible(part.text) for part in parts) == visible(text)


@given(TEXTS)
def test_a_sentence_stands_where_it_says_in_order_and_is_not_empty(text: str) -> None:
    for parts in (sentences(text), packed_sentences(text)):
        assert all(text[part.start : part.end] == part.text == part.text.strip() != "" for part in parts)
        assert all(before.end <= after.start for before, after in pairwise(parts))


@given(TEXTS | st.integers(1, 3000).map("a".__mul__) | st.integers(1, 300).map("\ufdfa ".__mul__))
def test_no_sentence_has_more_bytes_than_the_limit_as_it_is_or_normalized(text: str) -> None:
    for part in sentences(text) + packed_sentences(text):
        assert max(len(part.text.encode()), len(unicodedata.normalize("NFKC", part.text).encode())) <= MAX_BYTES


@pytest.mark.parametrize(
    "text,expected",
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("a list:\n- one\n- two", ["a list:", "- one", "- two"]),
        ("Version 3.5 is out", ["Version 3.5 is out"]),
        ("猫です。犬です。", ["猫です。", "犬です。"]),
        ("  \n\t ", []),
        ("", []),
    ],
)
def test_sentences_end_at_punctuation_before_white_space_and_at_line_breaks(text: str, expected: list[str]) -> None:
    assert [part.text for part in sentences(text)] == expected


def test_a_long_sentence_is_cut_at_white_space() -> None:
    parts = sentences("word " * 100)
    assert len(parts) == 3
    assert {word for part in parts for word in part.text.split()} == {"word"}


def test_sentences_are_packed_as_long_as_they_fit() -> None:
    parts = packed_sentences("Short one. " * 30)
    assert [part.text.count("one.") for part in parts] == [21, 9]


def test_invisible_characters_and_other_forms_of_letters_are_normalized() -> None:
    assert normalized("b\u200bo\u00admb ｂｏｍｂ") == "bomb bomb"
