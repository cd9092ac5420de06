"""Implementations of the protocol, and the table that finds one by its provider type.

Packages bring providers of their own through the entry-point group ``workbench.providers``, under the provider type as
the entry point's name.
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
"""Provider type to ``module:class``; imported when a run config names it, so that torch is loaded only where needed."""

_CONFIGS = {"inline::transformers": "workbench.providers.transformers.config:TransformersConfig"}
"""Of types whose class brings torch, which a config can be checked without."""


def create(provider: Provider) -> InferenceProvider:
    """The configured instance of a provider, which alone is given the secrets of its config.

    Raises:
        ConfigError: the type is unknown or its config is wrong; the message names the key, and holds no secret.
    """
    from workbench.providers.secrets import redacted, revealed

    made = provider_class(provider.provider_type, provider.provider_id)
    return redacted(provider, lambda: made(revealed(provider)))


def provider_types() -> list[str]:
    """Every provider type that a run config may name: ours, and those that installed packages bring."""
    return sorted(PROVIDER_TYPES.keys() | _brought())


def provider_class(provider_type: str, provider_id: str = "") -> type[InferenceProvider]:
    """The class behind a provider type, which is imported; ours come before those of other packages.

    Raises:
        ConfigError: the type is unknown, or its package cannot be imported; the message names ``provider_id``.
    """
    from workbench.providers.interface import InferenceProvider

    who = f"provider {provider_id!r}: " if provider_id else ""
    found: object
    if target := PROVIDER_TYPES.get(provider_type):
        module, _, name = target.partition(":")
        found = getattr(importlib.import_module(module), name)
    elif entry_point := _brought().get(provider_type):
        try:
            found = entry_point.load()
        except Exception as error:  # whatever a foreign module may do when it is imported
            raise ConfigError(f"{who}provider_type {provider_type!r} cannot be imported: {error}") from error
    else:
        raise ConfigError(f"{who}unknown provider_type {provider_type!r}; known types: {', '.join(provider_types())}")
    if not (isinstance(found, type) and issubclass(found, InferenceProvider)):
        raise ConfigError(f"{who}provider_type {provider_type!r} is not a subclass of InferenceProvider: {found!r}")
    return found


def config_class(provider_type: str) -> type[ConfigModel]:
    """What the part of a provider in a run config is read into; raises as `provider_class` does."""
    if target := _CONFIGS.get(provider_type):
        module, _, name = target.partition(":")
        found: type[ConfigModel] = getattr(importlib.import_module(module), name)
        return found
    return provider_class(provider_type).Config


def _brought() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}
