"""Tool calls token by token: states by where the calls lie in the text, and the probability that one begins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.analysis.tool_call_steps import Openers, call_steps, parse_states
from workbench.errors import InvalidRequestError
from workbench.records import Alternative, CallAttempt, TokenRecord

CALL = '{"name": "f"}'


def token(position: int, text: str, *, probability: float = 0.5, **options: Any) -> TokenRecord:
    return TokenRecord(position, position, text, text.encode(), math.log(probability), 1, 1.0, **options)


def tokens(*texts: str) -> list[TokenRecord]:
    return [token(i, text) for i, text in enumerate(texts)]


class Vocabulary:
    """An inspector of a vocabulary of a few words, each as probable as it says."""

    def __init__(self, **shares: float) -> None:
        self._texts = [name.replace("brace", "{") for name in shares]
        self._shares = list(shares.values())

    def logprobs(self, position: int) -> Any:
        if position > 1:
            raise InvalidRequestError("position", position, "a recent one")
        return np.log(np.array(self._shares, np.float32))

    def text(self, token_id: int) -> str:
        return self._texts[token_id]

    def trace(self, *_: Any) -> Any:
        raise AssertionError

    kept = trace


def test_a_call_is_started_goes_on_and_ends_with_its_last_token() -> None:
    made = tokens("So", ": ", '{"name', '": ', '"f"}', " and")
    parts: list[str | CallAttempt] = ["So: ", CallAttempt("success", CALL), " and"]
    assert parse_states(made, parts) == ["text", "text", "started", "in_progress", "success", "text"]


def test_a_call_that_is_still_written_has_no_end() -> None:
    assert parse_states(tokens('{"na', 'me"'), [CallAttempt("in_progress", '{"name"')]) == ["started", "in_progress"]


def test_a_broken_call_ends_in_failure_and_tags_between_calls_are_text() -> None:
    made = tokens("<tool_call>", '{"a', '"}', "</tool_call>", "<tool_call>", '{"b', ":")
    parts: list[str | CallAttempt] = [
        CallAttempt("success", '<tool_call>{"a"}'),
        CallAttempt("failure", '<tool_call>{"b:'),
    ]
    states = ["started", "in_progress", "success", "text", "started", "in_progress", "failure"]
    assert parse_states(made, parts) == states


def test_a_character_of_several_tokens_belongs_where_it_ends() -> None:
    first, second = "😀".encode()[:2], "😀".encode()[2:]
    made = [
        TokenRecord(0, 0, "\ufffd", first, -1.0, 1, 1.0),
        TokenRecord(1, 1, "\ufffd", second, -1.0, 1, 1.0),
        token(2, CALL),
    ]
    assert parse_states(made, ["😀", CallAttempt("success", CALL)]) == ["text", "text", "success"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(0, 3))
def test_however_a_text_is_cut_into_tokens_the_states_cover_the_call(cuts: list[int], before: int) -> None:
    text, pieces = "x" * before + CALL + " y", []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    made = tokens(*[piece for piece in [*pieces, text] if piece])
    states = parse_states(made, ["x" * before, CallAttempt("success", CALL), " y"])
    inside = [record.text for record, state in zip(made, states, strict=True) if state != "text"]
    assert CALL in "".join(inside)
    assert states.count("success") == 1
    assert states.count("started") == (1 if len(inside) > 1 else 0)


def test_a_start_is_as_probable_as_all_tokens_that_it_may_begin_with() -> None:
    vocabulary: Any = Vocabulary(brace=0.3, x=0.5, brace2=0.2)
    (step,) = call_steps(tokens("x"), ["x"], Openers("{"), vocabulary)
    assert step.start_probability == pytest.approx(0.5)
    assert step.is_exact


def test_without_the_whole_distribution_the_probability_is_a_bound() -> None:
    beside = (Alternative(9, " {", b" {", math.log(0.2), 2), Alternative(8, "y", b"y", math.log(0.1), 3))
    made = [token(7, '{"', probability=0.25, alternatives=beside)]
    vocabulary: Any = Vocabulary(brace=0.3)
    for inspector in (None, vocabulary):
        (step,) = call_steps(made, ['{"'], Openers("{"), inspector)
        assert step.start_probability == pytest.approx(0.45)
        assert not step.is_exact


def test_inside_a_call_no_other_begins() -> None:
    steps = call_steps(tokens('{"name', '": ', '"f"}', "x"), [CallAttempt("success", CALL), "x"], Openers("{"), None)
    assert [math.isnan(step.start_probability) for step in steps] == [False, True, True, False]


def test_what_the_schema_did_is_the_tokens_own() -> None:
    made = [token(0, "x", removed_mass=0.75, is_forced=True)]
    (step,) = call_steps(made, ["x"], Openers("{"), None)
    assert (step.removed_mass, step.is_forced, step.text, step.token_id) == (0.75, True, "x", 0)


def test_a_run_without_tools_has_no_calls_to_look_at() -> None:
    with pytest.raises(InvalidRequestError, match="tools"):
        Openers("")


def test_what_was_exact_once_stays_so_when_its_logits_are_gone() -> None:
    vocabulary: Any = Vocabulary(brace=0.3, x=0.5, brace2=0.2)
    openers = Openers("{")
    call_steps(tokens("x"), ["x"], openers, vocabulary)
    (step,) = call_steps(tokens("x"), ["x"], openers, None)
    assert step.start_probability == pytest.approx(0.5)
    assert step.is_exact
