"""Tokens on their way to the browser: whatever the split, the pieces are the text."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.models import FakeDecoder, answering
from tests.fakes.serving import FakeModels
from tests.unit.widgets.fake_session import FakeRun, token, words
from workbench import Workbench
from workbench.protocol import UserMessage
from workbench.records import CallAttempt, TokenRecord
from workbench.widgets.wire.run import Pieces, RunStream, WireToken, label, prompt_pieces, wire_token

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


@given(st.text(min_size=1, max_size=40), st.lists(st.integers(0, 200), max_size=20), st.booleans())
def test_the_pieces_of_a_measured_prompt_are_the_prompt(text: str, cuts: list[int], has_beginning: bool) -> None:
    run = FakeRun(prompt=text)
    tokens = byte_tokens(text, cuts)
    run.prompt_tokens = tokens if has_beginning else tokens[1:]  # a token that begins every text is measured by none
    if run.prompt_tokens:
        assert "".join(piece for _, piece in prompt_pieces(run)) == text
    run.prompt = [UserMessage(content=text)]
    assert prompt_pieces(run) == []


def test_a_stop_string_cut_off_at_the_end_is_not_drawn() -> None:
    run = FakeRun(texts=["one", " two", " STO", "P"], text="one two")
    stream = RunStream(run)
    run.step(4)
    run.text = "one two"
    assert [wire[1] for wire in stream.delta()["news"][3]] == ["one", " two"]
    run.finish()
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
    assert len(str(RunStream(run).delta()["news"][3])) / 180 < 40


def test_only_bytes_that_are_no_character_are_labelled_by_their_bytes() -> None:
    assert label("\ufffd", b"\xf0\x9f") == "⟨F0 9F⟩"
    assert label("\ufffd", "\ufffd".encode()) == "\ufffd"


def test_deltas_and_snapshots_join_without_a_gap_or_an_overlap() -> None:
    run = FakeRun()
    stream = RunStream(run)
    seen: list[WireToken] = []
    for step in (3, 0, 5, 1, 40):
        run.step(step)
        delta = stream.delta()["news"]
        assert delta[2] == len(seen)
        seen += delta[3]
    assert stream.snapshot()["tokens"] == seen
    assert "".join(wire[1] for wire in seen) == run.text


# ------------------------------------------------------------------------------------------- calls among the text

CALL = '{"type": "function", "name": "get_weather", "parameters": {"location": "Rome"}}'


def get_weather(location: str) -> str:
    """Tell the weather.

    Args:
        location: the city.
    """
    return location


@given(st.lists(st.integers(0, 200), max_size=30), st.sampled_from(["{", "to", "é😀", "</"]), st.booleans())
def test_text_before_between_and_after_calls_stays_where_it_was_written(
    cuts: list[int], after: str, is_broken: bool
) -> None:
    call = CallAttempt("failure" if is_broken else "success", "<tool_call>{a}")
    parts: list[str | CallAttempt] = ["Let", " me ", call, "and", call, after]
    tokens = byte_tokens(f"Let me <tool_call>{{a}}</tool_call>and<tool_call>{{a}}</tool_call>\n{after}", cuts)
    text = "".join(part if isinstance(part, str) else part.text * is_broken for part in parts)
    pieces = Pieces().take(tokens, text, final=True, parts=parts)
    assert "".join(pieces) == text
    assert all(set(piece) - set("é😀") <= set(token.text) for token, piece in zip(tokens, pieces, strict=True))


def test_a_token_of_a_run_with_calls_adds_what_it_says_or_nothing(fake_models: FakeModels) -> None:
    broken = CALL.replace('"Rome"', "5")
    said = f"So: {CALL}\n{broken} and {CALL} - done"
    fake_models.add("chat", FakeDecoder(answering(said)))
    with Workbench(fake_models.config) as bench:
        run = bench.chat_completion([UserMessage(content="How is Rome?")], tools=[get_weather])
        live = RunStream(run)
        while not run.wait(0.005):
            live.delta()
        _, _, at, told, _ = live.delta()["news"]  # of the last tokens, as while it went on
    drawn = [wire[6] if len(wire) > 6 else wire[1] for wire in live.snapshot()["tokens"]]
    assert "".join(drawn) == run.text == f"So: {broken} and  - done"
    assert all(piece in ("", token.text) for piece, token in zip(drawn, run.tokens, strict=True))
    assert at + len(told) == len(run.tokens)
    assert [index for index, piece in enumerate(drawn) if piece][:5] == [0, 1, 2, 3, len(f"So: {CALL}\n")]


def test_tokens_of_a_call_travel_while_it_is_written() -> None:
    tokens = byte_tokens("So <a>{1", [2, 3, 5, 6, 7])
    parts: list[str | CallAttempt] = ["So", " ", CallAttempt("in_progress", "<a>{1")]
    pieces = Pieces()
    assert pieces.take(tokens[:2], "So ", final=False) == ["So", " "]
    assert pieces.take(tokens, "So ", final=False, parts=parts) == ["", "", "", ""]
