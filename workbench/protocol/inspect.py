"""Information about a running stack: its providers, routes and health."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from workbench.protocol.base import ProtocolModel
from workbench.protocol.webmethod import webmethod


class ProviderInfo(ProtocolModel):
    """One configured provider, without its config, which may contain secrets."""

    provider_id: str
    provider_type: str


class RouteInfo(ProtocolModel):
    """One HTTP route and the provider types that serve it."""

    route: str
    method: str
    provider_types: list[str]


class HealthInfo(ProtocolModel):
    """Health status: ``OK`` if requests are accepted, otherwise a sentence that says why not."""

    status: str


@runtime_checkable
class Inspect(Protocol):
    """Information about a running stack; no method loads a model."""

    @webmethod(route="/providers/list", method="GET")
    async def list_providers(self) -> dict[str, ProviderInfo]:
        """Return every configured provider by its id."""
        ...

    @webmethod(route="/routes/list", method="GET")
    async def list_routes(self) -> dict[str, list[RouteInfo]]:
        """Return the HTTP routes by API."""
        ...

    @webmethod(route="/health", method="GET")
    async def health(self) -> HealthInfo:
        """Return whether the stack accepts requests."""
        ...


@runtime_checkable
class ProviderHealth(Protocol):
    """Health of the single providers, for a stack of which only some accept requests."""

    @webmethod(route="/providers/health", method="GET")
    async def provider_health(self) -> dict[str, HealthInfo]:
        """Return the health of every provider by its id, without loading anything."""
        ...
