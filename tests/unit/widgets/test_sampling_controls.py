"""The controls and the parameters are two sides of one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import traitlets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench as wb
from tests.budget import budget, some
from tests.unit.widgets.fake_session import FakeSession
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.errors import InvalidRequestError
from workbench.protocol import MAX_SEED, SamplingParams, SamplingStrategy, effective_sampling
from workbench.records import ModelCard
from workbench.widgets import ChatView, SamplingControls
from workbench.widgets.code import sampling_code
from workbench.widgets.playground_view import Playground
from workbench.widgets.sampling_words import sampling_phrases

PARAMS = st.builds(
    SamplingParams,
    strategy=st.sampled_from(["greedy", "top_p", "top_k"]),
    temperature=st.floats(0, 5),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 100_000),
    max_tokens=st.integers(0, 10**12),
    repetition_penalty=st.floats(0.1, 5),
    min_p=st.floats(0, 1),
    frequency_penalty=st.floats(-2, 2),
    presence_penalty=st.floats(-2, 2),
    logit_bias=st.none() | st.dictionaries(st.integers(0, 2000), st.floats(-100, 100), min_size=1, max_size=4),
    seed=st.none() | st.integers(0, MAX_SEED),
    stop=st.none() | st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4),
)


@given(PARAMS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=budget(50))
def test_setting_the_value_moves_the_controls_and_keeps_the_value(page: Page, params: SamplingParams) -> None:
    controls = SamplingControls()
    controls.value = params
    assert controls.value == params
    assert controls.params["top_p"] == params.top_p
    assert controls.params["strategy"] == params.strategy
    controls.close()


@given(PARAMS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=budget(50))
def test_what_the_page_sets_samples_as_what_it_shows(page: Page, params: SamplingParams) -> None:
    shown = SamplingControls(params)
    controls = SamplingControls()
    page.set(controls, params=shown.params)
    assert effective_sampling(controls.value) == effective_sampling(params)
    assert (controls.value.seed, controls.value.stop) == (params.seed, params.stop)
    shown.close()
    controls.close()


def test_a_slider_that_greedy_ignores_stays_where_it_was_and_is_no_contradiction(page: Page) -> None:
    controls = SamplingControls(SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.9))
    page.set(controls, params={**controls.params, "strategy": "greedy"})
    assert controls.value.temperature == 0
    assert controls.params["temperature"] == 0.9
    page.set(controls, params={**controls.params, "strategy": "top_p"})
    assert controls.value.temperature == 0.9


def test_a_bias_travels_with_its_ids_as_text(page: Page) -> None:
    controls = SamplingControls()
    assert controls.params["logit_bias"] == {}
    page.set(controls, params={**controls.params, "logit_bias": {"50": -100, "7": 2.5}})
    assert controls.value.logit_bias == {50: -100.0, 7: 2.5}
    assert page.writes(controls, "params") == []
    assert "logit_bias={50: -100.0, 7: 2.5}" in controls.code
    controls.value = SamplingParams(logit_bias={3: 1})
    assert controls.params["logit_bias"] == {"3": 1.0}


def test_a_change_from_the_page_is_not_sent_back(page: Page) -> None:
    controls = SamplingControls()
    page.set(controls, params={**controls.params, "temperature": 1.3})
    assert controls.value.temperature == 1.3
    page.send(controls, {"kind": "state", "state": {"params": {**controls.params, "temperature": 1.4}}})
    assert controls.value.temperature == 1.4
    assert page.writes(controls, "params") == []


@pytest.mark.parametrize(
    "part",
    [
        {"top_p": 1.5},
        {"top_p": None},
        {"min_p": 2},
        {"logit_bias": {"x": 1}},
        {"logit_bias": {"5": 101}},
        {"logit_bias": "5: 1"},
        {"temperature": "hot"},
        {"strategy": "beam"},
        {"seed": "x"},
        {"stop": [""]},
        {"stop": 3},
    ],
)
def test_a_wrong_value_from_a_page_leaves_the_last_good_one(page: Page, part: dict[str, Any]) -> None:
    controls = SamplingControls()
    before = controls.value
    page.set(controls, params={**controls.params, **part})
    assert controls.value == before or part == {"top_p": None}
    assert SamplingControls(controls.value).value == controls.value


def test_presets_leave_length_seed_and_stop_strings(page: Page) -> None:
    controls = SamplingControls(SamplingParams(max_tokens=9, seed=4, stop=["x"], logit_bias={5: 1}))
    controls.apply_preset("Neutral")
    value = controls.value
    assert (value.temperature, value.top_p, value.repetition_penalty) == (1.0, 1.0, 1.0)
    assert (value.max_tokens, value.seed, value.stop, value.logit_bias) == (9, 4, ["x"], {5: 1})
    with pytest.raises(InvalidRequestError, match="Precise, Balanced, Creative, Neutral"):
        controls.apply_preset("Wild")


def test_anything_but_sampling_params_is_refused() -> None:
    controls = SamplingControls()
    with pytest.raises(traitlets.TraitError):
        controls.value = {"temperature": 1}  # type: ignore[assignment]
    with pytest.raises(TypeError, match="temperatur"):
        SamplingControls(temperatur=1)  # type: ignore[call-arg]
    controls.close()


@given(PARAMS)
def test_the_code_makes_the_same_parameters(params: SamplingParams) -> None:
    assert eval(sampling_code(params), {"wb": wb}) == params


@pytest.mark.parametrize("payload", some(PAYLOADS))
def test_the_code_is_one_line_whatever_a_stop_string_holds(payload: str) -> None:
    params = SamplingParams(stop=[payload])
    code = sampling_code(params)
    assert code.isprintable()
    assert eval(code, {"wb": wb}) == params


def test_the_repr_says_what_a_run_would_take() -> None:
    controls = SamplingControls(SamplingParams(max_tokens=5))
    assert repr(controls) == "SamplingControls(SamplingParams(max_tokens=5))"
    controls.close()


def test_the_twin_says_the_settings_as_the_page_does() -> None:
    """In the words of ``settingsInWords``, see tests/javascript/sampling_fields.test.js."""
    params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, top_p=0.9, max_tokens=64)
    all_set = params.model_copy(update={"repetition_penalty": 1.2, "seed": 7, "stop": ["\n", "end"]})
    assert sampling_phrases(params.model_copy(update={"max_tokens": 0})) == [
        "top-p 0.9",
        "temperature 0.7",
        "any length",
    ]
    assert " · ".join(sampling_phrases(all_set)) == (
        'top-p 0.9 · temperature 0.7 · up to 64 tokens · repetition penalty 1.2 · seed 7 · stops at "\\n", "end"'
    )
    top_k = SamplingParams(strategy=SamplingStrategy.top_k, temperature=0.7, top_k=40)
    penalties = {"min_p": 0.1, "repetition_penalty": 1.2, "frequency_penalty": -0.5, "presence_penalty": 0.5}
    assert " · ".join(sampling_phrases(params.model_copy(update=penalties))) == (
        "top-p 0.9 · temperature 0.7 · up to 64 tokens · min-p 0.1 · repetition penalty 1.2 · "
        "frequency penalty -0.5 · presence penalty 0.5"
    )
    biased = params.model_copy(update={"logit_bias": {50: -100.0, 7: 2.0}})
    assert sampling_phrases(biased)[-1] == "logit bias for 2 tokens"
    assert sampling_phrases(biased.model_copy(update={"logit_bias": {7: 2.0}}))[-1] == "logit bias for 1 token"
    cut = params.model_copy(update={"min_p": 0.05, "max_tokens": 0})
    assert " · ".join(sampling_phrases(cut)) == "top-p 0.9 · temperature 0.7 · any length · min-p 0.05"
    greedy = cut.model_copy(update={"strategy": SamplingStrategy.greedy})
    assert sampling_phrases(greedy) == ["greedy", "any length"]
    assert sampling_phrases(top_k) == ["top-k 40", "temperature 0.7", "any length"]
    controls = SamplingControls(SamplingParams(max_tokens=64))
    assert "<p>greedy · up to 64 tokens</p>" in controls.static_html()
    controls.close()


def test_what_the_model_recommends_is_offered_and_never_applied_by_itself() -> None:
    set_by_user = SamplingParams(
        strategy=SamplingStrategy.top_p, temperature=1.3, top_p=0.5, min_p=0.2, max_tokens=9, seed=4, stop=["x"]
    )
    controls = SamplingControls(set_by_user)
    with pytest.raises(InvalidRequestError, match="recommends nothing"):
        controls.apply_recommended()
    controls.recommend({"strategy": "top_k", "temperature": 0.6, "top_k": 20})
    assert controls.recommended == {"strategy": "top_k", "temperature": 0.6, "top_k": 20}
    assert controls.value == set_by_user
    controls.apply_recommended()
    assert effective_sampling(controls.value) == effective_sampling(
        SamplingParams(strategy=SamplingStrategy.top_k, temperature=0.6, top_k=20, max_tokens=9, seed=4, stop=["x"])
    )
    controls.recommend(None)
    assert controls.recommended == {}
    assert controls.value.temperature == 0.6


def test_a_playground_and_a_chat_offer_what_the_chosen_model_recommends() -> None:
    for widget in (Playground(RecommendingSession()), ChatView(RecommendingSession())):
        before = widget.sampling_params
        assert not widget.controls.recommended
        widget.model = "third"
        assert widget.controls.recommended == {"strategy": "top_p", "temperature": 0.6, "top_p": 0.95}
        assert widget.sampling_params == before
        widget.close()


class RecommendingSession(FakeSession):
    """A session whose model ``third`` recommends sampling parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_model("third")

    def card(self, model: str | None = None) -> ModelCard:
        card = super().card(model)
        recommended = {"strategy": "top_p", "temperature": 0.6, "top_p": 0.95}
        return replace(card, sampling_defaults=recommended) if model == "third" else card
