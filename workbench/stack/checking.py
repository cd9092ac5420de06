"""Validation of a whole run config, before any provider is created."""

from __future__ import annotations

from collections.abc import Iterator

from workbench import providers
from workbench.errors import ConfigError, InvalidRequestError
from workbench.protocol import ConfigModel, Provider, RunConfig
from workbench.providers.secrets import hidden, redacted, revealed
from workbench.stack.apis import PROVIDER_APIS, SERVED_APIS
from workbench.urls.sources import checked_root

VERSION = "2"


def checked(config: RunConfig) -> RunConfig:
    """Return a valid config with its secrets hidden.

    Raises:
        ConfigError: the config is invalid; the message has one line for each problem.
    """
    problems = [*_heading_problems(config), *_duplicate_ids(config)]
    instances: dict[str, list[Provider]] = {}
    for api, providers_of_api in config.providers.items():
        if api not in PROVIDER_APIS:
            problems.append(f"providers.{api} must be left out; allowed: {', '.join(PROVIDER_APIS)}")
            continue
        instances[api] = []
        for index, provider in enumerate(providers_of_api):
            try:
                instances[api].append(_checked_instance(provider, api))
            except ConfigError as error:
                problems += [f"providers.{api}[{index}].{line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))
    return config.model_copy(update={"providers": instances})


def _heading_problems(config: RunConfig) -> Iterator[str]:
    if config.version != VERSION:
        yield f"version must be {VERSION!r}; got {config.version!r}"
    for index, api in enumerate(config.apis):
        if api not in SERVED_APIS:
            yield f"apis[{index}] must be one of {', '.join(SERVED_APIS)}; got {api!r}"
    for index, folder in enumerate(config.model_folders):
        try:
            checked_root(folder, f"model_folders[{index}]")
        except InvalidRequestError as error:
            yield str(error)


def _duplicate_ids(config: RunConfig) -> Iterator[str]:
    seen: dict[str, str] = {}
    for api, instances in config.providers.items():
        for index, provider in enumerate(instances):
            path = f"providers.{api}[{index}].provider_id"
            if (first := seen.setdefault(provider.provider_id, path)) != path:
                yield f"{path} must be unique; got {provider.provider_id!r}, which {first} already has"


def _checked_instance(provider: Provider, api: str) -> Provider:
    """Return one instance with its secrets hidden; the paths in a `ConfigError` are relative to the instance."""
    name = provider.provider_id
    if not (name and name.isprintable() and name == name.strip() and "/" not in name):
        raise ConfigError(
            f"provider_id must be non-empty and printable, with no slash and no space at its ends; got {name!r}"
        )
    if not providers.is_provider_type(provider.provider_type, api):
        types = ", ".join(providers.provider_types(api))
        raise ConfigError(f"provider_type must be one of {types}; got {provider.provider_type!r}")
    config_type = providers.config_class(provider.provider_type, api)
    safe = hidden(provider, config_type)
    redacted(safe, lambda: _check_config(revealed(safe), config_type, api))
    return safe


def _check_config(provider: Provider, config_type: type[ConfigModel], api: str) -> None:
    try:
        config = config_type.model_validate(provider.config)
        if api != "inference":  # the classes of inference providers may import torch, and check nothing more
            providers.class_of(api, provider.provider_type).check_config(config, provider.provider_type)
    except ConfigError as error:
        whole = f"{config_type.__name__} "  # problems of the config as a whole begin with its type
        lines = [f".{line}".replace(f".{whole}", " ", 1) for line in str(error).splitlines()]
        raise ConfigError("\n".join(f"config{line}" for line in lines)) from None
