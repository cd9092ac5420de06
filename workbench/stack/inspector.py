"""Information about a running stack: providers, routes and health."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.protocol import HealthInfo, ProviderInfo, RouteInfo, RunConfig, routes_of

if TYPE_CHECKING:
    from workbench.providers.configured import ConfiguredProvider

_HEALTH_TIMEOUT_S = 5.0

OK = "OK"


class Inspector:
    """Implementation of ``Inspect`` and ``ProviderHealth``.

    Args:
        providers: the running providers of each API, by their ids.
        apis: the protocols that are served, by API.
        timeout_s: limit for each provider's report of its health.
    """

    def __init__(
        self,
        config: RunConfig,
        providers: Mapping[str, Mapping[str, ConfiguredProvider]],
        apis: dict[str, tuple[type, ...]],
        timeout_s: float = _HEALTH_TIMEOUT_S,
    ) -> None:
        self._config = config
        self._providers = providers
        self._apis = apis
        self._timeout_s = timeout_s

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
            for api, protocols in self._apis.items()
        }

    async def health(self) -> HealthInfo:
        """Return ``OK`` if each API has a provider that accepts requests, otherwise the reasons of the others."""
        statuses = {name: info.status for name, info in (await self.provider_health()).items()}
        failing = [
            f"{name}: {statuses[name]}"
            for providers in self._providers.values()
            if OK not in [statuses[name] for name in providers]
            for name in providers
        ]
        return HealthInfo(status="; ".join(failing) or OK)

    async def provider_health(self) -> dict[str, HealthInfo]:
        """Return the health of every provider; all are queried at once, each with the same timeout."""
        running = {name: one for providers in self._providers.values() for name, one in providers.items()}
        healths = await asyncio.gather(*map(self._health_of, running.values()))
        return dict(zip(running, healths, strict=True))

    async def _health_of(self, provider: ConfiguredProvider) -> HealthInfo:
        try:
            return await asyncio.wait_for(provider.health(), self._timeout_s)
        except TimeoutError:
            return HealthInfo(status=f"no answer within {self._timeout_s:g} s")
        except WorkbenchError as error:
            return HealthInfo(status=str(error))
        except Exception as error:  # noqa: BLE001 - one failing provider must not hide the others
            return HealthInfo(status=type(error).__name__)  # the message of a foreign error may contain a secret
