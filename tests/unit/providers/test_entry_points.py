"""Provider types of other packages are found by their entry points, and ours come first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import ConfigError
from workbench.protocol import Provider
from workbench.providers import PROVIDER_TYPES, create, provider_class, provider_types

SHOUT = """
from workbench.providers.interface import InferenceProvider

class Shout(InferenceProvider):
    async def generate(self, request):
        yield request.text.upper()

nothing = 7
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package with entry points of our group, for one test."""

    def install(**entries: str) -> None:
        (tmp_path / "shouting.py").write_text(SHOUT)
        facts = tmp_path / "shouting-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
        lines = "".join(f"inline::{name} = {target}\n" for name, target in entries.items())
        (facts / "entry_points.txt").write_text(f"[workbench.providers]\n{lines}")
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
