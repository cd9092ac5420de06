"""A running stack: the providers of a run config behind one router, one registry and one inspector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench import providers
from workbench.errors import ConfigError
from workbench.protocol import (
    BatchInference,
    HealthInfo,
    Inference,
    Inspect,
    Models,
    ModelUnregistration,
    ProviderInfo,
    RouteInfo,
    RunConfig,
    routes_of,
)
from workbench.stack.registrations import FILE_NAME, RegistrationStore, state_dir
from workbench.stack.registry import Registry, check_unique
from workbench.stack.router import Router

if TYPE_CHECKING:
    from workbench.providers.interface import InferenceProvider

SERVED_APIS = {"inference": (Inference, BatchInference), "models": (Models, ModelUnregistration), "inspect": (Inspect,)}
"""API names of the run config and the protocols behind them."""


class Stack:
    """Builds every provider of the config; nothing is loaded before a request asks for it.

    Raises:
        ConfigError: an API or provider type is unknown, or a provider's config is wrong.
    """

    def __init__(self, config: RunConfig) -> None:
        unknown = sorted(set(config.providers) - {"inference"})
        if unknown:
            raise ConfigError(f"providers: unknown API {', '.join(unknown)}; known APIs: inference")
        instances = config.providers.get("inference", [])
        check_unique([instance.provider_id for instance in instances])
        self.config = config
        self.providers: dict[str, InferenceProvider] = {
            instance.provider_id: providers.create(instance) for instance in instances
        }
        self.models = Registry(self.providers, RegistrationStore(state_dir() / FILE_NAME))
        self.inference = Router(self.models)
        self.inspect = Inspector(config)

    async def open(self) -> None:
        """Ask every provider what it serves, and for what was registered with it before."""
        await self.models.open()

    def close(self) -> None:
        for provider in self.providers.values():
            provider.close()


class Inspector:
    """Satisfies ``Inspect``."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    async def list_providers(self) -> dict[str, ProviderInfo]:
        return {
            instance.provider_id: ProviderInfo(provider_id=instance.provider_id, provider_type=instance.provider_type)
            for instances in self._config.providers.values()
            for instance in instances
        }

    async def list_routes(self) -> dict[str, list[RouteInfo]]:
        types = {
            api: list(dict.fromkeys(instance.provider_type for instance in instances))
            for api, instances in self._config.providers.items()
        }
        return {
            api: [
                RouteInfo(route=route.route, method=route.method, provider_types=types.get(api, []))
                for protocol in protocols
                for route in routes_of(protocol)
            ]
            for api, protocols in SERVED_APIS.items()
        }

    async def health(self) -> HealthInfo:
        return HealthInfo(status="OK")
