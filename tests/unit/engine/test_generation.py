"""One request from chosen tokens to released steps: what is shown is the answer, whole and never more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.listening import Heard
from tests.fakes.models import EOS, IM_END, byte_tokenizer
from tests.unit.test_stopping import first_stop
from workbench.engine.detokenizer import REPLACEMENT, Vocabulary
from workbench.engine.generation import Generation
from workbench.engine.logprobs import TokenStats
from workbench.engine.requests import Finished, GenerationRequest, Handle
from workbench.errors import NumericalError

VOCABULARY = Vocabulary(byte_tokenizer().backend_tokenizer)


class ChunkVocabulary(Vocabulary):
    """Token i is the i-th chunk of bytes: any split of any text into tokens."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        super().__init__(byte_tokenizer().backend_tokenizer)
        self._chunks = chunks
        self.special_ids = frozenset()

    def bytes(self, token_id: int) -> bytes:
        return self._chunks[token_id]


def stats_of(token_id: int) -> TokenStats:
    return TokenStats(token_id, -0.5, 1, 0.1, ())


def run(
    token_ids: Sequence[int], *, vocabulary: Vocabulary = VOCABULARY, prompt: tuple[int, ...] = (65,), **asked: Any
) -> tuple[Heard, list[int]]:
    """Feed tokens until the run ends; also the number of steps that were out after each token."""
    heard, out = Heard(), []
    generation = Generation(
        Handle(GenerationRequest(prompt_ids=prompt, **asked)),
        heard,
        vocabulary=vocabulary,
        stop_ids=frozenset({EOS, IM_END}),
        context_length=1000,
    )
    for token_id in token_ids:
        if generation.ended:
            break
        generation.accept(stats_of(token_id))
        out.append(len(heard.steps))
    if not generation.ended:
        generation.finish("length")
    return heard, out


def ending(heard: Heard) -> tuple[str, TokenStats | None]:
    """Why it ended, and the stats of the end token."""
    finished = heard.finished
    return finished.reason, None if finished.end is None else finished.end.stats


CHARACTERS = st.text(alphabet="ab é😀\n", max_size=14)
STOPS = st.lists(st.text(alphabet="ab é😀\n", min_size=1, max_size=4), max_size=16)


def chunks_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@settings(max_examples=budget(400))
@given(text=CHARACTERS, tail=st.binary(max_size=3), stops=STOPS, cuts=st.lists(st.integers(0, 1000), max_size=20))
def test_streamed_text_is_the_whole_text_up_to_the_first_stop(
    text: str, tail: bytes, stops: list[str], cuts: list[int]
) -> None:
    chunks = chunks_of(text.encode() + tail, cuts)
    heard, _ = run(range(len(chunks)), vocabulary=ChunkVocabulary(chunks), stop_strings=tuple(stops), max_tokens=900)
    whole = b"".join(chunks).decode("utf-8", "replace")
    end = first_stop(whole, stops)
    assert heard.text == whole[:end]
    assert heard.finished.reason == ("length" if end is None else "stop_string")
    # Every token has its step, but for those wholly inside the stop string.
    assert heard.ids == list(range(len(heard.ids)))
    if end is None:
        assert len(heard.ids) == len(chunks)


@settings(max_examples=budget(200))
@given(text=CHARACTERS, stops=STOPS, cuts=st.lists(st.integers(0, 1000), max_size=20))
def test_nothing_of_a_stop_string_is_shown_and_nothing_else_waits(text: str, stops: list[str], cuts: list[int]) -> None:
    chunks = chunks_of(text.encode(), cuts)
    heard, out = run(range(len(chunks)), vocabulary=ChunkVocabulary(chunks), stop_strings=tuple(stops), max_tokens=900)
    assume(heard.finished.reason == "length")
    for fed, shown in enumerate(out, start=1):
        so_far = b"".join(chunks[:fed]).decode("utf-8", "ignore")
        held = so_far[len("".join(step.text for step in heard.steps[:shown])) :]
        # What is held begins inside the step at whose end a stop string may have begun.
        last = heard.steps[shown].text if shown < len(heard.steps) else ""
        begins = [held[at:] for at in range(min(len(last), len(held)) + 1)]
        assert any(not rest or any(stop.startswith(rest) for stop in stops) for rest in begins)


