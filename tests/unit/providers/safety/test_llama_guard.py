"""A guard model's verdict is read from its probabilities or its text, and anything else is an error, never "safe"."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.guard_models import GuardModel, access, configured, token
from workbench.errors import ConfigError, InvalidRequestError, ShieldError, UnsupportedContentError
from workbench.protocol import (
    URL,
    CompletionMessage,
    ImageMedia,
    Message,
    SafetyViolation,
    StopReason,
    SystemMessage,
    UserMessage,
    ViolationLevel,
)
from workbench.providers.safety.hazards import HAZARDS
from workbench.providers.safety.llama_guard import LlamaGuardProvider
from workbench.providers.safety.llama_guard.prompt import DESCRIPTIONS, guard_prompt
from workbench.providers.safety.llama_guard.verdicts import parsed

ASKED: list[Any] = [UserMessage(content="How do I do it?")]
MARKERS = ("<BEGIN UNSAFE CONTENT CATEGORIES>", "<END UNSAFE CONTENT CATEGORIES>", "<BEGIN CONVERSATION>")


def guard(models: GuardModel, **config: Any) -> LlamaGuardProvider:
    settings = {"model": "guard"} | config
    return LlamaGuardProvider(configured("inline::llama_guard", **settings), access(models))


async def judged(models: GuardModel, messages: Any = ASKED, **params: Any) -> SafetyViolation | None:
    return (await guard(models).run_shield("llama_guard", messages, params)).violation


def texts(*tokens: str) -> list[Any]:
    return [token(text, math.nan) for text in tokens]


# ------------------------------------------------------------------------------------------- from exact probabilities


async def test_the_probability_is_that_of_unsafe_among_the_verdicts_and_the_codes_are_ranked() -> None:
    models = GuardModel(
        {"safe": 0.1, "\n\nsafe": 0.1, "unsafe": 0.4, "\n\nunsafe": 0.2, "unsafe\nS9": 0.3, "unsafe\nS2": 0.1}
    )
    violation = await judged(models)
    assert violation is not None
    assert violation.violation_level == ViolationLevel.error
    assert violation.metadata["probability"] == pytest.approx(0.6 / 0.8)
    assert violation.metadata["categories"][:2] == ["S9", "S2"]
    assert (violation.metadata["category"], violation.metadata["source"]) == ("S9", "logits")


async def test_the_codes_follow_the_beginning_that_the_model_prefers() -> None:
    models = GuardModel({"safe": 0.1, "\n\nunsafe": 0.8, "\n\nunsafe\nS4": 0.7})
    violation = await judged(models)
    assert violation is not None
    assert violation.metadata["category"] == "S4"


async def test_s1_is_not_taken_for_the_beginning_of_s10() -> None:
    violation = await judged(GuardModel({"unsafe": 0.9, "unsafe\nS1": 0.8, "unsafe\nS10": 0.7}))
    assert violation is not None
    assert violation.metadata["category"] == "S10"


@pytest.mark.parametrize(
    "params,level",
    [
        ({}, None),
        ({"threshold": 0.3}, ViolationLevel.error),
        ({"threshold": 0.45, "warn_band": 0.1}, ViolationLevel.warn),
        ({"threshold": 0.9}, None),
    ],
)
async def test_thresholds_hold_for_the_exact_probability(params: dict[str, Any], level: ViolationLevel | None) -> None:
    violation = await judged(GuardModel({"safe": 0.6, "unsafe": 0.4, "unsafe\nS1": 0.4}), **params)
    assert (violation.violation_level if violation else None) == level


@pytest.mark.parametrize(
    "masses",
    [
        {"safe": 0.2, "unsafe": 0.2},  # another answer is more probable
        {"safe": math.nan, "unsafe": 0.9},
        {"safe": 0.1, "unsafe": 0.9, "unsafe\nS1": 0.1},  # names no category, or an unknown one
    ],
)
async def test_a_model_that_is_no_guard_gives_an_error(masses: dict[str, float]) -> None:
    with pytest.raises(ShieldError, match="guard gives no verdict"):
        await judged(GuardModel(masses))


async def test_only_the_chosen_categories_are_in_the_prompt_and_among_the_codes() -> None:
    models = GuardModel({"unsafe": 0.9, "unsafe\nS9": 0.8, "unsafe\nS2": 0.1})
    violation = await judged(models, categories=["S9", "S2"])
    assert violation is not None
    assert violation.metadata["categories"] == ["S9", "S2"]
    (prompt,) = [message.content for message in models.asked[0]]
    assert isinstance(prompt, str)
    assert [category for category in HAZARDS if f"\n{category}: " in prompt] == ["S2", "S9"]


# ------------------------------------------------------------------------------------------ from tokens and from text


async def test_with_logprobs_the_deciding_token_s_candidates_count() -> None:
    answer = [
        token("\n\n"),
        token("un", math.log(0.6), {"safe": 0.2, " safe": 0.1, "maybe": 0.05}),
        *texts("safe", "\nS5"),
    ]
    violation = await judged(GuardModel(answer=answer, logprobs=True))
    assert violation is not None
    assert violation.metadata["probability"] == pytest.approx(0.6 / 0.9)
    assert violation.metadata["categories"] == ["S5"]
    assert violation.metadata["source"] == "logprobs"


async def test_a_safe_answer_with_a_probable_unsafe_one_beside_it_obeys_the_threshold() -> None:
    models = GuardModel(answer=[token("safe", math.log(0.6), {"unsafe": 0.4})], logprobs=True)
    assert await judged(models) is None
    violation = await judged(models, threshold=0.3)
    assert violation is not None
    assert violation.metadata["category"] is None
    assert violation.user_message == "This message was flagged: Unsafe Content."


async def test_without_logprobs_the_text_decides_and_a_threshold_is_refused() -> None:
    assert await judged(GuardModel(answer=texts("sa", "fe"))) is None
    violation = await judged(GuardModel(answer=texts("unsafe\n", "S1,", "S12")))
    assert violation is not None
    assert (violation.metadata["probability"], violation.metadata["source"]) == (1.0, "text")
    with pytest.raises(InvalidRequestError, match=r"params\.threshold"):
        await judged(GuardModel(answer=texts("safe")), threshold=0.7)


async def test_the_answer_is_generated_greedily() -> None:
    models = GuardModel(answer=texts("safe"))
    await judged(models)
    (request,) = models.requests
    assert request.sampling_params.strategy == "greedy"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n",
        "maybe",
        "Safe message!",
        "safe\nS1",
        "unsafe",
        "unsafe\n",
        "unsafe\nS99",
        "unsafe\nS1,S99",
        "unsafe S1",
    ],
)
async def test_an_answer_that_is_no_verdict_is_an_error(answer: str) -> None:
    with pytest.raises(ShieldError, match="no verdict"):
        await judged(GuardModel(answer=texts(answer)))


@given(st.text(max_size=30))
def test_no_text_is_read_as_safe_but_safe_itself(answer: str) -> None:
    try:
        codes = parsed(answer, "guard", list(HAZARDS))
    except ShieldError:
        return
    assert answer.strip().lower() == "safe" if not codes else answer.strip().lower().startswith("unsafe")


@given(st.lists(st.sampled_from(list(HAZARDS)), min_size=1, unique=True), st.sampled_from([",", ", ", " ,"]))
def test_the_named_codes_are_those_of_the_answer(codes: list[Any], comma: str) -> None:
    assert parsed("\n\nunsafe\n" + comma.join(codes), "guard", list(HAZARDS)) == tuple(codes)


# --------------------------------------------------------------------------------------------------------- the prompt


def test_the_prompt_lists_categories_and_turns_and_asks_for_the_last_one() -> None:
    messages: list[Message] = [
        SystemMessage(content="You are kind."),
        UserMessage(content="Hello", context="a passage"),
        CompletionMessage(content="Hi there", stop_reason=StopReason.end_of_turn),
    ]
    prompt = guard_prompt(messages, list(HAZARDS))
    assert "\n\nUser: Hello\n\nAgent: Hi there\n\n<END CONVERSATION>" in prompt
    assert "kind" not in prompt
    assert "ONLY THE LAST Agent message" in prompt
    assert all(f"{code}: {name} ({DESCRIPTIONS[code]})." in prompt for code, name in HAZARDS.items())
    assert "ONLY THE LAST User message" in guard_prompt(messages[:2], list(HAZARDS))
    assert "User: You are kind." in guard_prompt(messages[:1], list(HAZARDS))


@given(st.lists(st.sampled_from(["<END CONVERSATION>", "< begin conversation>", "<", "\n\nUser: ", "safe", "x"])))
def test_no_message_can_end_the_conversation_of_the_prompt(parts: list[str]) -> None:
    prompt = guard_prompt([UserMessage(content="".join(parts))], list(HAZARDS))
    assert prompt.upper().count("END CONVERSATION>") - prompt.upper().count("(END CONVERSATION>") == 1
    assert all(prompt.count(marker) == 1 for marker in MARKERS)


# ------------------------------------------------------------------------------------------------------ configuration


async def test_a_chat_template_that_adds_the_task_gets_the_conversation_alone() -> None:
    models = GuardModel({"safe": 1.0})
    provider = guard(models, prompt="chat_template")
    await provider.run_shield("llama_guard", ASKED, {})
    assert models.asked == [ASKED]
    with pytest.raises(InvalidRequestError, match=r"params\.categories"):
        await provider.run_shield("llama_guard", ASKED, {"categories": ["S1"]})


async def test_a_model_that_is_not_served_gives_no_verdict_and_health_says_so() -> None:
    provider = guard(GuardModel({}), model="missing")
    with pytest.raises(ShieldError, match="missing cannot judge"):
        await provider.run_shield("llama_guard", ASKED)
    assert "missing" in (await provider.health()).status
    assert (await guard(GuardModel({})).health()).status == "OK"


async def test_an_empty_message_is_not_sent_to_the_model() -> None:
    models = GuardModel({})
    assert await judged(models, [UserMessage(content=" ")]) is None
    assert models.asked == []


async def test_an_image_anywhere_in_the_conversation_is_refused_by_name() -> None:
    messages = [UserMessage(content=ImageMedia(image=URL(uri="data:,"))), UserMessage(content="What is this?")]
    with pytest.raises(UnsupportedContentError, match=r"messages\[0\].content"):
        await judged(GuardModel({"safe": 1.0}), messages)


@pytest.mark.parametrize("config", [{"model": ""}, {"prompt": "other"}, {"threshold": 0.5}])
def test_a_bad_config_names_the_key(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        guard(GuardModel({}), **config)


@pytest.mark.parametrize("params", [{"categories": ["S14"]}, {"threshold": 1}, {"thresholds": {"S1": 0.5}}])
async def test_bad_parameters_are_refused_by_name(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=rf"params\.{next(iter(params))}"):
        await judged(GuardModel({"safe": 1.0}), **params)
