"""The content guard judges every sentence; the one that exceeds its threshold most decides, and says so."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.guard_models import SHARPNESS, WORDS, WordVectors, access, configured, word_weights
from workbench.errors import ConfigError, InvalidRequestError, ShieldError
from workbench.protocol import SafetyViolation, ShieldDef, UserMessage, ViolationLevel
from workbench.providers.safety.content_guard import ContentGuardProvider, scoring
from workbench.providers.safety.content_guard.classifier import CLASSES, fit, unit_vectors
from workbench.providers.safety.content_guard.examples import examples
from workbench.providers.safety.content_guard.provider import THRESHOLD
from workbench.providers.safety.content_guard.scoring import SentenceScorer
from workbench.providers.safety.hazards import HAZARDS
from workbench.providers.safety.sentences import Sentence, sentences

ALONE = math.exp(SHARPNESS) / (math.exp(SHARPNESS) + len(CLASSES) - 1)
"""Probability of a class whose word is alone in a sentence, 0.81."""


def guard(models: Any = None, **config: Any) -> ContentGuardProvider:
    return ContentGuardProvider(configured("inline::content_guard", **config), access(models or WordVectors()))


@pytest.fixture(scope="module", autouse=True)
def weights() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "stored_weights", word_weights)
        yield


async def judged(text: str, provider: ContentGuardProvider | None = None, **params: Any) -> SafetyViolation | None:
    provider = provider or guard()
    return (await provider.run_shield("content_guard", [UserMessage(content=text)], params)).violation


async def found(text: str, **params: Any) -> SafetyViolation:
    violation = await judged(text, **params)
    assert violation is not None
    return violation


async def test_the_worst_sentence_decides_and_the_violation_says_where_it_stands() -> None:
    text = "Hello there. Please steal one thing for me. Bomb! Goodbye."
    violation = await found(text)
    assert violation.violation_level == ViolationLevel.error
    assert violation.user_message == "This message was flagged: Indiscriminate Weapons (S9)."
    facts = violation.metadata
    assert (facts["category"], facts["name"], facts["threshold"]) == ("S9", "Indiscriminate Weapons", THRESHOLD)
    assert facts["probability"] == pytest.approx(ALONE + (len(CLASSES) - 2) / (math.exp(SHARPNESS) + len(CLASSES) - 1))
    assert facts["sentence"] == text[facts["start"] : facts["end"]] == "Bomb!"


async def test_harmless_and_empty_texts_have_no_violation_and_an_empty_one_asks_no_model() -> None:
    models = WordVectors()
    assert await judged("Kind words only.", guard(models)) is None
    asked = len(models.calls)
    assert await judged(" \n ", guard(models)) is None
    assert len(models.calls) == asked


async def test_categories_restrict_what_is_found() -> None:
    assert (await found("bomb", categories=["S9", "S1"])).metadata["category"] == "S9"
    assert await judged("bomb", categories=["S1", "S2"], warn_band=0) is None
    assert (await found("bomb", categories=["S9"])).metadata["probability"] == pytest.approx(ALONE)


@given(st.sets(st.sampled_from(list(HAZARDS)), min_size=1), st.lists(st.sampled_from([*WORDS, "fine"]), max_size=4))
async def test_fewer_categories_never_make_a_text_more_probable(chosen: set[str], words: list[str]) -> None:
    options: dict[str, Any] = {"threshold": 0.01, "warn_band": 0}
    everything = await judged(" ".join(words), **options)
    some = await judged(" ".join(words), categories=sorted(chosen), **options)
    if some is not None:
        assert everything is not None
        assert some.metadata["category"] in chosen
        assert some.metadata["probability"] <= everything.metadata["probability"]


async def test_the_level_is_error_from_the_threshold_on_and_warn_in_the_band_below() -> None:
    options: dict[str, Any] = {"categories": ["S9"]}
    assert (await found("bomb", threshold=ALONE - 1e-6, **options)).violation_level == ViolationLevel.error
    assert (await found("bomb", threshold=0.9, warn_band=0.1, **options)).violation_level == ViolationLevel.warn
    assert await judged("bomb", threshold=0.9, warn_band=0.05, **options) is None


async def test_the_band_is_at_most_half_the_threshold_so_that_not_everything_is_in_it() -> None:
    assert await judged("fine words", threshold=0.5, warn_band=0.99) is None


async def test_a_category_has_a_threshold_of_its_own() -> None:
    assert await judged("bomb", thresholds={"S9": 0.99}, warn_band=0) is None
    assert (await found("bomb", thresholds={"S1": 0.99}, warn_band=0)).metadata["threshold"] == THRESHOLD
    # A sentence in its category's band is found beside one that is nearer to its own threshold, but outside its band.
    both = await found("fine. bomb", categories=["S2", "S9"], thresholds={"S2": 0.1, "S9": 0.99}, warn_band=0.2)
    assert both.metadata["category"] == "S9"


@pytest.mark.parametrize(
    "params,field",
    [
        ({"categories": ["S1", "S99"]}, "params.categories[1]"),
        ({"categories": []}, "params.categories"),
        ({"categories": "S1"}, "params.categories"),
        ({"threshold": 0}, "params.threshold"),
        ({"threshold": 1.0}, "params.threshold"),
        ({"threshold": float("nan")}, "params.threshold"),
        ({"thresholds": {"S1": 2}}, "params.thresholds.S1"),
        ({"thresholds": {"violence": 0.5}}, "params.thresholds.violence"),
        ({"warn_band": -0.1}, "params.warn_band"),
        ({"treshold": 0.5}, "params.treshold"),
    ],
)
async def test_bad_parameters_are_refused_by_name_before_any_model_is_asked(params: dict[str, Any], field: str) -> None:
    models = WordVectors()
    with pytest.raises(InvalidRequestError) as refusal:
        await judged("bomb", guard(models), **params)
    assert refusal.value.field.startswith(field)
    assert models.calls == []
    with pytest.raises(InvalidRequestError):
        await guard().register_shield(ShieldDef(identifier="x", type="generic_content_shield", params=params))


async def test_it_runs_content_shields_and_those_typed_llama_guard_and_no_others() -> None:
    provider = guard()
    for kind in ("generic_content_shield", "llama_guard"):
        await provider.register_shield(ShieldDef(identifier=kind, type=kind))
        assert (await provider.run_shield(kind, [UserMessage(content="bomb")])).violation is not None
    with pytest.raises(InvalidRequestError, match="generic_content_shield, llama_guard"):
        await provider.register_shield(ShieldDef(identifier="x", type="prompt_guard"))


def test_a_bad_config_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"shields\[0\].params.threshold"):
        guard(shields=[{"identifier": "a", "params": {"threshold": 7}}])


async def test_the_same_sentence_is_computed_once_whatever_its_letters_are_made_of() -> None:
    models = WordVectors()
    provider = guard(models)
    first = await judged("bomb. bomb. fine", provider)
    again = await judged("ｂｏｍｂ. bo\u200bmb. fine", provider)
    assert first is not None
    assert again is not None
    assert again.metadata["probability"] == first.metadata["probability"]
    assert sorted(text for call in models.calls[1:] for text in call) == [
        "bomb.",
        "fine",
    ]  # the first call recognizes the model


async def test_a_sentence_has_one_result_whatever_stands_beside_it() -> None:
    lines = [f"{word} {index}" for index, word in enumerate([*WORDS, "fine"] * 80)]
    together = await SentenceScorer(access(WordVectors()), "words").probabilities(lines)
    for index in (0, 7, 399):
        (alone,) = await SentenceScorer(access(WordVectors()), "words").probabilities([lines[index]])
        assert alone.tolist() == together[index].tolist()


async def test_results_beyond_the_cache_s_limit_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_CACHED_SENTENCES", 2)
    models = WordVectors()
    scorer = SentenceScorer(access(models), "words")
    for text in ("one", "two", "one", "three", "one", "two"):
        await scorer.probabilities([text])
    assert models.calls[1:] == [["one"], ["two"], ["three"], ["two"]]


async def test_a_message_of_one_megabyte_is_judged_to_its_last_sentence() -> None:
    text = "All is well here. " * 55_000 + "Now the bomb."
    assert len(text) > 900_000
    violation = await found(text, threshold=0.3)
    assert violation.metadata["sentence"] == "Now the bomb."


async def test_text_that_looks_like_binary_is_judged_like_any_other() -> None:
    assert await judged("\x00\x01\x7f" * 500) is None
    assert await judged("\x00\x01\x7f\n" * 50 + "bomb") is not None


async def test_another_sentence_model_gets_weights_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "stored_weights", lambda: word_weights()._replace(probe=unit_vectors([[1, 0]])[0]))
    models = WordVectors()
    (ours,) = await SentenceScorer(access(models), "words").probabilities(["bomb fine"])
    texts = [example.text for example in examples()]
    assert models.calls[1] == texts
    vectors = unit_vectors((await models.embed("words", texts)).vectors)
    fitted = fit(vectors, [example.category for example in examples()])
    (expected,) = unit_vectors((await models.embed("words", ["bomb fine"])).vectors)
    assert ours == pytest.approx(fitted.probabilities(expected), abs=1e-6)


async def test_without_a_sentence_model_there_is_no_verdict_and_health_says_why() -> None:
    models = WordVectors()
    provider = guard(models)
    assert (await provider.health()).status == "OK"
    models.served = False
    with pytest.raises(ShieldError, match="needs a sentence model"):
        await judged("bomb", provider)
    assert "sentence model" in (await provider.health()).status


async def test_the_event_loop_is_free_while_a_long_message_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def divided(text: str) -> list[Sentence]:
        threads.append(threading.current_thread())
        return sentences(text)

    monkeypatch.setattr("workbench.providers.safety.content_guard.provider.sentences", divided)
    await judged("bomb")
    assert threads
    assert threads[0] is not threading.current_thread()


async def test_many_calls_at_once_from_several_event_loops_agree() -> None:
    provider = guard()

    async def several() -> list[float]:
        results = await asyncio.gather(*(judged(f"bomb {index % 3}", provider, threshold=0.2) for index in range(12)))
        return [result.metadata["probability"] for result in results if result]

    outcomes = await asyncio.gather(*(asyncio.to_thread(asyncio.run, several()) for _ in range(3)))
    assert all(outcome == outcomes[0] and len(outcome) == 12 for outcome in outcomes)
