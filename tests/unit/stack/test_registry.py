"""Names find the provider that serves them, and the first to register one keeps it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.providers import FakeProvider
from workbench.errors import InvalidRequestError, ModelLoadError, ModelNotFoundError, StateError, WorkbenchError
from workbench.protocol import ModelDef, ModelDefWithProvider, Models, ModelUnregistration
from workbench.stack.models import ModelRegistry
from workbench.stack.naming import served
from workbench.stack.registrations import RegistrationStore


def registry_of(store: RegistrationStore | None = None, **providers: Any) -> ModelRegistry:
    return ModelRegistry(providers, store)


def definition(identifier: str, provider_id: str, llama_model: str = "weights", **metadata: Any) -> Any:
    return ModelDefWithProvider(
        identifier=identifier, llama_model=llama_model, provider_id=provider_id, metadata=metadata
    )


def listed(registry: ModelRegistry) -> list[tuple[str, str]]:
    return [(known.provider_id, known.identifier) for known in registry.models()]


@pytest.fixture
def registry() -> ModelRegistry:
    registry = registry_of(a=FakeProvider(), b=FakeProvider())
    for provider_id in ("a", "b"):
        registry.add(ModelDef(identifier="same", llama_model="weights"), provider_id)
    registry.add(ModelDef(identifier="other", llama_model="weights"), "b")
    return registry


@pytest.fixture
def store(tmp_path: Path) -> RegistrationStore:
    return RegistrationStore(tmp_path / "state" / "registrations.sqlite3")


def test_it_satisfies_the_protocol_and_our_addition(registry: ModelRegistry) -> None:
    assert isinstance(registry, Models)
    assert isinstance(registry, ModelUnregistration)


# ---------------------------------------------------------------------------------------------------------------- names


def test_the_plain_name_goes_to_whoever_registered_it_first(registry: ModelRegistry) -> None:
    assert registry.find("same").definition.provider_id == "a"
    assert registry.find("a/same").definition.provider_id == "a"
    assert registry.find("b/same").definition.provider_id == "b"
    assert registry.find("other").definition.provider_id == "b"


def test_the_list_shows_both(registry: ModelRegistry) -> None:
    assert listed(registry) == [("a", "same"), ("b", "same"), ("b", "other")]
    assert [known.name for known in registry.registrations()] == ["same", "b/same", "other"]


names = st.text("ab/", min_size=1, max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "ab"]), names), unique=True))
def test_both_names_of_every_registration_find_it_whatever_else_is_registered(keys: list[tuple[str, str]]) -> None:
    providers: Any = {provider_id: FakeProvider() for provider_id in ("a", "b", "ab")}
    models = {key: definition(key[1], key[0]) for key in keys}
    found = served(models, providers)
    assert [known.definition for known in found.registrations] == list(models.values())
    for known in found.registrations:
        assert found.by_name[known.name] is known
        assert found.by_name[f"{known.definition.provider_id}/{known.definition.identifier}"] is known
    for provider_id, identifier in keys:  # a plain name is its first holder's, unless it is another one's full name
        first = next(key for key in keys if key[1] == identifier)
        full = next((key for key in keys if "/".join(key) == identifier), None)
        holder = found.by_name[identifier].definition
        assert (holder.provider_id, holder.identifier) == (full or first)
        assert provider_id in providers


@pytest.mark.parametrize("name", ["", "nobody", "a/other", "c/same", "same/a", "A/same", "../same"])
async def test_any_other_name_is_not_found_and_the_served_ones_are_told(registry: ModelRegistry, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="b/same, other, same"):
        registry.find(name)
    assert await registry.get_model(name) is None
    with pytest.raises(ModelNotFoundError, match="b/same, other, same"):
        await registry.unregister_model(name)


# ---------------------------------------------------------------------------------------------- registering at run time


async def test_a_registered_model_is_served_after_its_provider_has_agreed(registry: ModelRegistry) -> None:
    await registry.register_model(definition("new", "b"))
    assert registry.find("new").definition.provider_id == "b"


async def test_what_the_provider_refuses_is_neither_served_nor_kept(store: RegistrationStore) -> None:
    registry = registry_of(store, a=FakeProvider(refusal=ValueError("no such folder")))
    with pytest.raises(ValueError, match="no such folder"):
        await registry.register_model(definition("new", "a"))
    assert registry.models() == []
    assert not store.path.exists()


async def test_registering_the_same_again_changes_nothing(registry: ModelRegistry) -> None:
    for identifier, provider_id in (("same", "a"), ("new", "b"), ("new", "b")):
        await registry.register_model(definition(identifier, provider_id))
    assert len(registry.models()) == 4


async def test_other_metadata_replaces_what_was_there_in_its_place(registry: ModelRegistry) -> None:
    await registry.register_model(definition("same", "b", note="better"))
    assert listed(registry) == [("a", "same"), ("b", "same"), ("b", "other")]
    assert registry.find("b/same").definition.metadata == {"note": "better"}


async def test_another_model_under_a_taken_name_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(InvalidRequestError, match="identifier"):
        await registry.register_model(definition("same", "a", "other-weights"))


async def test_an_unknown_provider_is_refused_with_those_there_are(registry: ModelRegistry) -> None:
    with pytest.raises(InvalidRequestError, match=r"provider_id.*a, b"):
        await registry.register_model(definition("new", "c"))


@pytest.mark.parametrize("identifier", ["", " ", "\n\t", " x", "x ", "a\nb", "\x1b[31m", "x" * 257])
async def test_what_can_be_no_name_is_refused(registry: ModelRegistry, identifier: str) -> None:
    with pytest.raises(InvalidRequestError, match="identifier"):
        await registry.register_model(definition(identifier, "a"))
    assert len(registry.models()) == 3


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": float("nan")}, {"x": {1}}])
async def test_metadata_that_could_not_be_kept_is_refused(registry: ModelRegistry, metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="metadata"):
        await registry.register_model(definition("new", "a", **metadata))


@pytest.mark.parametrize("model", [None, "same", {"identifier": "x"}])
async def test_what_is_no_model_is_refused(registry: ModelRegistry, model: Any) -> None:
    with pytest.raises(InvalidRequestError, match="model"):
        await registry.register_model(model)
    with pytest.raises(InvalidRequestError, match="identifier"):
        await registry.unregister_model(model if model != "same" else b"same")  # type: ignore[arg-type]


async def test_an_unregistered_model_leaves_its_name_to_the_next(registry: ModelRegistry) -> None:
    providers: Any = {known.definition.provider_id: known.provider for known in registry.registrations()}
    providers["a"].models["same"] = definition("same", "a")
    await registry.unregister_model("same")
    assert listed(registry) == [("b", "same"), ("b", "other")]
    assert registry.find("same").definition.provider_id == "b"
    assert [known.name for known in registry.registrations()] == ["same", "other"]
    assert providers["a"].changes == [("unregister", "same")]


async def test_what_its_provider_has_forgotten_by_itself_can_be_unregistered(registry: ModelRegistry) -> None:
    await registry.unregister_model("other")
    assert listed(registry) == [("a", "same"), ("b", "same")]


# ------------------------------------------------------------------------------------------------------ after a restart


async def test_what_was_registered_is_served_after_a_restart_and_what_was_unregistered_is_not(
    store: RegistrationStore,
) -> None:
    before = registry_of(store, a=FakeProvider("own"), b=FakeProvider("own"))
    await before.open()
    for name in ("first", "gone", "last"):
        await before.register_model(definition(name, "b", f"{name}-weights", note=name))
    await before.unregister_model("gone")

    after = registry_of(store, a=FakeProvider("own", "last"), b=FakeProvider("own"))
    await after.open()
    assert listed(after) == [("a", "own"), ("a", "last"), ("b", "own"), ("b", "first"), ("b", "last")]
    restored = after.find("b/last").definition
    assert (restored.llama_model, restored.metadata) == ("last-weights", {"note": "last"})
    assert after.find("last").definition.provider_id == "a", "what the config names keeps its plain name"


async def test_what_a_provider_lists_by_itself_is_not_kept(store: RegistrationStore) -> None:
    registry = registry_of(store, a=FakeProvider("own"))
    await registry.open()
    await registry.register_model(definition("own", "a"))
    assert not store.path.exists()


async def test_an_unregistered_model_of_the_config_can_be_registered_again(store: RegistrationStore) -> None:
    registry = registry_of(store, a=FakeProvider("own"))
    await registry.open()
    await registry.unregister_model("own")
    await registry.register_model(definition("own", "a"))
    assert [row.identifier for row in store.rows("model")] == ["own"]


async def test_only_a_provider_of_the_same_type_is_asked_again(store: RegistrationStore) -> None:
    await registry_of(store, a=FakeProvider()).register_model(definition("new", "a"))
    other = FakeProvider()
    other.provider_type = "inline::other"
    for providers in ({"a": other}, {"b": FakeProvider()}):
        after = registry_of(store, **providers)
        await after.open()
        assert after.models() == []
    assert [row.identifier for row in store.rows("model")] == ["new"]


async def test_what_is_refused_after_a_restart_is_a_warning_and_kept_until_it_is_unregistered(
    store: RegistrationStore,
) -> None:
    before = registry_of(store, a=FakeProvider())
    for name in ("new", "newer"):
        await before.register_model(definition(name, "a"))
    provider = FakeProvider("own", refusal=ModelLoadError("no such folder"))
    after = registry_of(store, a=provider)
    with pytest.warns(
        UserWarning, match=r"newe?r?, registered with provider.*no such folder.*models unregister"
    ) as warned:
        await after.open()
    assert len(warned) == 2
    assert listed(after) == [("a", "own")]
    await after.unregister_model("a/new")
    assert [row.identifier for row in store.rows("model")] == ["newer"]
    with pytest.raises(ModelNotFoundError):
        await after.unregister_model("new")
    provider.refusal = None
    await after.register_model(definition("newer", "a", "moved"))
    assert [(row.identifier, row.definition["llama_model"]) for row in store.rows("model")] == [("newer", "moved")]


async def test_the_config_wins_over_what_was_registered_under_the_same_name(store: RegistrationStore) -> None:
    await registry_of(store, a=FakeProvider()).register_model(definition("new", "a", "old-weights"))
    after = registry_of(store, a=FakeProvider("new"))
    with pytest.warns(UserWarning, match="does not already use for weights"):
        await after.open()
    assert after.find("new").definition.llama_model == "weights"


async def test_a_registration_that_cannot_be_kept_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    provider = FakeProvider()
    registry = registry_of(RegistrationStore(tmp_path / "file" / "x.sqlite3"), a=provider)
    await registry.open()
    with pytest.raises(StateError, match="WORKBENCH_STATE"):
        await registry.register_model(definition("new", "a"))
    assert registry.models() == []
    assert provider.models == {}


@pytest.mark.parametrize("content", [b"no database at all, only text" * 50, b"SQLite format 3\0" + bytes(2000)])
async def test_a_damaged_file_is_a_warning_and_all_else_is_served(store: RegistrationStore, content: bytes) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    registry = registry_of(store, a=FakeProvider("own"))
    with pytest.warns(UserWarning, match=r"registrations\.sqlite3.*damaged"):
        await registry.open()
    assert listed(registry) == [("a", "own")]


# -------------------------------------------------------------------------------------------- providers that are silent


async def test_a_provider_that_cannot_be_asked_is_a_warning_and_is_asked_again_later(store: RegistrationStore) -> None:
    await registry_of(store, away=FakeProvider()).register_model(definition("mine", "away"))
    away = FakeProvider("theirs", listing_fails=WorkbenchError("nobody listens at cluster:8000"))
    registry = registry_of(store, away=away, here=FakeProvider("own"))
    with pytest.warns(UserWarning, match=r"'away'.*cluster:8000"):
        await registry.open()
    assert listed(registry) == [("here", "own")]
    with pytest.raises(ModelNotFoundError, match=r"served models: own.*away did not answer.*cluster:8000"):
        registry.find("theirs")
    assert [model.identifier for model in await registry.list_models()] == ["own"]
    away.listing_fails = None
    assert [model.identifier for model in await registry.list_models()] == ["own", "theirs", "mine"]
    with pytest.raises(ModelNotFoundError, match=r"choose one\.$"):
        registry.find("nobody")


async def test_a_provider_that_never_answers_keeps_nobody_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.stack.registry._LISTING_TIMEOUT_S", 0.05)
    hung = FakeProvider()
    hung.list_models = asyncio.Event().wait  # type: ignore[method-assign, assignment]
    registry = registry_of(hung=hung, here=FakeProvider("own"))
    with pytest.warns(UserWarning, match=r"'hung' .*: no answer within 0.05 s"):
        await registry.open()
    assert listed(registry) == [("here", "own")]


async def test_the_order_is_the_config_s_whoever_answers_first() -> None:
    slow = FakeProvider("same")
    answer = slow.list_models

    async def slowly() -> list[ModelDef]:
        await asyncio.sleep(0.02)
        return await answer()

    slow.list_models = slowly  # type: ignore[method-assign]
    registry = registry_of(a=slow, b=FakeProvider("same"))
    await registry.open()
    assert listed(registry) == [("a", "same"), ("b", "same")]


async def test_what_a_server_lists_is_asked_anew_and_what_was_registered_on_it_stays() -> None:
    server, local = FakeProvider("old", "kept"), FakeProvider("own")
    server.live_listing = True
    registry = registry_of(server=server, local=local)
    await registry.open()
    await registry.register_model(definition("alias", "server"))
    del server.models["old"]
    for provider in (server, local):
        provider.models["new"] = ModelDef(identifier="new", llama_model="weights")
    assert registry.find("old").name == "old", "nobody has asked since"
    names = [f"{model.provider_id}/{model.identifier}" for model in await registry.list_models()]
    assert names == ["server/kept", "local/own", "server/alias", "server/new"]
    await registry.unregister_model("alias")
    assert "alias" not in [model.identifier for model in await registry.list_models()]


async def test_many_who_ask_at_once_share_the_answers() -> None:
    server = FakeProvider("one")
    server.live_listing = True
    asked = 0
    answer = server.list_models

    async def counting() -> list[ModelDef]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return await answer()

    server.list_models = counting  # type: ignore[method-assign]
    registry = registry_of(server=server)
    await registry.open()
    answers = await asyncio.gather(*(registry.list_models() for _ in range(50)))
    assert {len(models) for models in answers} == {1}
    assert asked <= 3


# ------------------------------------------------------------------------------------------------- many threads at once


def test_a_thousand_changes_from_eight_threads_leave_memory_store_and_provider_agreeing(
    store: RegistrationStore,
) -> None:
    provider = FakeProvider("own")
    registry = registry_of(store, a=provider)
    asyncio.run(registry.open())
    kept: dict[int, set[str]] = {}
    errors: list[BaseException] = []

    async def change(worker: int) -> None:
        """Own names come and go in a known order; every name of the shared ones is fought over."""
        mine = kept[worker] = set()
        for step in range(budget(125)):
            name, shared = f"mine-{worker}-{step % 20}", f"shared-{step % 5}"
            if name in mine:
                await registry.unregister_model(name)
                mine.discard(name)
            else:
                await registry.register_model(definition(name, "a"))
                mine.add(name)
            assert (await registry.get_model(name) is not None) == (name in mine)
            try:
                await registry.register_model(definition(shared, "a", f"weights-{worker % 2}"))
                await registry.unregister_model(shared)
            except (InvalidRequestError, ModelNotFoundError):
                pass  # another one was faster

    def work(worker: int) -> None:
        try:
            asyncio.run(change(worker))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    in_memory = {model.identifier for model in registry.models()}
    expected = {"own"} | set(itertools.chain.from_iterable(kept.values()))
    assert {name for name in in_memory if not name.startswith("shared")} == expected
    assert set(provider.models) == in_memory
    assert {row.identifier for row in store.rows("model")} == in_memory - {"own"}


async def test_a_cancelled_registration_is_whole_or_not_at_all(store: RegistrationStore) -> None:
    provider = FakeProvider()
    registry = registry_of(store, a=provider)
    for steps in range(12):
        task = asyncio.ensure_future(registry.register_model(definition(f"model-{steps}", "a")))
        for _ in range(steps):
            await asyncio.sleep(0.001 if steps % 2 else 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        in_memory = {model.identifier for model in registry.models()}
        assert in_memory == set(provider.models) == {row.identifier for row in store.rows("model")}
