"""Implementations of the protocol, and the table that finds one by its provider type."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.protocol import Provider
    from workbench.providers.interface import InferenceProvider

PROVIDER_TYPES: dict[str, str] = {
    "inline::transformers": "workbench.providers.transformers:TransformersProvider",
}
"""Provider type to ``module:class``; imported when a run config names it, so that torch is loaded only where needed."""


def create(provider: Provider) -> InferenceProvider:
    """The configured instance of a provider.

    Raises:
        ConfigError: the type is unknown or its config is wrong; the message names the key.
    """
    target = PROVIDER_TYPES.get(provider.provider_type)
    if target is None:
        raise ConfigError(
            f"provider {provider.provider_id!r}: unknown provider_type {provider.provider_type!r}; "
            f"known types: {', '.join(sorted(PROVIDER_TYPES))}"
        )
    module, _, name = target.partition(":")
    factory: type[InferenceProvider] = getattr(importlib.import_module(module), name)
    return factory(provider)
