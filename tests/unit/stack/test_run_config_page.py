"""What the page about run configs says is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import workbench as wb
from workbench.errors import ConfigError
from workbench.protocol import Provider, RunConfig
from workbench.stack import load_run_config
from workbench.stack.apis import PROVIDER_APIS, SERVED_APIS
from workbench.stack.registrations import FILE_NAME

PAGE = (Path(__file__).parents[3] / "docs" / "run-config.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TOKEN", "the-token-of-the-example")


def test_the_example_is_right_as_a_whole() -> None:
    config = load_run_config(yaml.safe_load(block("yaml")))
    assert [provider.provider_id for provider in config.providers["inference"]] == ["local", "exact", "cluster"]


def test_every_key_is_in_the_table() -> None:
    told = {
        name for cell in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", cell)
    }
    assert told == {*RunConfig.model_fields, *Provider.model_fields, *(f"providers.{api}" for api in PROVIDER_APIS)} - {
        "providers"
    }
    assert all(f"`{api}`" in PAGE for api in SERVED_APIS)
    assert FILE_NAME in PAGE


def test_the_errors_read_as_they_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    instances: list[dict[str, Any]] = yaml.safe_load(block("yaml"))["providers"]["inference"]
    instances[0]["config"]["quantisation"] = instances[0]["config"].pop("quantization")
    instances[1]["provider_type"] = "inline::transformer"
    Path("run.yaml").write_text(yaml.safe_dump({"providers": {"inference": instances}}))
    with pytest.raises(ConfigError) as caught:
        load_run_config("run.yaml")
    shown = [re.escape(line).replace(r"\.\.\.", ".*") for line in block("text").splitlines()]
    assert [bool(re.fullmatch(*pair)) for pair in zip(shown, str(caught.value).splitlines(), strict=True)] == [True] * 2


def test_the_python_does_what_it_says() -> None:
    own = {"models": ["one"], "embedding_models": []}
    instances = [{"provider_id": name, "provider_type": "inline::echo", "config": own} for name in ("local", "exact")]
    names: dict[str, Any] = {"wb": wb, "config": {"providers": {"inference": instances}}}
    lines = block("python").splitlines()
    try:
        for line in lines:
            exec(line, names)
            if "# [" in line:
                code, _, said = line.partition("# ")
                assert repr(eval(code, names)) == said
        assert [model.identifier for model in names["bench"].list_models()] == ["one", "one"]
    finally:
        names["bench"].close()
