"""Secrets of a provider's config: stored as ``${env.NAME}`` or hidden, and revealed only to that provider."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr

from workbench.errors import ConfigError
from workbench.protocol import ConfigModel, Provider
from workbench.protocol.field_types import kinds
from workbench.protocol.run_config import ENVIRONMENT

T = TypeVar("T")

_MASK = str(SecretStr("any"))
_MIN_REDACTED_LENGTH = 4
"""Shorter values occur in messages by chance."""


def revealed(provider: Provider) -> Provider:
    """Return the provider with plain values: environment variables and hidden texts. Do not store or show it.

    Raises:
        ConfigError: a variable is not set, or a text was hidden when the config was written; names the path, from
            ``config`` on.
    """
    return provider.model_copy(update={"config": _revealed(provider.config, "config")})


def hidden(provider: Provider, config_type: type[ConfigModel]) -> Provider:
    """Return the provider with a ``SecretStr`` for each plain text that its config type declares a secret."""
    return provider.model_copy(update={"config": _hidden(provider.config, config_type)})


def redacted(provider: Provider, make: Callable[[], T]) -> T:
    """Return ``make()``; remove the provider's secrets from a `ConfigError` that it raises.

    A verbose traceback shows the variables of its frames, so none of them may contain the original error. A context
    manager would.
    """
    try:
        return make()
    except ConfigError as error:
        message = _without_secrets(str(error), provider)
    raise ConfigError(message)


def _revealed(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: _revealed(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_revealed(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
        if value == _MASK:
            raise ConfigError(f"{path} was hidden when this config was written: set it again, best as ${{env.NAME}}")
    if not isinstance(value, str):
        return value
    if "${env." in ENVIRONMENT.sub("", value):
        raise ConfigError(f"{path} must refer to the environment as ${{env.NAME}}, where NAME is letters, digits and _")

    def from_environment(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(f"{path} needs the environment variable {name}, which is not set")
        return os.environ[name]

    return ENVIRONMENT.sub(from_environment, value)


def _hidden(value: Any, annotation: Any) -> Any:
    for kind in kinds(annotation):
        if kind is SecretStr and isinstance(value, str) and not ENVIRONMENT.search(value):
            return SecretStr(value)
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = kind.model_fields
            value = {
                key: _hidden(item, fields[key].annotation) if key in fields else item for key, item in value.items()
            }
        elif isinstance(value, dict) and get_origin(kind) is dict:
            value = {key: _hidden(item, get_args(kind)[1]) for key, item in value.items()}
        elif isinstance(value, list) and get_origin(kind) is list:
            value = [_hidden(item, get_args(kind)[0]) for item in value]
    return value


def _without_secrets(message: str, provider: Provider) -> str:
    for shown, value in _secrets(provider.config):
        if len(value) >= _MIN_REDACTED_LENGTH:
            message = message.replace(value, shown)
    return message


def _secrets(value: Any) -> Iterator[tuple[str, str]]:
    """Yield each secret as what to show in its place, and its value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item)
    elif isinstance(value, SecretStr):
        yield _MASK, value.get_secret_value()
    elif isinstance(value, str):
        for match in ENVIRONMENT.finditer(value):
            yield match[0], os.environ.get(match[1], "")
