"""Run configs: the default one, and reading one from a file, a dict or the environment."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import ConfigError
from workbench.protocol import RunConfig

CONFIG_VARIABLE = "WORKBENCH_CONFIG"

_ENVIRONMENT = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")


def default_run_config() -> RunConfig:
    """The embedded models on this machine, in the precision that suits a laptop."""
    return RunConfig.model_validate(
        {
            "built_at": datetime(2026, 1, 1, tzinfo=UTC),
            "image_name": "embedded",
            "providers": {
                "inference": [
                    {
                        "provider_id": "local",
                        "provider_type": "inline::transformers",
                        "config": {
                            "models": ["smollm2-135m-instruct", "all-minilm-l6-v2"],
                            "quantization": {"type": "int4"},
                        },
                    }
                ]
            },
        }
    )


def load_run_config(source: str | Path | dict[str, Any] | RunConfig | None = None) -> RunConfig:
    """A validated run config.

    Args:
        source: a YAML file, its content as a dict, or a finished config. None takes the file that the environment
            variable ``WORKBENCH_CONFIG`` names, else the default.

    Raises:
        ConfigError: the file cannot be read, a key is wrong, or an environment variable it asks for is not set.
    """
    if isinstance(source, RunConfig):
        config = source
    elif isinstance(source, dict):
        config = RunConfig.model_validate(_completed(source))
    elif source is not None:
        config = _from_file(Path(source))
    elif path := os.environ.get(CONFIG_VARIABLE):
        config = _from_file(Path(path))
    else:
        config = default_run_config()
    return _with_environment(config)


def _from_file(path: Path) -> RunConfig:
    try:
        content = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"run config {path} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"run config {path} is no valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"run config {path} must be a mapping with the key 'providers'")
    try:
        return RunConfig.model_validate(_completed(content))
    except ConfigError as error:
        raise ConfigError(f"run config {path}: {error}") from None


def _completed(content: dict[str, Any]) -> dict[str, Any]:
    """A config written by hand need not say when and as what it was built."""
    return {"built_at": datetime.now(UTC), "image_name": "custom"} | content


def _with_environment(config: RunConfig) -> RunConfig:
    """Replace ``${env.NAME}`` in the providers' configs."""
    providers = {
        api: [
            provider.model_copy(update={"config": _expanded(provider.config, f"providers.{api}[{index}].config")})
            for index, provider in enumerate(instances)
        ]
        for api, instances in config.providers.items()
    }
    return config.model_copy(update={"providers": providers})


def _expanded(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def from_environment(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(f"{path} needs the environment variable {name}, which is not set")
        return os.environ[name]

    return _ENVIRONMENT.sub(from_environment, value)
