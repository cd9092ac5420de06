"""The waterfall shows the run's own draw, and the same draw under other settings."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import traitlets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.unit.widgets.fake_session import FakeRun, FakeSession, token
from tests.unit.widgets.html.test_twins import Reader
from tests.unit.widgets.recorded_page import Page
from tests.unit.widgets.test_sampling_controls import PARAMS
from workbench.engine.inspection import trace as engine_trace
from workbench.engine.sampling import Mask, Sampling
from workbench.errors import ClosedError, InvalidRequestError, UnsupportedFieldError
from workbench.protocol import SamplingParams, SamplingStrategy
from workbench.records import Alternative, SamplingStage, SamplingTrace, TokenRecord
from workbench.widgets import SamplingControls, SamplingWaterfall, playground
from workbench.widgets.format import percent, percent_of, visible
from workbench.widgets.wire.run import wire_alternative, wire_token
from workbench.widgets.wire.waterfall import Redraw, picture_of

PATIENCE_S = 60
TOP_P = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, top_p=0.9)
GREEDY = SamplingParams(strategy=SamplingStrategy.greedy)
NEUTRAL = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, top_p=1.0)
AT = 25
"""The fake run has " light:" there, at 23.9 %, the second most probable."""


def finished(params: SamplingParams = TOP_P, **options: Any) -> FakeRun:
    run = FakeRun(sampling_params=params, **options)
    run.step(10_000)
    return run


def settled(waterfall: SamplingWaterfall) -> dict[str, Any]:
    assert waterfall.wait(PATIENCE_S)
    return dict(waterfall.picture)


# ------------------------------------------------------------------------------------------------------ the picture


@given(params=PARAMS, number=st.floats(0, 1, exclude_max=True), position=st.integers(0, 43), rows=st.integers(1, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=budget(60))
def test_a_picture_is_its_trace(params: SamplingParams, number: float, position: int, rows: int) -> None:
    run = finished()
    trace = run.sampling_trace(position, params, number)
    picture = picture_of(Redraw(run.tokens[position], TOP_P, params, number), trace, None, rows=rows)
    shown = {token_id: shares for token_id, _, shares in picture["rows"]}
    assert {trace.token_id, run.tokens[position].token_id} <= set(shown)
    assert len(shown) in range(min(rows, 2), max(rows, 2) + 1)
    for at, stage in enumerate(trace.stages):
        assert picture["stages"][at]["kept"] == stage.kept
        assert sum(shares[at] for shares in shown.values()) + picture["others"]["shares"][at] == pytest.approx(
            1, abs=0.01
        )
        for token_id, shares in shown.items():
            assert shares[at] == pytest.approx(stage.probabilities[token_id], rel=1e-3)
    first = [shares[0] for shares in shown.values()]
    assert first == sorted(first, reverse=True)
    assert picture["others"]["count"] == len(trace.stages[0].probabilities) - len(shown)
    if trace.number is not None:
        start, end = picture["span"]
        assert start - 1e-7 <= trace.number <= end + 1e-7
    assert len(str(picture)) < 8000


def test_a_probability_reads_the_same_in_every_view() -> None:
    run = finished()
    for record in run.tokens:
        trace = run.sampling_trace(record.position)
        picture = picture_of(Redraw(record, TOP_P, None, None), trace, None, rows=8)
        raw = {token_id: percent(shares[0]) for token_id, _, shares in picture["rows"]}
        known: list[TokenRecord | Alternative] = [record, *record.alternatives]
        exact = {one.token_id: percent_of(one.logprob) for one in known}
        for token_id, _, logprob, *_ in (wire_token(record, record.text), *map(wire_alternative, record.alternatives)):
            assert percent_of(logprob) == exact[token_id] == raw.get(token_id, exact[token_id])


def test_the_axis_lines_the_candidates_up_as_the_draw_does() -> None:
    run = finished()
    trace = run.sampling_trace(AT)
    picture = picture_of(Redraw(run.tokens[AT], TOP_P, None, None), trace, trace.number, rows=8)
    at = 0.0
    for token_id, _, share in picture["axis"]:
        assert run.sampling_trace(AT, None, at + share / 2).token_id == token_id
        at += share
    assert at == pytest.approx(1, abs=0.01)


def test_what_a_grammar_leaves_is_shown_although_the_model_found_it_unlikely() -> None:
    logits = torch.linspace(9.0, 0.0, 100)
    allowed = torch.zeros(100, dtype=torch.bool)
    allowed[[70, 80]] = True
    found = engine_trace(logits, Sampling(temperature=1.0), set(), 0.9, Mask(allowed))
    stages = tuple(SamplingStage(s.name, s.probabilities.numpy(), s.kept, s.removed_mass) for s in found.stages)
    trace = SamplingTrace(stages, found.uniform, found.token_id, str)
    drawn = TokenRecord(0, found.token_id, "x", b"x", -9.0, 80, 1.0)
    picture = picture_of(Redraw(drawn, NEUTRAL, None, None), trace, 0.9, rows=4)
    assert {70, 80} <= {token_id for token_id, _, _ in picture["rows"]}
    assert [stage["title"] for stage in picture["stages"]] == ["Raw", "Grammar", "Temperature 1"]
    assert picture["stages"][1]["removed"] > 0.9


def test_half_a_character_is_told_apart_by_its_bytes_or_its_id() -> None:
    run = finished(records=[token(0, "\ufffd", raw=b"\xe2\x82"), token(1, "b")])
    trace = run.sampling_trace(0)
    other = SamplingTrace(trace.stages, trace.number, trace.token_id, lambda _: "\ufffd")
    labels = {name for _, name, _ in picture_of(Redraw(run.tokens[0], TOP_P, None, None), other, None, rows=9)["rows"]}
    assert "⟨E2 82⟩" in labels
    assert any(name.startswith("⟨id ") for name in labels)
    assert "\ufffd" not in labels


# --------------------------------------------------------------------------------------------------- what it follows


def test_the_runs_own_draw_ends_in_its_token(page: Page) -> None:
    run = finished()
    waterfall = SamplingWaterfall(run, position=AT)
    picture = settled(waterfall)
    assert picture["chosen"] == picture["token"] == [run.tokens[AT].token_id, " light:"]
    assert picture["summary"].endswith("picked “␣light:”.")
    assert [stage["title"] for stage in picture["stages"]] == ["Raw", "Temperature 0.7", "Top-p 0.9"]
    assert waterfall.trace is not None
    assert waterfall.trace.token_id == run.tokens[AT].token_id
    assert page.writes(waterfall, "picture")[-1]["chosen"] == picture["chosen"]


def test_sliders_move_the_distribution_and_keep_the_number(page: Page) -> None:
    controls = SamplingControls(TOP_P)
    waterfall = SamplingWaterfall(finished(), controls=controls, position=AT)
    number = settled(waterfall)["number"]
    page.set(controls, params={**controls.params, "temperature": 1.5})
    warmer = settled(waterfall)
    assert warmer["number"] == number
    assert warmer["stages"][1]["title"] == "Temperature 1.5"
    assert "the same random number" in warmer["summary"]
    controls.value = SamplingParams(strategy=SamplingStrategy.top_k, top_k=2, temperature=0.2, repetition_penalty=1.3)
    colder = settled(waterfall)
    assert colder["number"] == number
    assert [stage["title"] for stage in colder["stages"]] == ["Raw", "Penalty 1.3", "Temperature 0.2", "Top-k 2"]
    assert colder["stages"][-1]["kept"] == 2
    assert len(colder["axis"]) <= 2


def test_a_cut_by_min_p_is_a_stage_of_its_own(page: Page) -> None:
    cut = TOP_P.model_copy(update={"min_p": 0.4})
    waterfall = SamplingWaterfall(finished(), controls=SamplingControls(cut), position=AT)
    stages = settled(waterfall)["stages"]
    assert [stage["title"] for stage in stages] == ["Raw", "Temperature 0.7", "Top-p 0.9", "Min-p 0.4"]
    assert stages[-1]["cuts"]
    assert stages[-1]["kept"] < stages[-2]["kept"]
    assert "Min-p 0.4" in Reader(waterfall.static_html()).text


def test_bias_and_each_penalty_are_stages_of_their_own(page: Page) -> None:
    penalties = {"logit_bias": {3: 5.0}, "repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": -0.25}
    waterfall = SamplingWaterfall(
        finished(), controls=SamplingControls(GREEDY.model_copy(update=penalties)), position=AT
    )
    titles = [stage["title"] for stage in settled(waterfall)["stages"]]
    assert titles == [
        "Raw",
        "Logit bias for 1 token",
        "Penalty 1.3",
        "Frequency penalty 0.5",
        "Presence penalty -0.25",
        "Greedy",
    ]


def test_settings_that_draw_alike_are_the_runs_own(page: Page) -> None:
    longer = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, top_p=0.9, top_k=5, max_tokens=9, seed=1)
    waterfall = SamplingWaterfall(finished(), controls=SamplingControls(longer), position=AT)
    assert settled(waterfall)["summary"].startswith("The random number")


def test_another_number_is_another_draw_and_the_next_token_has_its_own(page: Page) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    drawn = settled(waterfall)["number"]
    page.set(waterfall, number=0.001)
    other = settled(waterfall)
    assert (other["number"], other["span"][0]) == (0.001, 0.0)
    assert f"(the run drew {drawn:.4f})" in other["summary"]
    assert "the run has “␣light:”" in other["summary"]
    waterfall.feed.selected = AT + 1
    assert settled(waterfall)["position"] == AT + 1
    assert waterfall.number is None


@pytest.mark.parametrize("number", [-0.1, 1.0, 7, float("nan"), float("inf")])
def test_a_number_outside_is_refused(page: Page, number: float) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    with pytest.raises(traitlets.TraitError, match="from 0 to below 1"):
        waterfall.number = number
    assert waterfall.number is None


def test_greedy_needs_no_number_and_says_so(page: Page) -> None:
    waterfall = SamplingWaterfall(finished(GREEDY), position=AT)
    picture = settled(waterfall)
    assert picture["number"] is None
    assert picture["stages"][-1]["title"] == "Greedy"
    assert "No random number is drawn" in picture["summary"]


def test_a_greedy_run_under_other_settings_says_that_the_number_stands_in(page: Page) -> None:
    waterfall = SamplingWaterfall(finished(GREEDY), controls=SamplingControls(TOP_P), position=AT)
    assert settled(waterfall)["summary"].startswith("The run drew no random number. 0.5000 is used instead and picks")


@pytest.mark.parametrize("params", [TOP_P, GREEDY])
def test_a_token_that_was_chosen_by_hand_is_the_one_that_is_named(
    page: Page, monkeypatch: pytest.MonkeyPatch, params: SamplingParams
) -> None:
    run = finished(params)
    other = run.tokens[AT].alternatives[-1]
    branch = run.branch(AT, other.token_id)
    branch.step(1000)
    monkeypatch.setattr(branch, "sampling_trace", lambda position, *_: run.sampling_trace(position))
    summary = settled(SamplingWaterfall(branch, position=AT))["summary"]
    assert summary.startswith(f"“{visible(other.text)}” was chosen by hand. ")
    assert f" would have picked “{visible(run.sampling_trace(AT).text(run.sampling_trace(AT).token_id))}”." in summary


def test_nothing_selected_is_nothing_shown(page: Page) -> None:
    waterfall = SamplingWaterfall(finished())
    assert (waterfall.picture, waterfall.trace, waterfall.position) == ({}, None, None)
    waterfall.feed.selected = (3, AT)
    assert settled(waterfall)["position"] == AT
    waterfall.feed.selected = None
    assert (waterfall.picture, waterfall.trace) == ({}, None)


def test_a_new_run_takes_the_picture_away(page: Page) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    settled(waterfall)
    waterfall.feed.follow(finished())
    assert waterfall.picture == {}


# ------------------------------------------------------------------------------------------- refusals, threads, traffic


def test_the_draw_of_the_end_is_shown_as_that_of_a_token(page: Page) -> None:
    run = FakeRun(end=token(44, "<|im_end|>"))
    run.step(100)
    waterfall = SamplingWaterfall(run, position=44)
    assert waterfall.wait(60)
    assert waterfall.picture["token"][1] == "<|im_end|>"
    waterfall.close()


class Refusing(FakeRun):
    """A run that cannot be looked back at."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem

    def sampling_trace(self, *_arguments: Any, **_options: Any) -> SamplingTrace:
        raise self.problem


