"""A shield is found by its names, runs with its provider, and is registered, restored and unregistered like a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.resources import config_of, safety, serve_fakes
from workbench.errors import InvalidRequestError, ShieldError, ShieldNotFoundError, UnsupportedContentError
from workbench.protocol import (
    URL,
    ImageMedia,
    Message,
    RunShieldResponse,
    Safety,
    ShieldDefWithProvider,
    Shields,
    ShieldUnregistration,
    UserMessage,
    ViolationLevel,
)
from workbench.stack import Stack

BAD = UserMessage(content="a forbidden word")
USELESS: Any = UserMessage.model_construct(content=7)  # type: ignore[arg-type]


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    serve_fakes(monkeypatch)
    return config_of(safety=[safety("one", "same", "own"), safety("two", "same")])


@pytest.fixture
async def stack(config: dict[str, Any]) -> AsyncIterator[Stack]:
    stack = Stack(config)
    await stack.open()
    yield stack
    stack.close()


def shield(
    identifier: str, provider_id: str = "two", shield_type: str = "word", **params: Any
) -> ShieldDefWithProvider:
    return ShieldDefWithProvider(identifier=identifier, type=shield_type, provider_id=provider_id, params=params)


async def names(stack: Stack) -> list[str]:
    return [f"{one.provider_id}/{one.identifier}" for one in await stack.shields.list_shields()]


async def test_it_satisfies_the_protocols(stack: Stack) -> None:
    assert isinstance(stack.safety, Safety)
    assert isinstance(stack.shields, Shields)
    assert isinstance(stack.shields, ShieldUnregistration)


async def test_the_plain_name_is_the_first_provider_s_and_the_full_one_either_s(stack: Stack) -> None:
    assert await names(stack) == ["one/same", "one/own", "two/same"]
    await stack.shields.register_shield(shield("own", words=["moon"]))
    moon: list[Message] = [UserMessage(content="the moon")]
    assert (await stack.safety.run_shield("own", moon)).violation is None
    assert (await stack.safety.run_shield("two/own", moon)).violation is not None
    found = await stack.shields.get_shield("two/own")
    assert found == shield("own", words=["moon"])
    assert stack.safety.get_shield("two/own").params == {"words": ["moon"]}


async def test_a_shield_judges_the_last_message_and_its_params_can_be_replaced_for_a_call(stack: Stack) -> None:
    response = await stack.safety.run_shield("own", [BAD])
    assert response.violation is not None
    assert response.violation.violation_level is ViolationLevel.error
    assert response.violation.metadata == {"word": "forbidden"}
    assert await stack.safety.run_shield("own", [BAD, UserMessage(content="fine")]) == RunShieldResponse()
    assert await stack.safety.run_shield("own", [BAD], {"words": ["moon"]}) == RunShieldResponse()
    assert (await stack.safety.run_shield("own", [BAD])).violation == response.violation, "only for that call"


async def test_an_unknown_name_is_not_found_and_the_served_ones_are_listed(stack: Stack) -> None:
    with pytest.raises(ShieldNotFoundError, match=r"no shield 'no' is served; served shields: own, same, two/same\."):
        await stack.safety.run_shield("no", [BAD])
    with pytest.raises(ShieldNotFoundError):
        stack.safety.get_shield("no")
    with pytest.raises(ShieldNotFoundError):
        await stack.shields.unregister_shield("no")
    assert await stack.shields.get_shield("no") is None


@pytest.mark.parametrize(
    "field,call",
    [
        ("shield_type", {"shield_type": None}),
        ("shield_type", {"shield_type": ["own"]}),
        ("messages", {"messages": []}),
        ("messages", {"messages": "a text"}),
        (r"messages\[1\]", {"messages": [BAD, {"role": "user", "content": "x"}]}),
        (r"messages\[0\].content", {"messages": [USELESS]}),
        ("params", {"params": ["words"]}),
        ("params", {"params": {7: 7}}),
        ("params.word", {"params": {"word": "x"}}),
        ("params.words", {"params": {"words": 7}}),
    ],
)
async def test_a_call_with_a_wrong_field_names_it(stack: Stack, field: str, call: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^{field} must be "):
        await stack.safety.run_shield(**{"shield_type": "own", "messages": [BAD], **call})


async def test_what_a_shield_cannot_judge_is_an_error_and_never_safe(stack: Stack) -> None:
    with pytest.raises(ShieldError, match="no verdict"):
        await stack.safety.run_shield("own", [UserMessage(content="really?")])
    image = ImageMedia(image=URL(uri="data:,"))
    with pytest.raises(UnsupportedContentError):
        await stack.safety.run_shield("own", [UserMessage(content=[image])])


async def test_a_registration_outlives_the_stack_and_an_unregistered_one_does_not(config: dict[str, Any]) -> None:
    first = Stack(config)
    await first.open()
    for name in ("kept", "gone"):
        await first.shields.register_shield(shield(name, words=[name]))
    await first.shields.unregister_shield("gone")
    first.close()
    again = Stack(config)
    await again.open()
    assert await names(again) == ["one/same", "one/own", "two/same", "two/kept"]
    assert (await again.safety.run_shield("kept", [UserMessage(content="kept")])).violation is not None
    assert [again.shields.is_listed(name) for name in ("own", "kept")] == [True, False]
    await again.shields.unregister_shield("kept")
    with pytest.raises(ShieldNotFoundError):
        await again.safety.run_shield("kept", [BAD])
    again.close()


@pytest.mark.parametrize(
    "field,definition",
    [
        ("shield", {"identifier": "x"}),
        ("identifier", shield("")),
        ("identifier", shield("x" * 257)),
        ("provider_id", shield("x", provider_id="three")),
        ("type", shield("x", shield_type="code_scanner")),
        ("params", shield("x", words={1})),
        ("params.words", shield("x", words="moon")),
        ("params.surprise", shield("x", surprise=1)),
        ("identifier", shield("same", "one", "llama_guard")),
    ],
)
async def test_a_definition_that_cannot_be_served_names_the_field_and_changes_nothing(
    stack: Stack, field: str, definition: Any
) -> None:
    before = await names(stack)
    with pytest.raises(InvalidRequestError, match=rf"^{field} must be "):
        await stack.shields.register_shield(definition)
    assert await names(stack) == before


async def test_a_stack_without_safety_providers_serves_none_and_says_so() -> None:
    stack = Stack(config_of())
    await stack.open()
    assert await stack.shields.list_shields() == []
    with pytest.raises(ShieldNotFoundError, match="served shields: none"):
        await stack.safety.run_shield("own", [BAD])
    with pytest.raises(InvalidRequestError, match="one of the configured safety providers: none; got"):
        await stack.shields.register_shield(shield("x"))
    stack.close()
