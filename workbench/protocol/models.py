"""Definitions of models, and the protocols that list, find and register them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from workbench.protocol.base import ProtocolModel
from workbench.protocol.webmethod import webmethod


class ModelDef(ProtocolModel):
    """Name of a model and the source of its weights."""

    identifier: str
    llama_model: str
    """Catalog name, local folder or hub id."""
    metadata: dict[str, Any] = Field(default_factory=dict)


class ModelDefWithProvider(ModelDef):
    """A model and the provider that serves it."""

    provider_id: str


class ModelStore(Protocol):
    """Lookup of the models that a provider serves; its attribute ``model_store``."""

    def get_model(self, identifier: str) -> ModelDef:
        """Return the model of that name, or raise ``ModelNotFoundError``."""
        ...


@runtime_checkable
class Models(Protocol):
    """Models of all providers, as clients see them."""

    @webmethod(route="/models/list", method="GET")
    async def list_models(self) -> list[ModelDefWithProvider]:
        """Return every served model in order of registration; several providers may serve the same name."""
        ...

    @webmethod(route="/models/get", method="GET")
    async def get_model(self, identifier: str) -> ModelDefWithProvider | None:
        """Return the model by its name or ``provider_id/identifier``; None if it is not served."""
        ...

    @webmethod(route="/models/register", method="POST")
    async def register_model(self, model: ModelDefWithProvider) -> None:
        """Register a model with a provider; a model that the provider cannot load raises its typed error."""
        ...


@runtime_checkable
class ModelUnregistration(Protocol):
    """Unregistration of models, which the original protocol lacks."""

    @webmethod(route="/models/unregister", method="POST")
    async def unregister_model(self, identifier: str) -> None:
        """Stop serving a model and free its memory, or raise ``ModelNotFoundError``."""
        ...


@runtime_checkable
class ModelsProtocolPrivate(Protocol):
    """Provider side of ``Models``, which has no routes."""

    async def list_models(self) -> list[ModelDef]:
        """Return the models that this provider serves."""
        ...

    async def register_model(self, model: ModelDef) -> None:
        """Serve one more model, or raise an error that says why it cannot be served."""
        ...
