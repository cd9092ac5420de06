"""The prediction game pays what the theory says, and tells nothing before the bet."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.widgets.fake_scores import ASKED, PROMPT, scored
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.html.test_twins import Reader
from tests.unit.widgets.recorded_page import Page
from workbench.errors import InvalidRequestError
from workbench.records import Score
from workbench.widgets import PredictionGame
from workbench.widgets.prediction_rounds import Round, rounds_of

SHARES = st.lists(st.floats(0.01, 1), min_size=4, max_size=4)


def normalised(shares: list[float]) -> list[float]:
    return [share / math.fsum(shares) for share in shares]


def told(page: Page, game: PredictionGame) -> list[str | None]:
    return [reply["error"] for reply in page.customs(game, "reply")]


# ------------------------------------------------------------------------------------------------------- the rules


@given(belief=SHARES, bet=SHARES)
def test_whoever_bets_what_they_believe_expects_to_pay_least(belief: list[float], bet: list[float]) -> None:
    believed, other = normalised(belief), normalised(bet)

    def expected(shares: list[float]) -> float:
        costs = [Round(0, "", tuple("abcd"), at, (0.25,) * 4).with_bet(shares).bits or 0.0 for at in range(4)]
        return math.fsum(share * cost for share, cost in zip(believed, costs, strict=True))

    assert expected(believed) <= expected(other) + 1e-9


def test_a_bet_costs_minus_log2_of_what_was_given_to_what_came() -> None:
    game = PredictionGame(scored(), PROMPT)
    assert game.bet(" man", 0.5).bits == 1
    assert game.bet(" went", 0.7).bits == pytest.approx(-math.log2(0.1))
    assert game.bet_all([0.25, 0.25, 0.25, 0.25]).bits == game.rounds[2].even_bits == 2
    assert game.bits == pytest.approx(1 - math.log2(0.1) + 2)
    assert game.even_bits == 6
    assert game.model_bits == pytest.approx(math.fsum(one.model_bits for one in game.rounds[:3]))


def test_whoever_bets_as_the_model_does_pays_what_it_pays() -> None:
    game = PredictionGame(scored(), PROMPT)
    while (current := game.current) is not None:
        game.bet_all(current.model)
    assert game.bits == pytest.approx(game.model_bits)
    assert game.to_frame()["text"].tolist() == ASKED


def test_only_words_that_could_have_been_others_are_asked() -> None:
    rounds = rounds_of(scored(), PROMPT, most=20, choices=4)
    assert [one.choices[one.came] for one in rounds] == ASKED
    assert [one.context for one in rounds][:2] == [PROMPT, f"{PROMPT} man,"]
    for one in rounds:
        assert list(one.choices) == sorted(one.choices)
        assert math.fsum(one.model) == pytest.approx(1)
    assert len(rounds_of(scored(), PROMPT, most=2, choices=4)) == 2


def test_a_word_that_the_model_did_not_expect_at_all_is_not_asked() -> None:
    favourites = {" house": 0.4, " town": 0.3, " forest": 0.2, " world": 0.05}
    with pytest.raises(InvalidRequestError, match="a whole word that the model was not sure of"):
        rounds_of(scored([(" kettle", 0.0001, favourites)]), PROMPT, most=20, choices=4)
    (one,) = rounds_of(
        scored([(" world", 0.05, {" house": 0.4, " town": 0.3, " forest": 0.2})]), PROMPT, most=20, choices=4
    )
    assert one.choices[one.came] == " world"


@pytest.mark.parametrize(
    "bet",
    [
        lambda game: game.bet(" nobody", 0.5),
        lambda game: game.bet(9, 0.5),
        lambda game: game.bet(True, 0.5),
        lambda game: game.bet(" man", 0),
        lambda game: game.bet(" man", 1),
        lambda game: game.bet(" man", math.nan),
        lambda game: game.bet(" man", "much"),
        lambda game: game.bet_all([0.5, 0.5]),
        lambda game: game.bet_all([1.0, 0.0, 0.0, 0.0]),
        lambda game: game.bet_all([0.5, 0.5, 0.5, 0.5]),
        lambda game: game.bet_all([0.25, 0.25, 0.25, "0.25"]),
    ],
)
def test_a_bet_that_is_none_is_refused_and_changes_nothing(bet: Any) -> None:
    game = PredictionGame(scored(), PROMPT)
    before = game.page
    with pytest.raises(InvalidRequestError):
        bet(game)
    assert (game.page, game.bits) == (before, 0)


@pytest.mark.parametrize(
    "arguments, field",
    [
        ({"score": "text"}, "score"),
        ({"score": scored([(" man", 0.4, {})])}, "score"),
        ({"score": scored([(" man", 0.99, {" a": 0.001, " b": 0.001, " c": 0.001})])}, "score"),
        ({"score": Score("", ())}, "score"),
        ({"prompt": 7}, "prompt"),
        ({"rounds": 0}, "rounds"),
        ({"choices": 1}, "choices"),
        ({"choices": 10}, "choices"),
    ],
)
def test_a_game_that_cannot_be_is_refused_by_name(arguments: dict[str, Any], field: str) -> None:
    given: dict[str, Any] = {"score": scored(), "prompt": PROMPT}
    with pytest.raises(InvalidRequestError) as refused:
        PredictionGame(**given | arguments)
    assert refused.value.field == field


def test_after_the_last_round_there_is_a_new_game(page: Page) -> None:
    game = PredictionGame(scored(), PROMPT, rounds=1)
    game.bet(0, 0.5)
    with pytest.raises(InvalidRequestError, match="restart"):
        game.bet(0, 0.5)
    game.restart()
    assert (game.bits, game.page["number"], game.page["told"]) == (0, 1, None)
    assert game.to_frame().empty


# -------------------------------------------------------------------------------------------------------- the page


def test_the_page_learns_what_came_after_the_bet_and_not_before(page: Page) -> None:
    game = PredictionGame(scored(), PROMPT)
    assert game.page["told"] is None
    assert {"came", "model"}.isdisjoint(game.page)
    before = json.dumps([data for *_, data in page.messages])
    assert str(game.rounds[0].model[0])[:8] not in before
    page.send(game, {"kind": "bet", "id": 1, "number": 1, "choice": 2, "confidence": 0.7})
    assert page.writes(game, "page")[-1]["told"] == {
        "came": 2,
        "bet": pytest.approx([0.1, 0.1, 0.7, 0.1]),
        "model": pytest.approx(list(game.rounds[0].model)),
    }
    page.send(game, {"kind": "next", "id": 2})
    assert (game.page["number"], game.page["told"]) == (2, None)
    assert told(page, game) == [None, None]


def test_a_click_that_comes_twice_or_late_bets_once(page: Page) -> None:
    game = PredictionGame(scored(), PROMPT)
    for message in range(3):
        page.send(game, {"kind": "bet", "id": message, "number": 1, "choice": 0, "confidence": 0.7})
    page.send(game, {"kind": "next", "id": 8})
    page.send(game, {"kind": "bet", "id": 9, "number": 1, "choice": 0, "confidence": 0.7})
    assert [one.bet is not None for one in game.rounds] == [True, False, False, False]


@pytest.mark.parametrize("content", [{}, {"kind": "bet"}, {"kind": "bet", "number": 1, "choice": "x"}, {"kind": 7}])
def test_a_malformed_message_is_answered_and_bets_nothing(page: Page, content: dict[str, Any]) -> None:
    game = PredictionGame(scored(), PROMPT)
    page.send(game, {"id": 5} | content)
    assert len(told(page, game)) == 1
    assert game.bits == 0


def test_what_python_bets_the_page_shows(page: Page) -> None:
    game = PredictionGame(scored(), PROMPT)
    game.bet(0, 0.6)
    game.bet(1, 0.6)
    assert (game.page["number"], game.page["played"]) == (2, 2)
    assert game.page["told"] is not None


def test_the_twin_tells_what_the_page_tells(page: Page) -> None:
    game = PredictionGame(scored(), PROMPT)
    text = Reader(game.static_html()).text
    assert "Round 1 of 4" in text
    assert PROMPT in text
    assert "%" not in text
    game.bet(" man", 0.7)
    text = Reader(game.static_html()).text
    assert "man came next70.0 %" in text
    assert "You 0.5 bits · Model " in text
    assert repr(game) == "PredictionGame(1 of 4 rounds played)"


def test_hostile_words_are_text(page: Page) -> None:
    for payload in PAYLOADS:
        game = PredictionGame(scored(), payload)
        assert payload[:12] in Reader(game.static_html()).text or not payload[:12].isprintable()


def test_a_closed_game_leaves_nothing(page: Page) -> None:
    game = PredictionGame(scored(), PROMPT)
    game.close()
    assert game.closed
    game.bet(0, 0.5)
    assert game.to_frame().shape == (1, 5)
