"""What the providers of all APIs have in common: their ids, their config, their health and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from workbench.errors import ConfigError
from workbench.protocol import ConfigModel, HealthInfo

if TYPE_CHECKING:
    from workbench.protocol import Provider


class ConfiguredProvider:
    """One instance of a provider type, as a run config describes it.

    Raises:
        ConfigError: the config is wrong; the message names the provider and the key.
    """

    Config: ClassVar[type[ConfigModel]] = ConfigModel
    """Class that the provider's part of a run config is parsed into, as ``self.config``."""
    live_listing: ClassVar[bool] = False
    """Whether the resources can change by themselves, as on a server; every listing then asks the provider again."""

    def __init__(self, provider: Provider) -> None:
        self.provider_id = provider.provider_id
        self.provider_type = provider.provider_type
        try:
            self.config: Any = self.Config.model_validate(provider.config)
        except ConfigError as error:
            raise ConfigError(f"provider {provider.provider_id!r}: {error}") from None

    @classmethod
    def check_config(cls, config: ConfigModel, provider_type: str) -> None:
        """Raise `ConfigError` for what ``Config`` cannot check by itself, with the path in the config.

        Args:
            config: an instance of ``Config``.
        """

    async def health(self) -> HealthInfo:
        """Return the status ``OK``, or a sentence on why requests cannot be answered; loads nothing."""
        return HealthInfo(status="OK")

    def close(self) -> None:
        """End threads and free memory. Running requests fail with `ClosedError`. Closing twice is harmless."""
