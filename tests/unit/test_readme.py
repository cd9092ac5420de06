"""What the README says is true: its picture, its Python, its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from workbench.cli import build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("workbench ")]


def test_the_picture_shows_every_module_of_the_package_and_nothing_else() -> None:
    picture = blocks("text")[0].split("notebooks/")[0]
    shown = {name for line in picture.splitlines()[1:] for name in re.findall(r"([\w.]+)", line[:20])}
    shown = {name.removesuffix(".py") for name in shown}
    there = {path.stem for path in (ROOT / "workbench").iterdir() if path.suffix == ".py" or path.is_dir()}
    # What every package has, and says nothing about this one.
    assert shown == there - {"__pycache__", "__main__", "_version"}


def test_every_folder_of_the_picture_is_there() -> None:
    assert all((ROOT / name).is_dir() for name in re.findall(r"^(\w+)/", blocks("text")[0], re.MULTILINE))


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_that_the_command_line_takes(command: str) -> None:
    args = build_parser().parse_args(shlex.split(command, comments=True)[1:])
    assert callable(args.run)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https:)([^)#]+)\)", README))
def test_every_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).is_file()


@pytest.mark.usefixtures("smollm2_path")
def test_the_python_runs_finds_paris_and_asks_for_the_weather(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "y")
    names: dict[str, object] = {}
    try:
        for code in blocks("python")[:2]:
            exec(compile(code, "README.md", "exec"), names)
    finally:
        names["bench"].close()  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    assert "Paris" in printed
    assert "{'location': 'San Francisco'" in printed
