"""Every block of code in docs/ is run as it stands.

Blocks of Python share their names from one page's top to its end, and may await. What a comment behind a ``print`` says
is in what that block prints. Pages in ``TESTED_ELSEWHERE`` have tests of their own.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import workbench
from tests.adapter_files import write_adapter
from tests.fakes.http_server import TOKEN, serving
from workbench.cli import build_parser
from workbench.stack import default_run_config, load_run_config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)

TESTED_ELSEWHERE = {
    ("writing-a-provider.md", "python"): "tests/unit/providers/test_tutorial.py",
    ("run-config.md", "python"): "tests/unit/stack/test_run_config_page.py",
    ("serving.md", "python"): "tests/unit/test_docs_code.py",
}

STAYS = {"play", "lab", "serve", "chat", "bench", "doctor"}
"""Commands that go on until somebody ends them, or judge the machine: only their options are looked at."""

ELSEWHERE = ("ray ", "vllm ", "export ", "pip download ")
"""What is run on other machines, or needs a network."""


def pages(language: str) -> list[Path]:
    return [page for page in sorted(DOCS.glob("*.md")) if blocks(page, language)]


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in _BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def name_of(page: Path) -> str:
    return page.stem


@pytest.fixture
def desk(tmp_path: Path, smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as readers have it: with a model of their own in it, and an adapter of that model."""
    (tmp_path / "my-model").symlink_to(smollm2_path)
    write_adapter(tmp_path / "adapter", {f"model.layers.{layer}.self_attn.q_proj": (576, 576) for layer in range(30)})
    monkeypatch.chdir(tmp_path)
    for name in ("VLLM_TOKEN", "WORKBENCH_TOKEN"):
        monkeypatch.setenv(name, "a-token")
    return tmp_path


def test_every_block_is_of_a_language_that_is_run_or_of_plain_text() -> None:
    languages = {found for page in DOCS.glob("*.md") for found, _ in _BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert languages == {"python", "sh", "yaml", "json", "toml", "text"}


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("page", pages("python"), ids=name_of)
async def test_python(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if elsewhere := TESTED_ELSEWHERE.get((page.name, "python")):
        assert page.name in (ROOT / elsewhere).read_text(encoding="utf-8")
        return
    names: dict[str, Any] = {"__name__": page.stem}
    try:
        for number, code in enumerate(blocks(page, "python")):
            compiled = compile(
                code, f"{page.name}[{number}]", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            running = eval(compiled, names)
            if inspect.isawaitable(running):
                await running
            printed = capsys.readouterr().out
            for said in re.findall(r"print\(.*\)  # (.+)$", code, re.MULTILINE):
                assert said in printed
    finally:
        for bench in [value for value in names.values() if isinstance(value, workbench.Workbench)]:
            bench.close()


def test_the_client_of_the_page_about_serving() -> None:
    code, _ = blocks(DOCS / "serving.md", "python")
    models = {"models": ["smollm2-135m-instruct"]}
    instance = {"provider_id": "echo", "provider_type": "inline::echo", "config": models}
    with serving({"providers": {"inference": [instance]}}) as served:
        names: dict[str, Any] = {"token": TOKEN}
        exec(code.replace("http://127.0.0.1:8321", served.url), names)
        assert "Hi" in "".join(chunk.choices[0].delta.content or "" for chunk in names["stream"])
        names["client"].close()


def test_the_look_into_a_model_of_the_page_about_serving(
    smollm2_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, code = blocks(DOCS / "serving.md", "python")
    with serving(default_run_config().model_dump() | {"apis": ["insides"]}) as served:
        names: dict[str, Any] = {"token": TOKEN}
        exec(code.replace("http://127.0.0.1:8321", served.url), names)
        names["server"].close()
    printed = [line.partition("  # ")[2] for line in code.splitlines() if line.startswith("print")]
    assert capsys.readouterr().out.splitlines() == printed


@pytest.mark.parametrize("page", pages("sh"), ids=name_of)
def test_commands(page: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if config := blocks(page, "yaml"):
        (desk / "run.yaml").write_text(config[0])
    for line in "".join(blocks(page, "sh")).splitlines():
        command, _, output = line.rpartition("| ")[2].partition(" > ")
        words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_]+=", word)]
        if words[:1] == ["workbench"]:
            parsed = build_parser().parse_args(words[1:])
            if page.name != "commands.md" and words[1] not in STAYS and words[1:3] != ["models", "pull"]:
                assert parsed.run(parsed) == 0
                if output:
                    (desk / output.split()[0]).write_text(capsys.readouterr().out)
        elif words and not line.startswith(ELSEWHERE):
            assert_known(words)
    capsys.readouterr()


def assert_known(words: list[str]) -> None:
    """A target of make, an extra of the distribution, or a script of the repository."""
    match words:
        case ["make", target, *_]:
            assert re.search(rf"^{target}:.* ## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        case ["pip", "install", wanted]:
            (extra,) = re.findall(r"^inference-workbench\[(\w+)\]$", wanted)
            assert extra in PROJECT["optional-dependencies"]
        case [".venv/bin/python", file, *_] | ["jupyter", "execute", file]:
            assert (ROOT / file).is_file()
        case _:
            pytest.fail(f"nothing here runs {shlex.join(words)!r}")


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("page", pages("yaml"), ids=name_of)
def test_run_configs(page: Path) -> None:
    for code in blocks(page, "yaml"):
        config = yaml.safe_load(code)
        if "providers" not in config:  # one provider of such a file
            instance = {"provider_id": "one"} | config
            config = {"providers": {"inference": [instance]}}
        if page.name != "writing-a-provider.md":  # its type is made by the page itself
            load_run_config(config)


@pytest.mark.parametrize("page", pages("json") + pages("toml"), ids=name_of)
def test_data(page: Path) -> None:
    for code in blocks(page, "json"):
        json.loads(code)
    for code in blocks(page, "toml"):
        tomllib.loads(code)
