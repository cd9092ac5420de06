"""A running stack: the providers of a run config behind one router, one registry and one inspector."""

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
    """Builds every provider of the config; nothing is loaded before a request asks for it.

    Args:
        config, precision: as for `load_run_config`.

    Raises:
        ConfigError: something is wrong with the config; no provider was made.
    """

    def __init__(
        self, config: RunConfig | Mapping[str, Any] | str | Path | None = None, precision: str | None = None
    ) -> None:
        self.config = load_run_config(config, precision)
        """With ``${env.NAME}`` as written; it holds no secret that can be read."""
        self.apis = {api: SERVED_APIS[api] for api in SERVED_APIS if api in (self.config.apis or SERVED_APIS)}
        """The protocols to serve, by API; all of them unless the config chooses."""
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
        """Ask every provider what it serves, and for what was registered with it before."""
        await self.models.open()

    def close(self) -> None:
        for provider in self.providers.values():
            provider.close()
