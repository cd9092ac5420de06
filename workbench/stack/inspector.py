"""Information about a running stack: providers, routes and health."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.protocol import HealthInfo, ProviderInfo, RouteInfo, RunConfig, routes_of

if TYPE_CHECKING:
    from workbench.providers.configured import ConfiguredProvider

_HEALTH_TIMEOUT_S = 5.0

OK = "OK"


class Inspector:
    """Implementation of ``Inspect`` and ``ProviderHealth``."""

    def __init__(
        self,
        config: RunConfig,
        providers: dict[str, ConfiguredProvider],
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
        """Return ``OK`` if any provider accepts requests, otherwise the reasons of all providers."""
        statuses = {name: info.status for name, info in (await self.provider_health()).items()}
        if not statuses or OK in statuses.values():
            return HealthInfo(status=OK)
        return HealthInfo(status="; ".join(f"{name}: {status}" for name, status in statuses.items()))

    async def provider_health(self) -> dict[str, HealthInfo]:
        """Return the health of every provider; all are queried at once, each with the same timeout."""
        healths = await asyncio.gather(*map(self._health_of, self._providers.values()))
        return dict(zip(self._providers, healths, strict=True))

    async def _health_of(self, provider: ConfiguredProvider) -> HealthInfo:
        try:
            return await asyncio.wait_for(provider.health(), self._timeout_s)
        except TimeoutError:
            return HealthInfo(status=f"no answer within {self._timeout_s:g} s")
        except WorkbenchError as error:
            return HealthInfo(status=str(error))
        except Exception as error:  # noqa: BLE001 - one failing provider must not hide the others
            return HealthInfo(status=type(error).__name__)  # the message of a foreign error may contain a secret
