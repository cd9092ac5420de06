"""The run config: which providers a stack is made of. What is wrong in one is a ``ConfigError`` with the key's path."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

from pydantic import Field

from workbench.protocol.base import ConfigModel


class Provider(ConfigModel):
    """One instance of a provider type. The same type may be there several times, under different ids."""

    provider_id: str
    provider_type: str
    """``inline::name`` runs in this process, ``remote::name`` speaks to a server."""
    config: dict[str, Any] = Field(repr=False)
    """Checked by the provider; not in the repr, because it may hold an API token."""


class StackRunConfig(ConfigModel):
    """The providers of a stack by API; within one API the first is the default. Unknown keys are refused."""

    version: str = "2"
    built_at: datetime
    image_name: str
    docker_image: str | None = None
    conda_env: str | None = None
    apis: list[str] = Field(default_factory=list)
    """APIs to serve; empty for all that have providers."""
    providers: dict[str, list[Provider]]


RunConfig: TypeAlias = StackRunConfig