def test_a_stop_split_over_five_tokens_shows_none_of_them() -> None:
    heard, _ = run(list(b"yes<END>no"), stop_strings=("<END>",))
    assert (heard.text, heard.ids) == ("yes", list(b"yes"))
    assert heard.finished == Finished("stop_string")


def test_a_stop_inside_a_token_keeps_what_stands_before_it() -> None:
    heard, _ = run([0, 1], vocabulary=ChunkVocabulary([b"one", b" two. three"]), stop_strings=(".",))
    assert [step.text for step in heard.steps] == ["one", " two"]


def test_a_stop_string_in_the_prompt_alone_stops_nothing() -> None:
    heard, _ = run(list(b"END of"), prompt=tuple(b"STOP ST"), stop_strings=("STOP", "STEND"))
    assert heard.text == "END of"


def test_a_stop_completed_by_the_flushed_rest_ends_the_text_before_it() -> None:
    heard, _ = run([*b"ab", 0xF0, 0x9F], stop_strings=("b" + REPLACEMENT,))
    assert heard.text == "a"
    assert heard.finished.reason == "stop_string"


def test_a_run_that_ends_inside_a_character_shows_the_rest_once() -> None:
    heard, _ = run([*b"ab", 0xF0, 0x9F], max_tokens=4)
    assert heard.text == b"ab\xf0\x9f".decode("utf-8", "replace")
    assert heard.ids == [*b"ab", 0xF0, 0x9F]


def test_the_end_token_is_no_step_and_releases_what_was_held() -> None:
    heard, out = run([*b"near </en", EOS], stop_strings=("</end>",))
    assert heard.text == "near </en"
    assert out[-2] == len("near ")
    assert ending(heard) == ("stop_token", stats_of(EOS))


@pytest.mark.parametrize("stop_id", [EOS, IM_END])
def test_every_end_token_stops(stop_id: int) -> None:
    heard, _ = run([65, stop_id, 66])
    assert (heard.ids, ending(heard)) == ([65], ("stop_token", stats_of(stop_id)))


def test_an_end_token_as_the_first_gives_an_empty_answer() -> None:
    heard, _ = run([EOS])
    assert (len(heard.events), heard.text, ending(heard)) == (1, "", ("stop_token", stats_of(EOS)))


def test_an_end_token_after_which_a_stop_string_is_complete_is_no_end() -> None:
    heard, _ = run([*b"ab", 0xF0, EOS], stop_strings=("b" + REPLACEMENT,))
    assert (heard.text, ending(heard)) == ("a", ("stop_string", None))


def test_max_tokens_counts_tokens_without_the_end_token() -> None:
    heard, _ = run(list(b"abcdef"), max_tokens=3)
    assert (heard.text, heard.finished) == ("abc", Finished("length"))


def test_without_max_tokens_the_context_is_the_limit() -> None:
    heard, _ = run([97] * 2000, prompt=(65,) * 990)
    assert len(heard.ids) == 10
    assert heard.finished == Finished("length")


def test_max_tokens_beyond_the_context_is_clipped_to_it() -> None:
    heard, _ = run([97] * 2000, prompt=(65,) * 990, max_tokens=10**12)
    assert len(heard.ids) == 10


def test_nan_is_an_error_and_never_text() -> None:
    heard = Heard()
    generation = Generation(
        Handle(GenerationRequest(prompt_ids=(1,))),
        heard,
        vocabulary=VOCABULARY,
        stop_ids=frozenset(),
        context_length=10,
    )
    with pytest.raises(NumericalError, match="NaN"):
        generation.accept(replace(stats_of(65), logprob=math.nan))
    assert heard.events == []
