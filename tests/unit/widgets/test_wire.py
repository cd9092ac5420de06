"""Tokens on their way to the browser: whatever the split, the pieces are the text."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.widgets.fake_session import FakeRun, token, words
from workbench.records import TokenRecord
from workbench.widgets.wire import Pieces, RunStream, WireToken, label, wire_token

UNICODE = [
    "plain words",
    "😀👩‍👩‍👧‍👦🇫🇷",
    "한국어 こんにちは",
    "a ,b\n3 3\n",
    "",
    " leading",
    "né\u0301e",
    "\x00\x1b[31m",
]


def byte_tokens(text: str, cuts: list[int]) -> list[TokenRecord]:
    """The bytes of a text cut anywhere, also within a character."""
    data = text.encode()
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    parts = [data[a:b] for a, b in itertools.pairwise(bounds)]
    return [token(i, part.decode("utf-8", "replace"), raw=part) for i, part in enumerate(parts)]


@given(st.one_of(st.text(max_size=40), st.sampled_from(UNICODE)), st.lists(st.integers(0, 200), max_size=30))
def test_the_pieces_of_any_split_are_the_text(text: str, cuts: list[int]) -> None:
    tokens = byte_tokens(text, cuts)
    assert "".join(Pieces().take(tokens, text, final=True)) == text


@given(st.text(max_size=30), st.lists(st.integers(0, 200), max_size=20), st.lists(st.integers(0, 40), max_size=10))
def test_a_text_that_lags_behind_its_tokens_is_never_run_ahead_of(text: str, cuts: list[int], held: list[int]) -> None:
    tokens, pieces, shown = byte_tokens(text, cuts), Pieces(), ""
    for count, back in enumerate(held):
        so_far = text[: max(len(shown), len(text) - back)]
        shown += "".join(pieces.take(tokens[: max(count, 0)], so_far, final=False))
        assert so_far.startswith(shown)


def test_a_stop_string_cut_off_at_the_end_is_not_drawn() -> None:
    run = FakeRun(texts=["one", " two", " STO", "P"], text="one two")
    stream = RunStream(run)
    run.step(4)
    run.text = "one two"
    assert [wire[1] for wire in stream.delta()["tokens"]] == ["one", " two"]
    run.end()
    final = stream.snapshot()["tokens"]
    assert [wire[6] if len(wire) > 6 else wire[1] for wire in final] == ["one", " two", "", ""]


def test_half_a_character_at_the_end_is_shown_as_the_run_decodes_it() -> None:
    run = FakeRun(records=[token(0, "a"), token(1, "\ufffd", raw=b"\xf0\x9f")])
    stream = RunStream(run)
    run.step(2)
    stream.delta()
    run.step()
    assert run.text == "a\ufffd"
    assert stream.snapshot()["tokens"][1][1:2] + stream.snapshot()["tokens"][1][6:] == ["⟨F0 9F⟩", "\ufffd"]


def test_the_space_that_sentencepiece_puts_before_a_text_is_not_drawn() -> None:
    tokens = [token(0, " Hello"), token(1, " world")]
    assert Pieces().take(tokens, "Hello world", final=True) == ["Hello", " world"]


def test_special_tokens_travel_as_such_and_add_no_text() -> None:
    special = TokenRecord(1, 2, "<|im_end|>", b"<|im_end|>", -0.1, 1, 0.2, is_special=True)
    pieces = Pieces().take([token(0, "Hi"), special], "Hi", final=True)
    assert pieces == ["Hi", ""]
    assert wire_token(special, "")[5:] == [1, ""]


def test_numbers_that_nobody_knows_travel_as_null() -> None:
    unknown = TokenRecord(0, 5, "x", b"x", math.nan, 0, math.nan)
    assert wire_token(unknown, "x") == [5, "x", None, 0, None]


def test_a_token_takes_a_few_dozen_bytes() -> None:
    run = FakeRun(texts=words("the quick brown fox jumps over the lazy dog " * 20))
    run.step(200)
    assert len(str(RunStream(run).delta()["tokens"])) / 180 < 40


def test_only_bytes_that_are_no_character_are_labelled_by_their_bytes() -> None:
    assert label("\ufffd", b"\xf0\x9f") == "⟨F0 9F⟩"
    assert label("\ufffd", "\ufffd".encode()) == "\ufffd"


def test_deltas_and_snapshots_join_without_a_gap_or_an_overlap() -> None:
    run = FakeRun()
    stream = RunStream(run)
    seen: list[WireToken] = []
    for step in (3, 0, 5, 1, 40):
        run.step(step)
        delta = stream.delta()
        assert delta["at"] == len(seen)
        seen += delta["tokens"]
    assert stream.snapshot()["tokens"] == seen
    assert "".join(wire[1] for wire in seen) == run.text
