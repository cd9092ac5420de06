"""Every field that the ``openai`` package documents, at the edges of its values: taken, or refused by its name.

The fields are those of the package's own parameter types, so that a new one there fails here until it is decided on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Union, get_type_hints

import openai
import pytest
from pydantic import TypeAdapter

from tests.fakes.http_server import TOKEN, serving
from tests.fakes.openai_values import PLACES
from tests.fakes.serving import FakeModels
from tests.unit.server.conftest import ECHO
from workbench.server.openai.requests import ChatRequest


@pytest.fixture(scope="module")
def api() -> Iterator[openai.OpenAI]:
    """In front of ``echo``, ``echo-embedding``, and ``random``, which can follow a grammar."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        models = FakeModels(monkeypatch)
        models.add("random")
        instances = ECHO["providers"]["inference"] + models.config["providers"]["inference"]
        with (
            serving({"providers": {"inference": instances}}) as served,
            openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as api,
        ):
            yield api


def ask(api: openai.OpenAI, place: str, name: str, value: Any) -> None:
    """Send the value by the client's own method, whole and streamed."""
    one = PLACES[place]
    request = one.request(name, value) | (one.fields[name].beside if name in one.fields else {})
    if one.route == "embeddings":
        api.embeddings.create(**{"model": "echo-embedding"} | request)
        return
    if one.route == "parsed":  # of images, which no model here reads
        ChatRequest.model_validate({"model": "echo"} | request)
        return
    limit = {} if "max_completion_tokens" in request else {"max_tokens": 60}
    asked = {"model": "echo"} | limit | request
    create: Any = (api.chat.completions if one.route == "chat" else api.completions).create
    if "stream" not in asked:
        create(**asked)
        asked["stream"] = True
    answer = create(**asked)
    assert not asked["stream"] or list(answer)


@cache
def documented(place: str) -> dict[str, Any]:
    """What the client's types have there, with what each field may be."""
    hints: dict[str, Any] = {}
    for kind in PLACES[place].types:
        for name, hint in get_type_hints(kind).items():
            hints[name] = Union[hints.get(name, hint), hint]  # noqa: UP007 - the other form takes no forward references
    return {name: TypeAdapter(hint) for name, hint in hints.items()}


def cases(*kinds: str) -> list[Any]:
    return [
        pytest.param(place, name, value, id=f"{place}-{name}-{kind}-{index}")
        for place, one in PLACES.items()
        for name, allowed in one.fields.items()
        for kind in kinds
        for index, value in enumerate(getattr(allowed, kind))
    ]


@pytest.mark.parametrize("place", PLACES)
def test_every_field_of_the_clients_types_is_decided_on(place: str) -> None:
    older = {"name"} if place == "tool" else set()  # which many clients send along, though it is documented no more
    assert set(PLACES[place].fields) == documented(place).keys() | older
    assert all(one.taken or one.foreign or one.refused for one in PLACES[place].fields.values())


@pytest.mark.parametrize("place, name, value", cases("taken"))
def test_what_is_taken_is_of_the_clients_own_types(place: str, name: str, value: Any) -> None:
    validated = documented(place)[name].validate_python(value)
    list(validated if isinstance(validated, Iterator) else ())  # what is iterated is checked on the way


@pytest.mark.parametrize("place, name, value", cases("taken", "foreign"))
def test_a_value_is_taken(api: openai.OpenAI, place: str, name: str, value: Any) -> None:
    ask(api, place, name, value)


@pytest.mark.parametrize("place, name, value", cases("refused"))
def test_a_value_is_refused_by_the_name_of_its_field(api: openai.OpenAI, place: str, name: str, value: Any) -> None:
    one = PLACES[place]
    if one.route == "parsed":
        with pytest.raises(ValueError, match=name):
            ask(api, place, name, value)
        return
    with pytest.raises(openai.APIStatusError) as refused:
        ask(api, place, name, value)
    error = refused.value
    assert (error.status_code, error.type) in {(400, "InvalidRequestError"), (501, "UnsupportedFieldError")}
    assert str(error.param).startswith(f"{one.path}{name}")
    assert error.message.count(str(error.param))


@pytest.mark.parametrize("place", ["chat", "completions", "embeddings"])
def test_what_nobody_documents_is_refused(api: openai.OpenAI, place: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(api, place, "extra_body", {"surprise": None})
    assert refused.value.param == "surprise"
