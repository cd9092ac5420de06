"""Implementations of the protocol, and the table that finds one by its provider type.

Packages add providers through the entry-point group ``workbench.providers``; the entry point's name is the provider
type.
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.protocol import ConfigModel, Provider
    from workbench.providers.interface import InferenceProvider

ENTRY_POINT_GROUP = "workbench.providers"

PROVIDER_TYPES: dict[str, str] = {
    "inline::echo": "workbench.providers.echo:EchoProvider",
    "inline::ray": "workbench.providers.ray:RayProvider",
    "inline::trace": "workbench.providers.trace:TraceProvider",
    "inline::transformers": "workbench.providers.transformers:TransformersProvider",
    "remote::llama_cpp": "workbench.providers.openai:LlamaCppProvider",
    "remote::ollama": "workbench.providers.openai:OllamaProvider",
    "remote::openai": "workbench.providers.openai:OpenAIProvider",
    "remote::tgi": "workbench.providers.openai:TgiProvider",
    "remote::vllm": "workbench.providers.openai:VllmProvider",
}
"""``module:class`` of each provider type; imported when a run config names it, so that torch loads only if needed."""

_CONFIGS = {"inline::transformers": "workbench.providers.transformers.config:TransformersConfig"}
"""Config classes of the types whose class imports torch, so that a config is checked without it."""


def create(provider: Provider) -> InferenceProvider:
    """Return the configured instance of a provider; only the instance gets the secrets of its config.

    Raises:
        ConfigError: the type is unknown or its config is wrong; the message names the key and contains no secret.
    """
    from workbench.providers.secrets import redacted, revealed

    made = provider_class(provider.provider_type, provider.provider_id)
    return redacted(provider, lambda: made(revealed(provider)))


def provider_types() -> list[str]:
    """Return every provider type that a run config may name: the built-in ones and those of installed packages."""
    return sorted(PROVIDER_TYPES.keys() | _installed())


def provider_class(provider_type: str, provider_id: str = "") -> type[InferenceProvider]:
    """Import and return the class of a provider type; built-in types precede those of other packages.

    Raises:
        ConfigError: the type is unknown, or its package cannot be imported; the message names ``provider_id``.
    """
    from workbench.providers.interface import InferenceProvider

    who = f"provider {provider_id!r}: " if provider_id else ""
    found: object
    if target := PROVIDER_TYPES.get(provider_type):
        module, _, name = target.partition(":")
        found = getattr(importlib.import_module(module), name)
    elif entry_point := _installed().get(provider_type):
        try:
            found = entry_point.load()
        except Exception as error:  # importing a foreign module may raise anything
            raise ConfigError(f"{who}provider_type {provider_type!r} cannot be imported: {error}") from error
    else:
        raise ConfigError(f"{who}unknown provider_type {provider_type!r}; known types: {', '.join(provider_types())}")
    if not (isinstance(found, type) and issubclass(found, InferenceProvider)):
        raise ConfigError(f"{who}provider_type {provider_type!r} is not a subclass of InferenceProvider: {found!r}")
    return found


def config_class(provider_type: str) -> type[ConfigModel]:
    """Return the class of a provider's config; raise like `provider_class`."""
    if target := _CONFIGS.get(provider_type):
        module, _, name = target.partition(":")
        found: type[ConfigModel] = getattr(importlib.import_module(module), name)
        return found
    return provider_class(provider_type).Config


def _installed() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}
