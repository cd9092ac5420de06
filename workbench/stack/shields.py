"""Shields as a kind of resource, and the router that finds the provider of a shield and delegates to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequestError, ShieldNotFoundError
from workbench.protocol import ShieldDef, ShieldDefWithProvider
from workbench.providers.requests import check_messages, check_params
from workbench.stack.registry import Registry
from workbench.stack.resources import ResourceKind

if TYPE_CHECKING:
    from workbench.protocol import Message, RunShieldResponse, ShieldStore
    from workbench.providers.safety.interface import SafetyProvider
    from workbench.stack.registrations import RegistrationStore


def _without_provider(shield: ShieldDefWithProvider) -> ShieldDef:
    return ShieldDef(identifier=shield.identifier, type=shield.type, params=shield.params)


SHIELD: ResourceKind[ShieldDefWithProvider, SafetyProvider] = ResourceKind(
    name="shield",
    api="safety",
    command="shields",
    definitions=(ShieldDefWithProvider,),
    parse=ShieldDefWithProvider.model_validate,
    source=lambda shield: f"a shield of type {shield.type}",
    not_found=ShieldNotFoundError,
    list=lambda provider: provider.list_shields(),
    register=lambda provider, shield: provider.register_shield(_without_provider(shield)),
    unregister=lambda provider, identifier: provider.unregister_shield(identifier),
)


class ShieldRegistry(Registry["ShieldDefWithProvider", "SafetyProvider"]):
    """Registry of shields, which satisfies ``Shields`` and ``ShieldUnregistration``."""

    def __init__(self, providers: dict[str, SafetyProvider], store: RegistrationStore | None = None) -> None:
        super().__init__(SHIELD, providers, store)

    async def list_shields(self) -> list[ShieldDefWithProvider]:
        """Return every served shield."""
        await self.refresh()
        return self.definitions()

    async def get_shield(self, shield_type: str) -> ShieldDefWithProvider | None:
        return self.get(shield_type)

    async def register_shield(self, shield: ShieldDefWithProvider) -> None:
        """Register a shield with its provider; `Registry.register` lists the errors."""
        await self.register(shield)

    async def unregister_shield(self, identifier: str) -> None:
        """Stop serving a shield."""
        await self.unregister(identifier)


class SafetyRouter:
    """Implementation of ``Safety``, for shields by their plain or full names."""

    def __init__(self, registry: ShieldRegistry) -> None:
        self._registry = registry
        self.shield_store: ShieldStore = self

    def get_shield(self, identifier: str) -> ShieldDef:
        return self._registry.find(identifier).definition

    async def run_shield(
        self, shield_type: str, messages: list[Message], params: dict[str, Any] | None = None
    ) -> RunShieldResponse:
        """Check messages with the shield of that name; ``params`` replace those of its definition.

        Raises:
            ShieldNotFoundError: no provider runs it; the message lists the shields that are served.
            InvalidRequestError: a message or a parameter is not allowed.
            ShieldError: the shield has no verdict.
        """
        if not isinstance(shield_type, str):
            raise InvalidRequestError("shield_type", shield_type, "the name of a served shield")
        found = self._registry.find(shield_type)
        check_messages(messages, "messages")
        check_params(params)
        return await found.provider.run_shield(found.definition.identifier, messages, params)
