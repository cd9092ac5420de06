"""What every safety provider type keeps to: shields come and go by name, and what it does not know it refuses by name.

A new provider type adds its candidate to `CANDIDATES`; the tests do the rest.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes.guard_models import GuardModel, WordVectors, access, word_weights
from tests.tiny_classifiers import PROMPT_GUARD
from workbench.errors import ConfigError, InvalidRequestError, ShieldNotFoundError, UnsupportedContentError
from workbench.protocol import (
    URL,
    CompletionMessage,
    ImageMedia,
    Message,
    Provider,
    Safety,
    ShieldDefWithProvider,
    ShieldsProtocolPrivate,
    StopReason,
    SystemMessage,
    ToolResponseMessage,
    UserMessage,
    ViolationLevel,
)
from workbench.providers import SAFETY_PROVIDER_TYPES, class_of, create_safety
from workbench.providers.safety.content_guard import scoring
from workbench.providers.safety.interface import SafetyProvider
from workbench.providers.safety.prompt_guard import provider as prompt_guard
from workbench.providers.safety.prompt_guard.classifiers import TextPart
from workbench.records import Score
from workbench.stack.shields import SafetyRouter, ShieldRegistry


class BombGuard(GuardModel):
    """A guard model that finds the last message unsafe if it has the word bomb."""

    def __init__(self) -> None:
        super().__init__({})

    async def score(self, model: str, prompt: Any, continuations: list[str], alternatives: int = 0) -> list[Score]:
        last = prompt[-1].content.partition("<END CONVERSATION>")[0].strip().rpartition("\n\n")[2]
        self._masses = {"unsafe": 0.9, "unsafe\nS9": 0.8, "safe": 0.1} if "bomb" in last else {"safe": 0.9}
        return await super().score(model, prompt, continuations, alternatives)


class BombClassifier:
    """A classifier of one part for each text, which is an attack if it has the word bomb."""

    labels = PROMPT_GUARD
    is_exclusive = True

    def parts(self, text: str) -> list[TextPart]:
        probabilities = [0.1, 0.0, 0.9] if "bomb" in text else [0.9, 0.0, 0.1]
        return [TextPart(text, 0, len(text), lambda: probabilities)]


@dataclass(frozen=True)
class Candidate:
    """One provider type, with what it finds harmful."""

    models: Callable[[], object] = WordVectors
    """Models that its stack serves."""
    harmful: str = "Bring the bomb here."
    config: dict[str, Any] = field(default_factory=dict)
    bad_params: dict[str, Any] = field(default_factory=dict)
    """Values that parameters of its own must not have."""
    lenient: dict[str, Any] = field(default_factory=dict)
    """Parameters with which it finds nothing in ``harmful``."""


CANDIDATES: dict[str, Candidate] = {
    "inline::code_scanner": Candidate(
        harmful="Run this:\n```python\nconnection.execute('SELECT name FROM users WHERE id = %s' % given)\n```",
        bad_params={"error_severity": "extreme", "min_confidence": 7},
        lenient={"min_confidence": "high"},
    ),
    "inline::content_guard": Candidate(
        harmful="bomb", bad_params={"threshold": 2, "categories": ["S99"]}, lenient={"categories": ["S1"]}
    ),
    "inline::llama_guard": Candidate(
        BombGuard,
        config={"model": "guard"},
        bad_params={"threshold": -1, "categories": []},
        lenient={"threshold": 0.99},
    ),
    "inline::prompt_guard": Candidate(
        config={"model": "a classifier that needs no weights"},
        bad_params={"threshold": "high", "labels": []},
        lenient={"threshold": 0.99},
    ),
}
"""By provider type, its candidate, whose models and classifiers need no weights."""

HARMLESS = "The weather is fine today."
PICTURE = ImageMedia(image=URL(uri="data:image/png;base64,iVBORw0KGgo="))


@dataclass(frozen=True)
class Served:
    """A provider behind the registry and the router of a stack."""

    candidate: Candidate
    provider: SafetyProvider
    shields: ShieldRegistry
    safety: SafetyRouter

    @property
    def name(self) -> str:
        """Name of the shield that it runs from the start."""
        [registration] = self.shields.registrations()
        return registration.definition.identifier

    def definition(self, identifier: str, shield_type: str = "", **params: Any) -> ShieldDefWithProvider:
        shield_type = shield_type or self.provider.shield_types[0]
        return ShieldDefWithProvider(identifier=identifier, type=shield_type, params=params, provider_id="one")

    async def judged(self, content: Any, shield: str = "", params: dict[str, Any] | None = None) -> Any:
        response = await self.safety.run_shield(shield or self.name, [UserMessage(content=content)], params)
        return response.violation


@pytest.fixture(autouse=True)
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "stored_weights", word_weights)
    monkeypatch.setattr(prompt_guard, "load_classifier", lambda _model: BombClassifier())


def created(provider_type: str, **config: Any) -> SafetyProvider:
    candidate = CANDIDATES[provider_type]
    described = Provider(provider_id="one", provider_type=provider_type, config=candidate.config | config)
    return create_safety(described, access(candidate.models()))


@pytest.fixture(params=sorted(CANDIDATES))
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    provider = created(request.param)
    registry = ShieldRegistry({"one": provider})
    await registry.open()
    yield Served(CANDIDATES[request.param], provider, registry, SafetyRouter(registry))
    provider.close()


# ------------------------------------------------------------------------------------------------------ types, life


def test_every_safety_provider_type_of_ours_is_here() -> None:
    assert set(CANDIDATES) == set(SAFETY_PROVIDER_TYPES)
    assert all(issubclass(class_of("safety", name), SafetyProvider) for name in SAFETY_PROVIDER_TYPES)


async def test_it_satisfies_the_protocols_and_says_what_it_runs(served: Served) -> None:
    assert isinstance(served.provider, Safety)
    assert isinstance(served.provider, ShieldsProtocolPrivate)
    assert served.provider.shield_types
    assert served.candidate.bad_params.keys() <= served.provider.Params.model_fields.keys()


async def test_it_is_healthy_and_closing_twice_is_harmless(served: Served) -> None:
    assert (await served.provider.health()).status == "OK"
    await served.judged(HARMLESS)
    served.provider.close()
    served.provider.close()


@pytest.mark.parametrize("provider_type", sorted(CANDIDATES))
@pytest.mark.parametrize(
    "config, path",
    [
        ({"colour": "blue"}, "colour"),
        ({"shields": [{"identifier": "x", "type": "sieve"}]}, r"shields\[0\]\.type"),
        ({"shields": [{"identifier": "x", "params": {"colour": 1}}]}, r"shields\[0\]\.params\.colour"),
        ({"shields": [{"identifier": "x"}, {"identifier": "x"}]}, r"shields\[1\]\.identifier"),
        ({"shields": [{"identifier": ""}]}, r"shields\[0\]\.identifier"),
    ],
)
def test_a_config_that_is_not_allowed_is_refused_by_its_path(
    provider_type: str, config: dict[str, Any], path: str
) -> None:
    with pytest.raises(ConfigError, match=f"'one'.*{path}"):
        created(provider_type, **config)


@pytest.mark.parametrize("provider_type", sorted(CANDIDATES))
async def test_its_config_chooses_its_shields_and_their_params(provider_type: str) -> None:
    candidate = CANDIDATES[provider_type]
    shields = [{"identifier": "strict"}, {"identifier": "lenient", "params": candidate.lenient}]
    provider = created(provider_type, shields=shields)
    assert [one.identifier for one in await provider.list_shields()] == ["strict", "lenient"]
    messages: list[Message] = [UserMessage(content=candidate.harmful)]
    assert (await provider.run_shield("strict", messages)).violation is not None
    assert (await provider.run_shield("lenient", messages)).violation is None


# ---------------------------------------------------------------------------------------------------------- shields


async def test_a_shield_comes_at_run_time_and_goes_again(served: Served) -> None:
    first = served.name
    added = served.definition("added", **served.candidate.lenient)
    await served.shields.register_shield(added)
    assert [one.identifier for one in await served.shields.list_shields()] == [first, "added"]
    assert await served.shields.get_shield("added") == await served.shields.get_shield("one/added") == added
    assert served.provider.get_shield("added").params == served.candidate.lenient
    assert await served.judged(served.candidate.harmful, "added") is None
    await served.shields.unregister_shield("added")
    assert await served.shields.get_shield("added") is None
    for side in (served.safety, served.provider):
        with pytest.raises(ShieldNotFoundError, match=first):
            await side.run_shield("added", [UserMessage(content=HARMLESS)])
    assert [one.identifier for one in await served.provider.list_shields()] == [first]


async def test_an_unknown_shield_is_an_error_that_lists_those_that_run(served: Served) -> None:
    with pytest.raises(ShieldNotFoundError, match=served.name):
        await served.judged(HARMLESS, "nobody")
    with pytest.raises(ShieldNotFoundError, match=served.name):
        served.provider.get_shield("nobody")
    with pytest.raises(ShieldNotFoundError, match=served.name):
        await served.provider.unregister_shield("nobody")
    assert await served.shields.get_shield("nobody") is None


async def test_a_type_that_it_does_not_run_is_refused_with_those_that_it_runs(served: Served) -> None:
    with pytest.raises(InvalidRequestError, match=served.provider.shield_types[0]) as caught:
        await served.shields.register_shield(served.definition("sieve", "sieve"))
    assert caught.value.field == "type"
    assert await served.shields.get_shield("sieve") is None
    for shield_type in served.provider.shield_types:
        await served.shields.register_shield(served.definition(f"my {shield_type}", shield_type))
        assert await served.judged(served.candidate.harmful, f"my {shield_type}") is not None


async def test_params_that_are_not_allowed_are_refused_by_name(served: Served) -> None:
    for name, value in ({"colour": "blue"} | served.candidate.bad_params).items():
        with pytest.raises(InvalidRequestError) as caught:
            await served.shields.register_shield(served.definition("other", **{name: value}))
        assert caught.value.field.startswith(f"params.{name}")
        with pytest.raises(InvalidRequestError) as caught:
            await served.judged(HARMLESS, params={name: value})
        assert caught.value.field.startswith(f"params.{name}")
    assert await served.shields.get_shield("other") is None


# --------------------------------------------------------------------------------------------------------- verdicts


async def test_a_violation_says_what_was_found_and_what_is_harmless_has_none(served: Served) -> None:
    violation = await served.judged(served.candidate.harmful)
    assert violation.violation_level in {ViolationLevel.error, ViolationLevel.warn}
    assert violation.user_message
    assert violation.metadata["category"]
    assert json.loads(json.dumps(violation.metadata, allow_nan=False)) == violation.metadata
    assert 0 <= violation.metadata.get("probability", 1) <= 1
    assert await served.judged(HARMLESS) is None
    assert await served.judged([HARMLESS, "\n", served.candidate.harmful]) is not None


async def test_a_message_without_text_is_no_violation(served: Served) -> None:
    content: Any
    for content in ("", " \n", []):
        assert await served.judged(content) is None


async def test_the_last_message_of_any_role_is_judged_and_the_others_are_its_context(served: Served) -> None:
    harmful, name = served.candidate.harmful, served.name
    messages: list[Message] = [
        UserMessage(content=harmful),
        UserMessage(content=HARMLESS, context=harmful),
        SystemMessage(content=harmful),
        CompletionMessage(content=harmful, stop_reason=StopReason.end_of_turn),
        ToolResponseMessage(call_id="1", tool_name="web", content=harmful),
    ]
    harmless = UserMessage(content=HARMLESS)
    for message in messages:
        assert (await served.safety.run_shield(name, [harmless, message])).violation is not None, message.role
        assert (await served.safety.run_shield(name, [message, harmless])).violation is None, message.role


async def test_params_of_a_call_hold_for_that_call_alone(served: Served) -> None:
    harmful = served.candidate.harmful
    before = await served.judged(harmful)
    assert await served.judged(harmful, params=served.candidate.lenient) is None
    assert await served.judged(harmful) == before
    assert served.provider.get_shield(served.name).params == {}
    await served.shields.register_shield(served.definition("lenient", **served.candidate.lenient))
    fields = served.provider.Params.model_fields
    usual = {name: fields[name].get_default(call_default_factory=True) for name in served.candidate.lenient}
    assert await served.judged(harmful, "lenient", usual) == before, "they replace those of the definition"
    assert await served.judged(harmful, "lenient") is None


async def test_an_image_never_passes_unjudged(served: Served) -> None:
    for content in (PICTURE, [HARMLESS, PICTURE]):
        with pytest.raises(UnsupportedContentError) as caught:
            await served.judged(content)
        assert caught.value.field.startswith("messages[0].content")


async def test_messages_that_are_none_are_refused(served: Served) -> None:
    useless: Any
    for useless, path in (([], "messages"), ("text", "messages"), ([HARMLESS], "messages[0]")):
        with pytest.raises(InvalidRequestError) as caught:
            await served.safety.run_shield(served.name, useless)
        assert caught.value.field == path


# ------------------------------------------------------------------------------------------------------------ tasks


async def test_a_cancelled_check_harms_no_other(served: Served) -> None:
    alone = await served.judged(served.candidate.harmful)
    for steps in range(6):
        task = asyncio.ensure_future(served.judged(served.candidate.harmful))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await served.judged(served.candidate.harmful) == alone


async def test_checks_at_once_and_from_another_event_loop_are_what_they_are_alone(served: Served) -> None:
    texts = [served.candidate.harmful, HARMLESS] * 6
    alone = [await served.judged(text) for text in texts[:2]]

    async def together() -> list[Any]:
        return list(await asyncio.gather(*map(served.judged, texts)))

    assert await together() == alone * 6
    assert await asyncio.to_thread(asyncio.run, together()) == alone * 6
