"""A stack tells its providers, its routes, and the health of each provider, and no sick one hides the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes.resources import DictionaryMemory, config_of, memory, safety, serve_fakes
from workbench.errors import WorkbenchError
from workbench.protocol import HealthInfo, Inspect, ProviderHealth, routes_of
from workbench.stack import Stack
from workbench.stack.apis import DEFAULT_APIS, SERVED_APIS
from workbench.stack.inspector import Inspector


def echo(provider_id: str) -> dict[str, Any]:
    return {"provider_id": provider_id, "provider_type": "inline::echo", "config": {}}


@pytest.fixture
def stack() -> Stack:
    return Stack({"providers": {"inference": [echo("a"), echo("b")]}})


class Patient:
    """Says how it is, or fails to."""

    def __init__(self, status: str | Exception | None) -> None:
        self.status = status

    async def health(self) -> HealthInfo:
        if self.status is None:
            await asyncio.Event().wait()
        if isinstance(self.status, Exception):
            raise self.status
        return HealthInfo(status=str(self.status))


def inspector_of(stack: Stack, **patients: str | Exception | None) -> Inspector:
    providers: Any = {name: Patient(status) for name, status in patients.items()}
    return Inspector(stack.config, {"inference": providers}, stack.apis, timeout_s=0.05)


async def test_it_satisfies_the_protocol_and_our_addition(stack: Stack) -> None:
    assert isinstance(stack.inspect, Inspect)
    assert isinstance(stack.inspect, ProviderHealth)
    assert {name: info.provider_type for name, info in (await stack.inspect.list_providers()).items()} == {
        "a": "inline::echo",
        "b": "inline::echo",
    }


async def test_every_marked_route_is_listed_with_the_types_that_answer_it(stack: Stack) -> None:
    listed = await stack.inspect.list_routes()
    assert {(api, route.route) for api, routes in listed.items() for route in routes} == {
        (api, route.route) for api in DEFAULT_APIS for each in SERVED_APIS[api] for route in routes_of(each)
    }
    assert {tuple(route.provider_types) for route in listed["inference"]} == {("inline::echo",)}
    assert "/models/unregister" in [route.route for route in listed["models"]]


async def test_the_providers_of_all_apis_are_listed_with_their_routes_and_health(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve_fakes(monkeypatch)
    stack = Stack(config_of([echo("a")], [safety("guard", "own"), safety("other")], [memory("notes")]))
    types = {"a": "inline::echo", "guard": "inline::word_shield", "other": "inline::word_shield"}
    types["notes"] = "inline::dictionary"
    listed = await stack.inspect.list_providers()
    assert {name: info.provider_type for name, info in listed.items()} == types
    routes = await stack.inspect.list_routes()
    answering = {api: {tuple(route.provider_types) for route in routes[api]} for api in routes}
    assert answering["safety"] == {("inline::word_shield",)}
    assert answering["memory"] == {("inline::dictionary",)}
    assert answering["shields"] == answering["memory_banks"] == {()}, "the stack itself answers them"
    assert [route.route for route in routes["memory"]] == ["/memory/insert", "/memory/query"]

    async def full(_: DictionaryMemory) -> HealthInfo:
        return HealthInfo(status="the disk is full")

    monkeypatch.setattr(DictionaryMemory, "health", full)
    health = {name: info.status for name, info in (await stack.inspect.provider_health()).items()}
    assert health == {"a": "OK", "guard": "OK", "other": "OK", "notes": "the disk is full"}


async def test_routes_that_the_config_does_not_serve_are_not_listed() -> None:
    stack = Stack({"providers": {"inference": [echo("a")]}, "apis": ["inspect"]})
    assert list(await stack.inspect.list_routes()) == ["inspect"]


async def test_the_stack_is_well_while_one_provider_is_and_each_is_told_apart(stack: Stack) -> None:
    assert (await stack.inspect.health()).status == "OK"
    mixed = inspector_of(
        stack,
        well="OK",
        sick="the disk is full",
        failing=WorkbenchError("no route"),
        broken=ValueError("sk-secret"),
        slow=None,
    )
    assert (await mixed.health()).status == "OK"
    assert {name: info.status for name, info in (await mixed.provider_health()).items()} == {
        "well": "OK",
        "sick": "the disk is full",
        "failing": "no route",
        "broken": "ValueError",
        "slow": "no answer within 0.05 s",
    }


async def test_a_stack_is_well_if_each_api_has_a_provider_that_is(stack: Stack) -> None:
    well, sick, failing = Patient("OK"), Patient("the disk is full"), Patient("no route")
    providers: Any = {"inference": {"a": sick, "b": well}, "safety": {}, "memory": {"c": sick, "d": failing}}
    inspector = Inspector(stack.config, providers, stack.apis)
    assert (await inspector.health()).status == "c: the disk is full; d: no route"
    providers["memory"]["e"] = well
    assert (await inspector.health()).status == "OK"


async def test_a_stack_of_sick_providers_says_why(stack: Stack) -> None:
    sick = inspector_of(stack, a="the disk is full", b=WorkbenchError("no route"))
    assert (await sick.health()).status == "a: the disk is full; b: no route"
    assert (await inspector_of(stack).health()).status == "OK", "nothing is nobody's fault"
