"""Run configs: the default config, and loading one from a file, a dict or the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from workbench.devices import DEVICE_VARIABLE
from workbench.errors import ConfigError, InvalidRequestError
from workbench.protocol import Provider, RunConfig
from workbench.providers import config_class
from workbench.providers.transformers.config import present_device
from workbench.stack.checking import checked
from workbench.stack.yaml_file import read_mapping

Precision: TypeAlias = Literal["float32", "bf16", "fp8", "int8", "int4"]
CONFIG_VARIABLE = "WORKBENCH_CONFIG"
SENTENCE_MODEL = "all-minilm-l6-v2"
"""Catalog model that the default config embeds with, and judges with."""


def default_run_config(precision: str = "int4", device: str = "auto") -> RunConfig:
    """Return the config of the embedded models on this machine; int4 suits a laptop.

    The precision applies only to the catalog's models; other models are float32 unless registered otherwise.
    """
    config: dict[str, Any] = {
        "models": ["smollm2-135m-instruct", SENTENCE_MODEL],
        "catalog_quantization": None if precision == "float32" else {"type": precision},
    }
    if device != "auto":
        config["device"] = device
    return RunConfig.model_validate(
        {
            "built_at": datetime(2026, 1, 1, tzinfo=UTC),
            "image_name": "embedded",
            "providers": {
                "inference": [{"provider_id": "local", "provider_type": "inline::transformers", "config": config}],
                "memory": [{"provider_id": "memory", "provider_type": "inline::sqlite", "config": {}}],
                "safety": [
                    {
                        "provider_id": "guard",
                        "provider_type": "inline::content_guard",
                        "config": {"shields": [{"identifier": "content_guard"}]},
                    }
                ],
            },
        }
    )


def load_run_config(
    source: str | Path | Mapping[str, Any] | RunConfig | None = None,
    precision: str | None = None,
    device: str | None = None,
) -> RunConfig:
    """Return a run config in which every provider type exists and accepts its options.

    ``${env.NAME}`` stays as written, and every other secret becomes a ``SecretStr``; only the provider gets the values.

    Args:
        source: a YAML file, its content as a dict, or a finished config. None selects the file that the environment
            variable ``WORKBENCH_CONFIG`` names, or else the default config.
        precision: precision of the models in the default config; not used with a file that ``WORKBENCH_CONFIG`` names.
        device: device of all models that the config's providers compute here, whatever the config says; None uses the
            config's, or in the default config that of ``WORKBENCH_DEVICE``, or ``auto``.

    Raises:
        ConfigError: the config is invalid; the message has one line for each problem, with the path of the key and
            what is allowed.
    """
    if precision is not None and source is not None:
        allowed = "None with a run config, which sets config.quantization for each provider"
        raise ConfigError(f"precision must be {allowed}; got {precision!r}")
    if precision is not None and precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}; got {precision!r}")
    if source is None and (path := os.environ.get(CONFIG_VARIABLE)):
        source = path
    if source is None:
        return checked(default_run_config(precision or "int4", default_device(device)))
    if isinstance(source, str | Path):
        config = _from_file(Path(source))
    else:
        config = checked(source if isinstance(source, RunConfig) else RunConfig.model_validate(_completed(source)))
    return config if device is None else _moved(config, default_device(device))


def default_device(given: str | None) -> str:
    """Return a given device, or that of ``WORKBENCH_DEVICE``, or ``auto``.

    Raises:
        ConfigError: it is not there, or no setting may have this name; the message says where it was found.
    """
    field, found = ("device", given) if given is not None else (DEVICE_VARIABLE, os.environ.get(DEVICE_VARIABLE))
    try:
        return present_device(found or "auto", field)
    except InvalidRequestError as error:
        raise ConfigError(str(error)) from None


def _moved(config: RunConfig, device: str) -> RunConfig:
    """Return a config whose providers compute on a device; raise `ConfigError` if none of them computes here."""
    instances = config.providers.get("inference", [])
    moved = [
        one.model_copy(update={"config": {**one.config, "device": device}}) if _has_device(one) else one
        for one in instances
    ]
    if not any(map(_has_device, instances)):
        raise ConfigError(
            f"device must be left out: no provider of the run config computes models here; got {device!r}"
        )
    return config.model_copy(update={"providers": {**config.providers, "inference": moved}})


def _has_device(provider: Provider) -> bool:
    return "device" in config_class(provider.provider_type, "inference").model_fields


def _from_file(path: Path) -> RunConfig:
    try:
        # No variable holds the file's content, because a traceback may show the variables of this frame.
        return checked(RunConfig.model_validate(_completed(read_mapping(path))))
    except ConfigError as error:
        raise ConfigError(f"run config {path}: {error}") from None


def _completed(content: object) -> dict[str, Any]:
    """Return the content with defaults for the build time and name, which handwritten configs may omit."""
    if not isinstance(content, Mapping):
        allowed = "a file's path, a mapping with the key 'providers' or a RunConfig"
        raise ConfigError(f"the run config must be {allowed}; got {type(content).__name__}")
    return {"built_at": datetime.now(UTC), "image_name": "custom", **content}
