"""A second kind of resource has all that models have, in the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.fakes.providers import FakeProvider
from workbench.errors import InvalidRequestError, ResourceNotFoundError
from workbench.protocol import ModelDefWithProvider
from workbench.protocol.base import ProtocolModel
from workbench.protocol.refusal import invalid_request
from workbench.stack.models import ModelRegistry
from workbench.stack.registrations import RegistrationStore
from workbench.stack.registry import Registry
from workbench.stack.resources import ResourceKind


class Paper(ProtocolModel):
    """As a memory bank's definition, it names its provider itself, and is one of several types."""

    identifier: str
    provider_id: str = ""
    type: Literal["paper"] = "paper"
    pages: int
    ruled: bool = False


class Slate(ProtocolModel):
    identifier: str
    provider_id: str = ""
    type: Literal["slate"] = "slate"


NotePad: TypeAlias = Paper | Slate


class NotePadNotFoundError(ResourceNotFoundError):
    kind = "note pad"


class Stationer:
    provider_type = "inline::stationer"

    def __init__(self, *listed: NotePad, live_listing: bool = False) -> None:
        self.live_listing = live_listing
        self.pads: dict[str, NotePad] = {pad.identifier: pad for pad in listed}

    async def list_note_pads(self) -> list[NotePad]:
        return list(self.pads.values())

    async def register_note_pad(self, note_pad: NotePad) -> None:
        if isinstance(note_pad, Paper) and note_pad.pages < 1:
            raise InvalidRequestError("pages", note_pad.pages, "1 or more")
        self.pads[note_pad.identifier] = note_pad

    async def unregister_note_pad(self, identifier: str) -> None:
        if self.pads.pop(identifier, None) is None:
            raise NotePadNotFoundError(identifier, self.pads)


def parse(fields: dict[str, object]) -> NotePad:
    try:
        found: NotePad = TypeAdapter(NotePad).validate_python(fields)
    except ValidationError as error:
        raise invalid_request(error, fields) from None
    return found


NOTE_PAD: ResourceKind[NotePad, Stationer] = ResourceKind(
    name="note_pad",
    api="stationery",
    command="pads",
    definitions=(Paper, Slate),
    parse=parse,
    source=lambda pad: pad.pages if isinstance(pad, Paper) else pad.type,
    not_found=NotePadNotFoundError,
    list=lambda provider: provider.list_note_pads(),
    register=lambda provider, pad: provider.register_note_pad(pad),
    unregister=lambda provider, identifier: provider.unregister_note_pad(identifier),
)


@pytest.fixture
def store(tmp_path: Path) -> RegistrationStore:
    return RegistrationStore(tmp_path / "registrations.sqlite3")


async def opened(store: RegistrationStore, **stationers: Stationer) -> Registry[NotePad, Stationer]:
    registry = Registry(NOTE_PAD, stationers, store)
    await registry.open()
    return registry


async def test_it_is_registered_listed_found_restored_and_unregistered_beside_models(store: RegistrationStore) -> None:
    models = ModelRegistry({"local": FakeProvider()}, store)  # type: ignore[dict-item]
    model = ModelDefWithProvider(identifier="same", llama_model="weights", provider_id="local")
    await models.register_model(model)
    pads: list[NotePad] = [
        Paper(identifier="same", provider_id="local", pages=3, ruled=True),
        Slate(identifier="gone", provider_id="local"),
        Slate(identifier="board", provider_id="school"),
    ]
    before = await opened(store, local=Stationer(Paper(identifier="own", pages=1)), school=Stationer())
    for pad in pads:
        await before.register(pad)
    await before.unregister("gone")

    again = await opened(store, local=Stationer(Paper(identifier="own", pages=1)), school=Stationer())
    own = Paper(identifier="own", provider_id="local", pages=1)
    assert again.definitions() == before.definitions() == [own, pads[0], pads[2]]
    assert again.find("local/same").definition == again.get("same") == pads[0]
    assert [again.is_listed(name) for name in ("own", "same")] == [True, False]
    assert again.find("board").provider.pads == {"board": pads[2]}
    await again.unregister("same")
    models = ModelRegistry({"local": FakeProvider()}, store)  # type: ignore[dict-item]
    await models.open()
    assert models.models() == [model]
    assert [row.identifier for row in store.rows("note_pad")] == ["board"]


async def test_what_is_not_served_is_refused_in_the_kind_s_own_words(store: RegistrationStore) -> None:
    registry = await opened(store, local=Stationer(Slate(identifier="own")))
    with pytest.raises(NotePadNotFoundError, match=r"no note pad 'x' is served; served note pads: own\."):
        registry.find("x")
    with pytest.raises(NotePadNotFoundError):
        await registry.unregister("x")
    assert registry.get("x") is None
    with pytest.raises(InvalidRequestError, match="note_pad must be a Paper or Slate; got"):
        await registry.register({"identifier": "x"})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="pages"):
        await registry.register(Paper(identifier="x", provider_id="local", pages=0))
    await registry.register(Paper(identifier="x", provider_id="local", pages=3))
    with pytest.raises(InvalidRequestError, match="does not already use for 3"):
        await registry.register(Paper(identifier="x", provider_id="local", pages=4))


async def test_what_changes_on_a_server_is_listed_again(store: RegistrationStore) -> None:
    server = Stationer(Slate(identifier="old"), live_listing=True)
    registry = await opened(store, server=server)
    server.pads = {"new": Slate(identifier="new")}
    await registry.refresh()
    assert registry.definitions() == [Slate(identifier="new", provider_id="server")]


async def test_a_definition_that_no_type_reads_any_more_is_a_warning_that_names_the_command(
    store: RegistrationStore,
) -> None:
    registry = await opened(store, local=Stationer())
    await registry.register(Paper(identifier="x", provider_id="local", pages=3))
    (row,) = store.rows("note_pad")
    row.definition["type"] = "papyrus"
    store.put(row)
    with pytest.warns(UserWarning, match=r"x, registered with .* could not be restored.*`workbench pads unregister x`"):
        after = await opened(store, local=Stationer())
    assert after.definitions() == []
