"""What a running stack says about itself: its providers, its routes, its health."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from workbench.protocol.base import ProtocolModel
from workbench.protocol.webmethod import webmethod


class ProviderInfo(ProtocolModel):
    """One configured provider; its config is not told, because it may hold a secret."""

    provider_id: str
    provider_type: str


class RouteInfo(ProtocolModel):
    """One HTTP route and the provider types that answer it."""

    route: str
    method: str
    provider_types: list[str]


class HealthInfo(ProtocolModel):
    """``OK`` while requests can be taken, else a sentence that says why they cannot."""

    status: str


@runtime_checkable
class Inspect(Protocol):
    """Reading only: asking never loads a model."""

    @webmethod(route="/providers/list", method="GET")
    async def list_providers(self) -> dict[str, ProviderInfo]:
        """Every configured provider, by its id."""
        ...

    @webmethod(route="/routes/list", method="GET")
    async def list_routes(self) -> dict[str, list[RouteInfo]]:
        """Routes by API."""
        ...

    @webmethod(route="/health", method="GET")
    async def health(self) -> HealthInfo:
        """Whether the stack can take requests."""
        ...


@runtime_checkable
class ProviderHealth(Protocol):
    """Which provider is the one that cannot, where the stack can still take requests for others."""

    @webmethod(route="/providers/health", method="GET")
    async def provider_health(self) -> dict[str, HealthInfo]:
        """The health of every provider, by its id; asking loads nothing."""
        ...
