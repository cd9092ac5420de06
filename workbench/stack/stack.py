"""Running stack: the providers of a run config behind a router and a registry for each API, and one inspector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import providers
from workbench.paths import state_dir
from workbench.protocol import RunConfig
from workbench.providers.trace.folder import create
from workbench.stack.apis import DEFAULT_APIS, SERVED_APIS
from workbench.stack.insides import InsidesRouter
from workbench.stack.inspector import Inspector
from workbench.stack.memory_banks import MemoryBankRegistry, MemoryRouter
from workbench.stack.models import ModelRegistry
from workbench.stack.registrations import FILE_NAME, RegistrationStore
from workbench.stack.router import Router
from workbench.stack.run_config import load_run_config
from workbench.stack.shields import SafetyRouter, ShieldRegistry

if TYPE_CHECKING:
    from workbench.providers.configured import ConfiguredProvider
    from workbench.providers.interface import InferenceProvider
    from workbench.providers.memory.interface import MemoryProvider
    from workbench.providers.safety.interface import SafetyProvider

__all__ = ["SERVED_APIS", "Stack"]


class Stack:
    """Providers of a config with their router and registry; models are loaded by the first request that needs them.

    Args:
        config, precision, device: as for `load_run_config`. A device is also that of registered models, whatever their
            registrations say.
        insides: whether to serve the API ``insides`` even if the config does not name it.

    Raises:
        ConfigError: the config is invalid; no provider is left open.
    """

    def __init__(
        self,
        config: RunConfig | Mapping[str, Any] | str | Path | None = None,
        precision: str | None = None,
        device: str | None = None,
        *,
        insides: bool = False,
    ) -> None:
        self.config = load_run_config(config, precision, device)
        """Config with ``${env.NAME}`` as written and all other secrets hidden."""
        names = [*(self.config.apis or DEFAULT_APIS), *(["insides"] if insides else [])]
        self.apis = {api: protocols for api, protocols in SERVED_APIS.items() if api in names}
        """Protocols to serve, by API; all but ``insides`` unless the config selects some."""
        self.providers: dict[str, InferenceProvider] = {}
        self.safety_providers: dict[str, SafetyProvider] = {}
        self.memory_providers: dict[str, MemoryProvider] = {}
        store = RegistrationStore(state_dir() / FILE_NAME)
        self.models = ModelRegistry(self.providers, store, restores_devices=device is None)
        self.inference = Router(self.models)
        try:
            self._create_providers()
        except BaseException:
            self.close()
            raise
        self.shields = ShieldRegistry(self.safety_providers, store)
        self.safety = self.inference.safety = SafetyRouter(self.shields)
        self.memory_banks = MemoryBankRegistry(self.memory_providers, store)
        self.memory = MemoryRouter(self.memory_banks)
        self.inference.memory = self.memory
        self.insides = InsidesRouter(self.inference)
        self.inspect = Inspector(self.config, self.providers_by_api, self.apis)

    def _create_providers(self) -> None:
        instances = self.config.providers
        for instance in instances.get("inference", []):
            self.providers[instance.provider_id] = create(instance)
        for instance in instances.get("safety", []):
            self.safety_providers[instance.provider_id] = providers.create_safety(instance, self.inference)
        for instance in instances.get("memory", []):
            self.memory_providers[instance.provider_id] = providers.create_memory(instance, self.inference)

    @property
    def providers_by_api(self) -> Mapping[str, Mapping[str, ConfiguredProvider]]:
        """Running providers of each API, by their ids; an id is unique among all APIs."""
        return {"inference": self.providers, "safety": self.safety_providers, "memory": self.memory_providers}

    async def open(self) -> None:
        """List the resources of every provider, and restore earlier registrations."""
        await self.models.open()
        await self.shields.open()
        await self.memory_banks.open()

    def close(self) -> None:
        for running in self.providers_by_api.values():
            for provider in running.values():
                provider.close()
