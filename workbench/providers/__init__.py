"""Implementations of the protocol, and the tables that find one by its API and provider type.

Packages add providers through the entry-point groups ``workbench.providers`` (for inference),
``workbench.safety_providers`` and ``workbench.memory_providers``; the entry point's name is the provider type.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.protocol import ConfigModel, Provider
    from workbench.providers.configured import ConfiguredProvider
    from workbench.providers.interface import InferenceProvider
    from workbench.providers.memory.interface import MemoryProvider
    from workbench.providers.model_access import ModelAccess
    from workbench.providers.safety.interface import SafetyProvider

    P = TypeVar("P", bound=ConfiguredProvider)

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
"""``module:class`` of each type for inference; imported when a run config names it, so torch loads only if needed."""

SAFETY_PROVIDER_TYPES: dict[str, str] = {
    "inline::code_scanner": "workbench.providers.safety.code_scanner:CodeScannerProvider",
    "inline::content_guard": "workbench.providers.safety.content_guard:ContentGuardProvider",
    "inline::llama_guard": "workbench.providers.safety.llama_guard:LlamaGuardProvider",
    "inline::prompt_guard": "workbench.providers.safety.prompt_guard:PromptGuardProvider",
}
MEMORY_PROVIDER_TYPES: dict[str, str] = {
    "inline::sqlite": "workbench.providers.memory.sqlite:SqliteProvider",
    "remote::qdrant": "workbench.providers.memory.qdrant:QdrantProvider",
}


@dataclass(frozen=True, slots=True)
class _Api:
    """Provider types of one API."""

    types: dict[str, str]
    base: str
    """``module:class`` that the types derive from."""
    entry_points: str
    """Entry-point group of other packages' types."""


_APIS = {
    "inference": _Api(PROVIDER_TYPES, "workbench.providers.interface:InferenceProvider", "workbench.providers"),
    "safety": _Api(
        SAFETY_PROVIDER_TYPES, "workbench.providers.safety.interface:SafetyProvider", "workbench.safety_providers"
    ),
    "memory": _Api(
        MEMORY_PROVIDER_TYPES, "workbench.providers.memory.interface:MemoryProvider", "workbench.memory_providers"
    ),
}

_CONFIGS = {"inline::transformers": "workbench.providers.transformers.config:TransformersConfig"}
"""Config classes of the types whose class imports torch, so that a config is checked without it."""


def create(provider: Provider) -> InferenceProvider:
    """Return the configured instance of an inference provider; only the instance gets the secrets of its config.

    Raises:
        ConfigError: the type is unknown or its config is wrong; the message names the key and contains no secret.
    """
    return _created(provider, provider_class(provider.provider_type, provider.provider_id))


def create_safety(provider: Provider, models: ModelAccess) -> SafetyProvider:
    """Return the configured instance of a safety provider, which judges with these models; raise like `create`."""
    made: type[SafetyProvider] = class_of("safety", provider.provider_type, provider.provider_id)
    return _created(provider, made, models)


def create_memory(provider: Provider, models: ModelAccess) -> MemoryProvider:
    """Return the configured instance of a memory provider, which embeds with these models; raise like `create`."""
    made: type[MemoryProvider] = class_of("memory", provider.provider_type, provider.provider_id)
    return _created(provider, made, models)


def provider_types(api: str = "inference") -> list[str]:
    """Return every provider type that a run config may name for an API, including those of installed packages."""
    return sorted(_APIS[api].types.keys() | _installed(api))


def is_provider_type(name: str, api: str = "inference") -> bool:
    """Whether a run config may name this provider type for an API; installed packages are searched only if need be."""
    return name in _APIS[api].types or name in _installed(api)


def provider_class(provider_type: str, provider_id: str = "") -> type[InferenceProvider]:
    """Import and return the class of an inference provider; raise like `class_of`."""
    found: type[InferenceProvider] = class_of("inference", provider_type, provider_id)
    return found


def class_of(api: str, provider_type: str, provider_id: str = "") -> type[Any]:
    """Import and return the class of a provider type; built-in types precede those of other packages.

    Raises:
        ConfigError: the type is unknown, or its package cannot be imported; the message names ``provider_id``.
    """
    who = f"provider {provider_id!r}: " if provider_id else ""
    found: object
    if target := _APIS[api].types.get(provider_type):
        found = _imported(target)
    elif entry_point := _installed(api).get(provider_type):
        try:
            found = entry_point.load()
        except Exception as error:  # importing a foreign module may raise anything
            raise ConfigError(f"{who}provider_type {provider_type!r} cannot be imported: {error}") from error
    else:
        types = ", ".join(provider_types(api))
        raise ConfigError(f"{who}unknown provider_type {provider_type!r}; known types: {types}")
    base = _imported(_APIS[api].base)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{who}provider_type {provider_type!r} is not a subclass of {base.__name__}: {found!r}")
    return found


def config_class(provider_type: str, api: str = "inference") -> type[ConfigModel]:
    """Return the class of a provider's config; raise like `class_of`."""
    target = _CONFIGS.get(provider_type)
    found: type[ConfigModel] = _imported(target) if target else class_of(api, provider_type).Config
    return found


def _created(provider: Provider, made: Callable[..., P], *models: ModelAccess) -> P:
    from workbench.providers.secrets import redacted, revealed

    return redacted(provider, lambda: made(revealed(provider), *models))


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _installed(api: str) -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=_APIS[api].entry_points)}
