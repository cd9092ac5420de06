"""The tutorial of providers is run as it stands, block by block."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench import Workbench

TUTORIAL = (Path(__file__).parents[3] / "docs" / "writing-a-provider.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
    assert found
    return found


async def test_every_block_runs_and_what_it_asserts_holds() -> None:
    names: dict[str, Any] = {"__name__": "tutorial"}
    for number, block in enumerate(blocks("python")):
        code = compile(block, f"block {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, names)  # where it awaits, what comes back is to be awaited
        if inspect.isawaitable(running):
            await running


def test_the_first_provider_has_less_than_fifteen_lines() -> None:
    assert len(blocks("python")[0].splitlines()) < 15


def test_its_package_is_found_by_the_entry_point_and_the_run_config_that_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shouting.py").write_text(blocks("python")[0])
    facts = tmp_path / "shouting-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    entries = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]["workbench.providers"]
    lines = [f"{name} = {target}\n" for name, target in entries.items()]
    (facts / "entry_points.txt").write_text("".join(["[workbench.providers]\n", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    with Workbench(yaml.safe_load(blocks("yaml")[0])) as bench:
        assert bench.completion("to be").result().completion_message.content == "TO BE "
    sys.modules.pop("shouting")
