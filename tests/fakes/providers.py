"""Providers that remember what they were asked to serve, and providers that would tell their secrets."""

from __future__ import annotations

import asyncio

from pydantic import Field, SecretStr, field_validator

from workbench.errors import ConfigError, InvalidRequestError, ModelNotFoundError
from workbench.protocol import ConfigModel, ModelDef, Provider
from workbench.providers.interface import InferenceProvider


class FakeProvider:
    """Takes every model, or refuses all; every change takes a moment, so that others may come between."""

    provider_type = "inline::fake"
    live_listing = False

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


class Inner(ConfigModel):
    pin: SecretStr | None = None


class SecretiveConfig(ConfigModel):
    """Secrets in every place where a config can have one."""

    models: list[str] = Field(default_factory=list)
    api_token: SecretStr | None = None
    auth: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    inner: Inner | None = None
    many: list[Inner] = Field(default_factory=list)
    eos_token: str = ""
    port: int = 0

    @field_validator("eos_token")
    @classmethod
    def _quoting(cls, value: str) -> str:
        if value.startswith("bad"):
            raise InvalidRequestError("eos_token", value, f"another one than {value}")
        return value


class SecretiveProvider(InferenceProvider):
    """A provider that does its best to show its secrets."""

    Config = SecretiveConfig

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        if self.config.port == 1:
            raise ConfigError(f"port 1 is refused to {self.config.api_token.get_secret_value()}")
