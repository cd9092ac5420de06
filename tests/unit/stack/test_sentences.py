"""A text divides into the same sentences however it is cut, and none of its characters is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.stack.sentences import SentenceSplitter

PROSE = st.lists(st.sampled_from(["a", "No", "3.14", " ", "  ", "\n", "\r\n", ".", "?!", '."', "…", "。", "é", "**"]))


def divided(pieces: list[str]) -> list[str]:
    splitter = SentenceSplitter()
    sentences = [sentence for piece in pieces for sentence in splitter.feed(piece)]
    rest = splitter.flush()
    assert splitter.flush() == ""
    return sentences + ([rest] if rest else [])


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("", []),
        ("No end", ["No end"]),
        ("One. Two! Three? Four", ["One.", " Two!", " Three?", " Four"]),
        ("Pi is 3.14 and e.g. this", ["Pi is 3.14 and e.g.", " this"]),
        ('He said "no." Then he left.', ['He said "no."', " Then he left."]),
        ("**Bold.** Plain.", ["**Bold.**", " Plain."]),
        ("- one\n- two\n\nend", ["- one\n", "- two\n", "\n", "end"]),
        ("Wait... what?! Yes", ["Wait...", " what?!", " Yes"]),
        ("好。不好！", ["好。", "不好！"]),
        ("file.py has no end", ["file.py has no end"]),
    ],
)
def test_sentences_end_where_a_reader_sees_an_end(text: str, sentences: list[str]) -> None:
    assert divided([text]) == sentences


@given(pieces=PROSE, data=st.data())
def test_every_way_of_cutting_a_text_gives_the_same_sentences(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    whole = divided([text])
    assert divided([text[start:end] for start, end in pairwise(cuts)]) == whole == divided([*text])
    assert "".join(whole) == text


def test_a_sentence_is_returned_with_the_first_character_that_shows_its_end() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("One.") == []
    assert splitter.feed(" ") == ["One."]
    assert splitter.feed("Two\n") == [" Two\n"]
