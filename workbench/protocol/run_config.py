"""Run configs, which list the providers of a stack. A ``ConfigError`` has the path of each invalid key."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, TypeAlias

from pydantic import Field, SecretStr, field_validator

from workbench.errors import InvalidRequestError
from workbench.protocol.base import ConfigModel

ENVIRONMENT = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
"""A reference to an environment variable in a provider's config."""

_SECRET_KEY = re.compile(
    r"(?:^|_|-)(?:api_?key|token|secret|pass(?:word|wd|phrase)|credentials?|authorization)$", re.IGNORECASE
)


class Provider(ConfigModel):
    """One instance of a provider type. Several instances of a type need different ids."""

    provider_id: str
    provider_type: str
    """``inline::name`` runs in this process, ``remote::name`` uses a server."""
    config: dict[str, Any] = Field(repr=False)
    """Options of the provider, which validates them and replaces ``${env.NAME}``.

    A string under a key that names a secret becomes a ``SecretStr``, so that it is never printed or logged.
    """

    @field_validator("config")
    @classmethod
    def _hide(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {key: _hidden(key, item) for key, item in value.items()}


def _hidden(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _hidden(inner, item) for inner, item in value.items()}
    if isinstance(value, list):
        return [_hidden(key, item) for item in value]
    is_secret = isinstance(value, str) and _SECRET_KEY.search(key) and not ENVIRONMENT.search(value)
    return SecretStr(value) if is_secret else value


class StackRunConfig(ConfigModel):
    """Providers of a stack by API; the first one of an API is the default. Unknown keys are refused."""

    version: str = "2"
    built_at: datetime
    image_name: str
    docker_image: str | None = None
    conda_env: str | None = None
    apis: list[str] = Field(default_factory=list)
    """APIs to serve; empty for all but ``insides``, which looks into models and changes what they compute."""
    providers: dict[str, list[Provider]]
    model_folders: list[str] = Field(default_factory=list, exclude_if=lambda folders: not folders)
    """Folders to find models in, besides those of other programs."""

    @field_validator("model_folders", mode="before")
    @classmethod
    def _refuse_text(cls, value: object) -> object:
        if isinstance(value, str):
            raise InvalidRequestError("model_folders", value, "a list of folders, such as [~/models, /data/models]")
        return value


RunConfig: TypeAlias = StackRunConfig
