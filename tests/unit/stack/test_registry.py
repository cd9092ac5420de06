"""Names find the provider that serves them, and the first to register one keeps it."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.errors import InvalidRequestError, ModelNotFoundError
from workbench.protocol import ModelDef, ModelDefWithProvider
from workbench.stack.registry import Registry


class FakeProvider:
    """Takes every model, or refuses all."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.registered: list[ModelDef] = []
        self._refusal = refusal

    async def register_model(self, model: ModelDef) -> None:
        if self._refusal:
            raise self._refusal
        self.registered.append(model)


def registry_of(**providers: Any) -> Registry:
    return Registry(providers)


def definition(identifier: str, provider_id: str, llama_model: str = "weights") -> ModelDefWithProvider:
    return ModelDefWithProvider(identifier=identifier, llama_model=llama_model, provider_id=provider_id)


@pytest.fixture
def registry() -> Registry:
    registry = registry_of(a=FakeProvider(), b=FakeProvider())
    for provider_id in ("a", "b"):
        registry.add(ModelDef(identifier="same", llama_model="weights"), provider_id)
    registry.add(ModelDef(identifier="other", llama_model="weights"), "b")
    return registry


def test_the_plain_name_goes_to_whoever_registered_it_first(registry: Registry) -> None:
    assert registry.find("same").model.provider_id == "a"
    assert registry.find("a/same").model.provider_id == "a"
    assert registry.find("b/same").model.provider_id == "b"
    assert registry.find("other").model.provider_id == "b"


def test_the_list_shows_both(registry: Registry) -> None:
    assert [(known.provider_id, known.identifier) for known in registry.models()] == [
        ("a", "same"),
        ("b", "same"),
        ("b", "other"),
    ]
    assert [known.name for known in registry.registrations()] == ["same", "b/same", "other"]


def test_every_shortest_name_finds_its_own_registration(registry: Registry) -> None:
    for known in registry.registrations():
        assert registry.find(known.name) is known


@pytest.mark.parametrize("name", ["", "nobody", "a/other", "c/same", "same/a", "A/same", "../same"])
async def test_any_other_name_is_not_found_and_the_served_ones_are_told(registry: Registry, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="other, same"):
        registry.find(name)
    assert await registry.get_model(name) is None


async def test_a_registered_model_is_served_after_its_provider_has_agreed(registry: Registry) -> None:
    await registry.register_model(definition("new", "b"))
    assert registry.find("new").model.provider_id == "b"


async def test_what_the_provider_refuses_is_not_served() -> None:
    registry = registry_of(a=FakeProvider(ValueError("no such folder")))
    with pytest.raises(ValueError, match="no such folder"):
        await registry.register_model(definition("new", "a"))
    assert registry.models() == []


async def test_registering_the_same_again_changes_nothing(registry: Registry) -> None:
    await registry.register_model(definition("same", "a"))
    assert len(registry.models()) == 3


async def test_another_model_under_a_taken_name_is_refused(registry: Registry) -> None:
    with pytest.raises(InvalidRequestError, match="identifier"):
        await registry.register_model(definition("same", "a", "other-weights"))


async def test_an_unknown_provider_is_refused_with_those_there_are(registry: Registry) -> None:
    with pytest.raises(InvalidRequestError, match=r"provider_id.*a, b"):
        await registry.register_model(definition("new", "c"))


@pytest.mark.parametrize("identifier", ["", " ", "\n\t"])
async def test_a_blank_name_is_refused(registry: Registry, identifier: str) -> None:
    with pytest.raises(InvalidRequestError, match="identifier"):
        await registry.register_model(definition(identifier, "a"))
    assert len(registry.models()) == 3
