"""Models: how one is described, and who lists, finds and registers them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from workbench.protocol.base import ProtocolModel
from workbench.protocol.webmethod import webmethod


class ModelDef(ProtocolModel):
    """A model by the name it is asked for, and where its weights come from."""

    identifier: str
    llama_model: str
    """A catalog name, a local folder or a hub repo id."""
    metadata: dict[str, Any] = Field(default_factory=dict)


class ModelDefWithProvider(ModelDef):
    """A model together with the provider that serves it."""

    provider_id: str


class ModelStore(Protocol):
    """Where a provider looks up the models it serves; handed to it as ``model_store``."""

    def get_model(self, identifier: str) -> ModelDef:
        """The model of that name; ``ModelNotFoundError`` where nobody serves it."""
        ...


@runtime_checkable
class Models(Protocol):
    """What a client sees: every model of every provider."""

    @webmethod(route="/models/list", method="GET")
    async def list_models(self) -> list[ModelDefWithProvider]:
        """Every model served, in the order of registration; one name may occur with several providers."""
        ...

    @webmethod(route="/models/get", method="GET")
    async def get_model(self, identifier: str) -> ModelDefWithProvider | None:
        """The model of that name, or ``provider_id/identifier``; None where nobody serves it."""
        ...

    @webmethod(route="/models/register", method="POST")
    async def register_model(self, model: ModelDefWithProvider) -> None:
        """Let a provider serve one more model; what the provider cannot load is refused with its typed error."""
        ...


@runtime_checkable
class ModelUnregistration(Protocol):
    """The way back, which the original protocol does not have."""

    @webmethod(route="/models/unregister", method="POST")
    async def unregister_model(self, identifier: str) -> None:
        """Serve a model no longer and give its memory back; ``ModelNotFoundError`` where nobody serves it."""
        ...


@runtime_checkable
class ModelsProtocolPrivate(Protocol):
    """What a provider answers to the stack about its own models; it has no routes."""

    async def list_models(self) -> list[ModelDef]:
        """The models that this provider serves."""
        ...

    async def register_model(self, model: ModelDef) -> None:
        """Serve one more model, or raise why it cannot be served."""
        ...