@pytest.mark.parametrize(
    "problem, words",
    [
        (UnsupportedFieldError("position", "m", "in a run whose model is in this process"), "only models in this"),
        (
            InvalidRequestError("position", 3, "one with logits still available, from 5 to 9"),
            "The logits of token 4 are not",
        ),
        (ClosedError("the model of this run was closed, so its logits are gone"), "its logits are gone"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_cannot_be_shown_is_said_in_words(page: Page, problem: Exception, words: str) -> None:
    run = Refusing(problem)
    run.step(10_000)
    waterfall = SamplingWaterfall(run, position=3)
    picture = settled(waterfall)
    assert words in picture["error"]
    assert words in Reader(waterfall.static_html()).text
    assert waterfall.trace is None
    assert repr(waterfall) == "SamplingWaterfall(position=3)"


class Slow(FakeRun):
    """A run whose model is busy until it is let go; counts the looks."""

    def __init__(self) -> None:
        super().__init__(sampling_params=TOP_P)
        self.free = threading.Event()
        self.looks = 0

    def sampling_trace(self, *arguments: Any, **options: Any) -> SamplingTrace:
        assert self.free.wait(PATIENCE_S)
        self.looks += 1
        return super().sampling_trace(*arguments, **options)


def test_a_busy_model_blocks_no_slider_and_only_the_newest_question_is_answered(page: Page) -> None:
    run = Slow()
    run.step(10_000)
    controls = SamplingControls(TOP_P)
    waterfall = SamplingWaterfall(run, controls=controls, position=AT)
    for step in range(1, 101):
        controls.value = SamplingParams(strategy=SamplingStrategy.top_p, temperature=step / 100, top_p=0.9)
    assert waterfall.picture == {"position": AT, "name": "token 26", "error": "Reading the run's logits …"}
    run.free.set()
    assert settled(waterfall)["stages"][1]["title"] == "Temperature 1"
    assert run.looks <= 6
    assert len(page.writes(waterfall, "picture")) <= 4


def test_a_close_in_the_middle_of_a_look_sends_nothing_more(page: Page) -> None:
    run = Slow()
    run.step(10_000)
    waterfall = SamplingWaterfall(run, position=AT)
    waterfall.close()
    before = len(page.messages)
    run.free.set()
    assert waterfall.wait(PATIENCE_S)
    assert len(page.messages) == before


@pytest.mark.parametrize("rows", [0, -1, 51, 2.5, "8"])
def test_a_bad_number_of_rows_is_named(page: Page, rows: Any) -> None:
    with pytest.raises(InvalidRequestError, match="rows"):
        SamplingWaterfall(finished(), rows=rows)


def test_a_closed_waterfall_hears_neither_controls_nor_feed(page: Page) -> None:
    controls, run = SamplingControls(TOP_P), finished()
    host = SamplingWaterfall(run, position=AT)
    waterfall = SamplingWaterfall(feed=host.feed, controls=controls)
    shown = settled(waterfall)
    waterfall.close()
    controls.value = NEUTRAL
    host.feed.selected = 1
    assert (waterfall.sampling_params, waterfall.picture) == (TOP_P, shown)
    assert not host.feed.closed


# -------------------------------------------------------------------------------------------- static twin, playground


def test_the_twin_has_every_stage_and_the_number(page: Page) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    picture = settled(waterfall)
    text = Reader(waterfall.static_html()).text
    for expected in ("␣light:", "Temperature 0.7", "Top-p 0.9", "others", "probability cut", "cut", picture["summary"]):
        assert expected in text
    assert "On the cumulative axis, “␣light:” lies from" in text
    assert repr(waterfall) == f"SamplingWaterfall(position=25, number={picture['number']}, token=' light:')"
    waterfall.close()
    assert Reader(waterfall._repr_mimebundle_()[0]["text/html"]).text == text


def test_the_playgrounds_waterfall_follows_its_controls_and_its_selection(page: Page) -> None:
    opened = playground(FakeSession(tokens_per_s=5000), sampling_params=TOP_P)
    opened.start("Hello").wait(PATIENCE_S)
    assert opened.feed.wait(PATIENCE_S)
    opened.selected = AT
    number = settled(opened.waterfall)["number"]
    opened.sampling_params = GREEDY
    assert settled(opened.waterfall)["stages"][-1]["title"] == "Greedy"
    opened.sampling_params = NEUTRAL
    assert settled(opened.waterfall)["number"] == number
    opened.close()
    assert opened.waterfall.closed
