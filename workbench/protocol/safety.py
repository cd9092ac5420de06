"""Shields, which check messages, and the protocols that run, list, find and register them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from workbench.protocol.base import ProtocolModel
from workbench.protocol.messages import Message
from workbench.protocol.webmethod import webmethod


class ViolationLevel(StrEnum):
    """Severity of a violation: only ``error`` means that the message must not pass."""

    info = "info"
    warn = "warn"
    error = "error"


class ShieldType(StrEnum):
    """Well-known types of shields; `ShieldDef.type` may have any other name too."""

    generic_content_shield = "generic_content_shield"
    llama_guard = "llama_guard"
    code_scanner = "code_scanner"
    prompt_guard = "prompt_guard"


class SafetyViolation(ProtocolModel):
    """Finding of a shield."""

    violation_level: ViolationLevel
    user_message: str | None = None
    """Sentence for the author of the message; None for none."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What was found: for example the category, its probability, and the threshold."""

    @property
    def summary(self) -> str:
        """Category and probability in words, as far as the metadata has them, or else the message for the author."""
        category, name, probability = map(self.metadata.get, ("category", "name", "probability"))
        words = [f"category {category}" + (f" ({name})" if name else "")] if category else [name] if name else []
        words += [f"probability {probability:.2f}"] if isinstance(probability, int | float) else []
        return ", ".join(words) or self.user_message or f"violation of level {self.violation_level}"


class RunShieldResponse(ProtocolModel):
    """Result of a shield; without a violation, it found nothing."""

    violation: SafetyViolation | None = None


class ShieldDef(ProtocolModel):
    """Name of a shield, its type and its parameters."""

    identifier: str
    type: str
    """What the shield checks, as in `ShieldType`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the shield, such as its categories; its provider refuses unknown ones."""


class ShieldDefWithProvider(ShieldDef):
    """A shield and the provider that runs it."""

    provider_id: str


class ShieldStore(Protocol):
    """Lookup of the shields that a provider runs; its attribute ``shield_store``."""

    def get_shield(self, identifier: str) -> ShieldDef:
        """Return the shield of that name, or raise ``ShieldNotFoundError``."""
        ...


@runtime_checkable
class Safety(Protocol):
    """Checks of messages with the shields in ``shield_store``."""

    shield_store: ShieldStore

    @webmethod(route="/safety/run_shield")
    async def run_shield(
        self, shield_type: str, messages: list[Message], params: dict[str, Any] | None = None
    ) -> RunShieldResponse:
        """Check messages with the shield of that name; the last one is the message to judge, the others its context.

        ``params`` replace those of the shield's definition for this call.
        """
        ...


@runtime_checkable
class Shields(Protocol):
    """Shields of all providers, as clients see them."""

    @webmethod(route="/shields/list", method="GET")
    async def list_shields(self) -> list[ShieldDefWithProvider]:
        """Return every served shield in order of registration."""
        ...

    @webmethod(route="/shields/get", method="GET")
    async def get_shield(self, shield_type: str) -> ShieldDefWithProvider | None:
        """Return the shield by its name or ``provider_id/identifier``; None if it is not served."""
        ...

    @webmethod(route="/shields/register")
    async def register_shield(self, shield: ShieldDefWithProvider) -> None:
        """Register a shield with a provider, which refuses types and parameters that it does not know."""
        ...


@runtime_checkable
class ShieldUnregistration(Protocol):
    """Unregistration of shields, which the original protocol lacks."""

    @webmethod(route="/shields/unregister")
    async def unregister_shield(self, identifier: str) -> None:
        """Stop serving a shield, or raise ``ShieldNotFoundError``."""
        ...


@runtime_checkable
class ShieldsProtocolPrivate(Protocol):
    """Provider side of ``Shields``, which has no routes."""

    async def list_shields(self) -> list[ShieldDef]:
        """Return the shields that this provider runs."""
        ...

    async def register_shield(self, shield: ShieldDef) -> None:
        """Run one more shield, or raise an error that says why it cannot be run."""
        ...
