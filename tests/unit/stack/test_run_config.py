"""Run configs from every source, right as a whole or refused with everything that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import resources
from tests.fakes.devices import NVIDIA, stand_on
from workbench import providers
from workbench.errors import ConfigError
from workbench.protocol import Provider, RunConfig
from workbench.stack import Stack, default_run_config, load_run_config
from workbench.stack.apis import DEFAULT_APIS, SERVED_APIS


def config_of(*instances: dict[str, Any], **heading: Any) -> dict[str, Any]:
    return {**heading, "providers": {"inference": list(instances)}}


def echo(provider_id: str = "a", **config: Any) -> dict[str, Any]:
    return {"provider_id": provider_id, "provider_type": "inline::echo", "config": config}


CONFIG = config_of(echo(models=["one"]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def test_every_source_gives_the_same_config(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(yaml.safe_dump(CONFIG))
    expected = load_run_config(CONFIG).providers
    assert load_run_config(path).providers == load_run_config(str(path)).providers == expected
    assert load_run_config(load_run_config(path)).providers == expected
    monkeypatch.setenv("WORKBENCH_CONFIG", str(path))
    assert load_run_config().providers == expected
    monkeypatch.delenv("WORKBENCH_CONFIG")
    assert load_run_config().providers == default_run_config().providers


def test_what_is_dumped_can_be_loaded_again(path: Path) -> None:
    config = load_run_config(CONFIG)
    path.write_text(config.model_dump_json())
    assert load_run_config(path) == config
    assert load_run_config(config.model_dump()) == config


# -------------------------------------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("text", ["", "- list", "just text", "a: [", "\t:", "a: b: c", "!!python/object:os.system {}"])
def test_a_file_that_is_no_mapping_is_named(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_run_config(path)


@pytest.mark.parametrize(
    "text,said",
    [
        ("providers: {}\nproviders: {inference: []}", "line 2, column 1: the key 'providers' is given twice"),
        ("providers:\n  inference: []\n  inference: []", "line 3, column 3: the key 'inference' is given twice"),
        ("? [providers]\n: {}", "line 1, column 3: an alias, a tag or a key"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_what_the_library_would_read_otherwise_than_meant_is_refused(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_run_config(path)


def test_a_mapping_may_still_take_over_another_one(path: Path) -> None:
    path.write_text(
        "providers: {inference: [{provider_id: a, provider_type: 'inline::echo', config: &one {models: [x]}},"
        " {provider_id: b, provider_type: 'inline::echo', config: {<<: *one, delay_s: 0}}]}"
    )
    assert load_run_config(path).providers["inference"][1].config == {"models": ["x"], "delay_s": 0}


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe\x00")])
def test_a_file_that_cannot_be_read_is_named(path: Path, make: Any) -> None:
    make(path)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_run_config(path)


@pytest.mark.parametrize(
    "text",
    [
        "api_token: canary-key: x",
        "api_token: *canary-key",
        "api_token: !canary-key x",
        "api_token: 'canary-key",
        "api_token: canary-key\n\tx: y",
        "api_token: [canary-key",
        "api_token: @canary-key",
        "{api_token: canary-key]",
    ],
)
def test_a_text_that_is_no_yaml_is_told_by_its_place_alone(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml: it is not valid YAML, line \d, column \d+: ") as caught:
        load_run_config(path)
    assert "canary" not in str(caught.value)


# ----------------------------------------------------------------------------------- every key, and all of them at once

KEYS_OF_PROVIDER = "its fields are provider_id, provider_type, config"


@pytest.mark.parametrize(
    "config,said",
    [
        (config_of(version="1"), "version must be '2'; got '1'"),
        (
            config_of(apis=["models", "agents"]),
            "apis[1] must be one of inference, models, safety, shields, memory, memory_banks, inspect, insides; got '",
        ),
        (config_of(model_folders=[".", ""]), "model_folders[1] must be an existing folder; got ''"),
        (config_of(model_folders=["/missing"]), "model_folders[0] must be an existing folder; got '/missing'"),
        (config_of(model_folders=["~nobody here/x"]), "model_folders[0] must be a path whose ~ names a user"),
        (config_of(model_folders="."), "model_folders must be "),
        ({"providers": {"agents": []}}, "providers.agents must be left out; allowed: inference, safety, memory"),
        (
            config_of({**echo(), "provider_typ": "x"}),
            (
                "providers.inference[0].provider_typ must be left out: Provider has no such field (did you mean"
                f" provider_type? {KEYS_OF_PROVIDER})"
            ),
        ),
        (
            config_of({**echo(), "provider_type": "inline::ecko"}),
            "providers.inference[0].provider_type must be one of inline::echo, ",
        ),
        (config_of(echo("")), "providers.inference[0].provider_id must be non-empty and printable"),
        (config_of(echo("a/b")), "providers.inference[0].provider_id must be non-empty and printable, with no slash"),
        (config_of(echo("a\nb")), "providers.inference[0].provider_id must be non-empty and printable"),
        (
            config_of(echo("a"), echo("a")),
            "providers.inference[1].provider_id must be unique; got 'a', which providers",
        ),
        (
            config_of(echo(), echo("b", model=["x"])),
            (
                "providers.inference[1].config.model must be left out: EchoConfig has no such field"
                " (did you mean models? its fields are models, "
            ),
        ),
        (config_of(echo(delay_s=-1)), "providers.inference[0].config.delay_s must be greater than or equal to 0"),
        (
            config_of(echo()) | {"model_folders": "/models"},
            "model_folders must be a list of folders, such as [~/models, /data/models]; got a str",
        ),
        (config_of(echo(models="one")), "providers.inference[0].config.models must be a valid list; got a str"),
        (
            config_of(
                {
                    "provider_id": "a",
                    "provider_type": "inline::transformers",
                    "config": {"quantization": {"type": "int8", "bits": 3}},
                }
            ),
            (
                "providers.inference[0].config.quantization.bits must be left out: Int8QuantizationConfig has no"
                " such field (its fields are type)"
            ),
        ),
    ],
)
def test_a_wrong_key_is_told_by_its_path_with_what_is_allowed(path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_run_config(config)
    assert str(caught.value).startswith(said)
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError) as caught:
        load_run_config(path)
    assert str(caught.value).startswith(f"run config {path}: {said}")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    bad = config_of(echo("a", delay_s=-1, model="x"), {**echo("a"), "provider_type": "none"}, version="3")
    with pytest.raises(ConfigError) as caught:
        Stack(bad)
    assert [line.split(" must be ")[0] for line in str(caught.value).splitlines()] == [
        "version",
        "providers.inference[1].provider_id",
        "providers.inference[0].config.delay_s",
        "providers.inference[0].config.model",
        "providers.inference[1].provider_type",
    ]


@pytest.mark.parametrize(
    "instances,said",
    [
        (
            {"safety": [{**resources.safety(), "provider_type": "inline::echo"}]},
            "providers.safety[0].provider_type must be one of inline::",
        ),
        (
            {"memory": [resources.memory(), {**resources.memory("b"), "provider_type": resources.SAFETY_TYPE}]},
            "providers.memory[1].provider_type must be one of inline::",
        ),
        (
            {"inference": [{**echo(), "provider_type": resources.MEMORY_TYPE}]},
            "providers.inference[0].provider_type must be one of inline::echo, ",
        ),
        (
            {"safety": [resources.safety(shield=[])]},
            (
                "providers.safety[0].config.shield must be left out: WordShieldConfig has no such field"
                " (did you mean shields?"
            ),
        ),
        ({"safety": [resources.safety("guard", "")]}, "providers.safety[0].config.shields[0].identifier must be "),
        ({"memory": [resources.memory(banks=7)]}, "providers.memory[0].config.banks must be a valid list; got 7"),
        (
            {"inference": [echo("same")], "memory": [resources.memory("same")]},
            (
                "providers.memory[0].provider_id must be unique; got 'same', which"
                " providers.inference[0].provider_id already has"
            ),
        ),
    ],
)
def test_a_wrong_key_of_a_safety_or_memory_provider_is_told_by_its_path(
    instances: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources.serve_fakes(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        load_run_config({"providers": instances})
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "shields,said",
    [
        ([{"identifier": "a", "type": "other"}], "config.shields[0].type must be one of word, llama_guard"),
        ([{"identifier": "a", "params": {"wrong": 1}}], "config.shields[0].params.wrong must be left out"),
        ([{"identifier": "a"}, {"identifier": "a"}], "config.shields[1].identifier must be unique; got 'a' again"),
    ],
)
def test_a_shield_that_its_provider_cannot_run_is_told_by_its_path(
    shields: list[dict[str, Any]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources.serve_fakes(monkeypatch)
    config = resources.config_of(safety=[resources.safety(shields=shields)])
    with pytest.raises(ConfigError) as caught:
        load_run_config(config)
    assert str(caught.value).startswith(f"providers.safety[0].{said}")
    with pytest.raises(ConfigError) as caught:
        providers.create_safety(Provider.model_validate(config["providers"]["safety"][0]), Stack(CONFIG).inference)
    assert str(caught.value).startswith(f"provider 'guard': {said}")


def test_only_the_apis_that_a_config_chooses_are_served() -> None:
    stack = Stack(config_of(echo(), apis=["inference", "inspect"]))
    assert list(stack.apis) == ["inference", "inspect"]
    assert list(Stack(config_of(echo())).apis) == list(DEFAULT_APIS)
    assert list(Stack(config_of(echo(), apis=list(SERVED_APIS))).apis) == list(SERVED_APIS)
    assert set(SERVED_APIS) - set(DEFAULT_APIS) == {"insides"}


# ------------------------------------------------------------------------------------------------------ the environment


def test_a_reference_to_the_environment_stays_as_written_and_the_provider_sees_the_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAME", "a ${env.NAME} 'quoted': value")
    monkeypatch.setenv("LENGTH", "512")
    given = config_of(echo(models=["${env.NAME}", "x-${env.NAME}"], context_length="${env.LENGTH}"))
    stack = Stack(given)
    assert stack.config.providers["inference"][0].config == given["providers"]["inference"][0]["config"]
    provider: Any = stack.providers["a"]
    assert provider.config.models == ["a ${env.NAME} 'quoted': value", "x-a ${env.NAME} 'quoted': value"]
    assert provider.config.context_length == 512


@pytest.mark.parametrize("text", ["${env.MY-TOKEN}", "${env.}", "${env.NAME", "x ${env.NAME:default}", "${env.É}"])
def test_a_reference_that_is_none_is_not_taken_for_the_value(text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.models\[0\] must refer to the environment as \$\{env\.NAME\}"):
        load_run_config(config_of(echo(models=[text])))


def test_a_missing_variable_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"^providers\.inference\[0\]\.config\.models\[1\] needs .* TOKEN"):
        load_run_config(config_of(echo(models=["one", "${env.TOKEN}"])))


@pytest.mark.parametrize("source", [[CONFIG], 3, b"run.yaml"])
def test_what_can_be_no_config_is_refused_by_its_type(source: Any) -> None:
    with pytest.raises(ConfigError, match=f"a mapping with the key 'providers'.*got {type(source).__name__}$"):
        load_run_config(source)


def test_a_config_given_is_left_as_it_was() -> None:
    given = RunConfig.model_validate({"built_at": "2026-01-01T00:00:00", "image_name": "x", **CONFIG})
    before = given.model_copy(deep=True)
    load_run_config(given)
    assert given == before


# ------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("precision,kept", [(None, "int4"), ("int4", "int4"), ("bf16", "bf16"), ("float32", None)])
def test_the_embedded_models_come_in_the_precision_that_is_asked_for(precision: str | None, kept: str | None) -> None:
    (provider,) = load_run_config(None, precision).providers["inference"]
    assert (provider.config["catalog_quantization"] or {"type": None})["type"] == kept
    assert "quantization" not in provider.config  # which would be that of a person's own models as well


def test_the_embedded_models_are_on_the_device_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(config: Any = None, given: str | None = None) -> object:
        (provider,) = load_run_config(config, device=given).providers["inference"]
        return provider.config.get("device", "none")

    stand_on(monkeypatch, NVIDIA)
    assert (device(), device(None, "auto"), device(None, "cuda:1")) == ("none", "none", "cuda:1")
    monkeypatch.setenv("WORKBENCH_DEVICE", "cuda")
    assert (device(), device(None, "cpu"), device(default_run_config())) == ("cuda", "cpu", "none")
    for config in (default_run_config(device="mps"), default_run_config(device="mps").model_dump(mode="json")):
        assert (device(config), device(config, "cpu"), device(config, "auto")) == ("mps", "cpu", "auto")
    with pytest.raises(
        ConfigError, match=r"^device must be left out: no provider of the run config computes models here"
    ):
        device(config_of(echo()), "cpu")
    for value, words in (("gpu", "auto, cpu, .*"), ("mps", r"auto, cuda:0, cuda:1 or cpu on this machine .*")):
        for given in (None, CONFIG):
            with pytest.raises(ConfigError, match=rf"^device must be {words}; got '{value}'"):
                device(given, value)
        monkeypatch.setenv("WORKBENCH_DEVICE", value)
        with pytest.raises(ConfigError, match=rf"^WORKBENCH_DEVICE must be {words}; got '{value}'"):
            device()


def test_a_precision_is_refused_by_name_beside_a_config_and_where_it_is_none_of_ours() -> None:
    with pytest.raises(ConfigError, match="precision must be None with a run config"):
        load_run_config(CONFIG, "int4")
    with pytest.raises(ConfigError, match=r"precision must be one of float32, .*; got 'q4'"):
        load_run_config(None, "q4")
