"""Run configs from every source, with errors that name the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench.errors import ConfigError
from workbench.protocol import RunConfig
from workbench.stack import default_run_config, load_run_config

CONFIG: dict[str, Any] = {
    "providers": {"inference": [{"provider_id": "a", "provider_type": "inline::transformers", "config": {}}]}
}
YAML = (
    "providers: {inference: [{provider_id: a, provider_type: 'inline::transformers', config: {token: '${env.TOKEN}'}}]}"
)


def test_every_source_gives_the_same_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(YAML.replace("{token: '${env.TOKEN}'}", "{}"))
    expected = load_run_config(CONFIG).providers
    assert load_run_config(path).providers == load_run_config(str(path)).providers == expected
    assert load_run_config(load_run_config(path)).providers == expected
    monkeypatch.setenv("WORKBENCH_CONFIG", str(path))
    assert load_run_config().providers == expected
    monkeypatch.delenv("WORKBENCH_CONFIG")
    assert load_run_config().providers == default_run_config().providers


def test_the_environment_is_read_into_the_providers_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(YAML)
    monkeypatch.setenv("TOKEN", "a ${env.TOKEN} 'quoted': value")
    assert load_run_config(path).providers["inference"][0].config == {"token": "a ${env.TOKEN} 'quoted': value"}


def test_a_missing_variable_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(YAML)
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"providers\.inference\[0\]\.config\.token needs .* TOKEN"):
        load_run_config(path)


@pytest.mark.parametrize("text", ["", "- list", "just text", "a: [", "\t:", "a: b: c", "!!python/object:os.system {}"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_run_config(path)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe\x00")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "run.yaml"
    make(path)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_run_config(path)


def test_a_value_in_an_error_is_never_a_secret(tmp_path: Path) -> None:
    bad = {"providers": {"inference": [{"provider_id": "a", "provider_type": "x", "config": "canary-key"}]}}
    with pytest.raises(ConfigError, match="config") as caught:
        load_run_config(bad)
    assert "canary-key" not in str(caught.value)


def test_a_config_given_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    given = RunConfig.model_validate(
        {
            "built_at": "2026-01-01T00:00:00",
            "image_name": "x",
            "providers": {
                "inference": [{"provider_id": "a", "provider_type": "t", "config": {"token": "${env.TOKEN}"}}]
            },
        }
    )
    assert load_run_config(given).providers["inference"][0].config == {"token": "secret"}
    assert given.providers["inference"][0].config == {"token": "${env.TOKEN}"}
