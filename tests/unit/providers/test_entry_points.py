"""Provider types of other packages are found by their entry points, and ours come first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import ConfigError
from workbench.protocol import Provider
from workbench.providers import (
    PROVIDER_TYPES,
    class_of,
    create,
    create_memory,
    create_safety,
    provider_class,
    provider_types,
)

SHOUT = """
from workbench.providers.interface import InferenceProvider

from workbench.providers.memory.interface import MemoryProvider
from workbench.providers.safety.interface import SafetyProvider

class Shout(InferenceProvider):
    async def generate(self, request):
        yield request.text.upper()

class Hush(SafetyProvider):
    shield_types = ("hush",)

class Attic(MemoryProvider):
    pass

nothing = 7
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package with entry points of one of our groups, for one test."""

    def install(group: str = "workbench.providers", **entries: str) -> None:
        (tmp_path / "shouting.py").write_text(SHOUT)
        facts = tmp_path / "shouting-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
        lines = "".join(f"inline::{name} = {target}\n" for name, target in entries.items())
        (facts / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    sys.modules.pop("shouting", None)


def configured(provider_type: str) -> Provider:
    return Provider(provider_id="loud", provider_type=provider_type, config={"models": ["m"]})


async def test_an_installed_package_brings_its_provider_type(installed: Any) -> None:
    installed(shout="shouting:Shout")
    assert provider_types() == sorted([*PROVIDER_TYPES, "inline::shout"])
    provider = create(configured("inline::shout"))
    assert (await provider.completion("m", "hello")).completion_message.content == "HELLO"


def test_our_own_types_cannot_be_taken_over(installed: Any) -> None:
    installed(echo="shouting:Shout")
    assert provider_class("inline::echo").__name__ == "EchoProvider"
    assert provider_types().count("inline::echo") == 1


@pytest.mark.parametrize(
    "target,said",
    [
        ("shouting:nothing", "is not a subclass of InferenceProvider: 7"),
        ("shouting:Missing", "cannot be imported: .*Missing"),
        ("no_such_module:Shout", "cannot be imported: .*no_such_module"),
    ],
)
def test_a_package_that_is_broken_is_named(installed: Any, target: str, said: str) -> None:
    installed(broken=target)
    with pytest.raises(ConfigError, match=rf"provider 'loud': provider_type 'inline::broken' {said}"):
        create(configured("inline::broken"))


def test_an_unknown_type_is_refused_with_all_that_there_are(installed: Any) -> None:
    installed(shout="shouting:Shout")
    with pytest.raises(ConfigError, match=r"unknown provider_type 'inline::shot'; known types: .*inline::shout"):
        create(configured("inline::shot"))


GROUPS = {"safety": ("workbench.safety_providers", "Hush", create_safety)} | {
    "memory": ("workbench.memory_providers", "Attic", create_memory)
}


@pytest.mark.parametrize("api", GROUPS)
def test_an_installed_package_brings_types_for_safety_and_memory_which_are_of_that_api_alone(
    installed: Any, api: str
) -> None:
    group, name, make = GROUPS[api]
    before = {each: provider_types(each) for each in ("inference", "safety", "memory")}
    installed(group, own=f"shouting:{name}")
    assert {each: provider_types(each) for each in before} == before | {api: sorted([*before[api], "inline::own"])}
    provider = Provider(provider_id="loud", provider_type="inline::own", config={})
    models: Any = object()
    made = make(provider, models)
    assert (type(made).__name__, made.models) == (name, models)
    with pytest.raises(ConfigError, match="provider 'loud': unknown provider_type 'inline::own'"):
        create(provider)


@pytest.mark.parametrize("api", GROUPS)
def test_a_type_of_another_api_is_refused(installed: Any, api: str) -> None:
    group, _, make = GROUPS[api]
    installed(group, own="shouting:Shout")
    base = {"safety": "SafetyProvider", "memory": "MemoryProvider"}[api]
    with pytest.raises(ConfigError, match=f"provider_type 'inline::own' is not a subclass of {base}"):
        class_of(api, "inline::own")
    models: Any = object()
    with pytest.raises(ConfigError, match="provider 'loud': provider_type 'inline::own' is not a subclass"):
        make(Provider(provider_id="loud", provider_type="inline::own", config={}), models)
