"""Running stack: the providers of a run config behind one router, one registry and one inspector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.protocol import RunConfig
from workbench.providers.trace.folder import create
from workbench.stack.apis import SERVED_APIS
from workbench.stack.inspector import Inspector
from workbench.stack.models import ModelRegistry
from workbench.stack.registrations import FILE_NAME, RegistrationStore, state_dir
from workbench.stack.router import Router
from workbench.stack.run_config import load_run_config

if TYPE_CHECKING:
    from workbench.providers.interface import InferenceProvider

__all__ = ["SERVED_APIS", "Stack"]


class Stack:
    """Providers of a config with their router and registry; models are loaded by the first request that needs them.

    Args:
        config, precision: as for `load_run_config`.

    Raises:
        ConfigError: the config is invalid; no provider is left open.
    """

    def __init__(
        self, config: RunConfig | Mapping[str, Any] | str | Path | None = None, precision: str | None = None
    ) -> None:
        self.config = load_run_config(config, precision)
        """Config with ``${env.NAME}`` as written and all other secrets hidden."""
        self.apis = {api: SERVED_APIS[api] for api in SERVED_APIS if api in (self.config.apis or SERVED_APIS)}
        """Protocols to serve, by API; all of them unless the config selects some."""
        self.providers: dict[str, InferenceProvider] = {}
        try:
            for instance in self.config.providers.get("inference", []):
                self.providers[instance.provider_id] = create(instance)
        except BaseException:
            self.close()
            raise
        self.models = ModelRegistry(self.providers, RegistrationStore(state_dir() / FILE_NAME))
        self.inference = Router(self.models)
        self.inspect = Inspector(self.config, self.providers, self.apis)

    async def open(self) -> None:
        """List the models of every provider, and restore earlier registrations."""
        await self.models.open()

    def close(self) -> None:
        for provider in self.providers.values():
            provider.close()
