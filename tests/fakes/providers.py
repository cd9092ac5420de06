"""A provider without models: it takes and forgets what it is asked to, and remembers what that was."""

from __future__ import annotations

import asyncio

from workbench.errors import ModelNotFoundError
from workbench.protocol import ModelDef


class FakeProvider:
    """Takes every model, or refuses all; every change takes a moment, so that others may come between."""

    provider_type = "inline::fake"

    def __init__(self, *listed: str, refusal: Exception | None = None, listing_fails: Exception | None = None) -> None:
        self.models = {name: ModelDef(identifier=name, llama_model="weights") for name in listed}
        self.refusal = refusal
        self.listing_fails = listing_fails
        self.changes: list[tuple[str, str]] = []

    async def list_models(self) -> list[ModelDef]:
        if self.listing_fails:
            raise self.listing_fails
        return list(self.models.values())

    async def register_model(self, model: ModelDef) -> None:
        await asyncio.sleep(0)
        if self.refusal:
            raise self.refusal
        self.changes.append(("register", model.identifier))
        self.models[model.identifier] = model

    async def unregister_model(self, identifier: str) -> None:
        await asyncio.sleep(0)
        self.changes.append(("unregister", identifier))
        if identifier not in self.models:
            raise ModelNotFoundError(identifier, self.models)
        del self.models[identifier]
