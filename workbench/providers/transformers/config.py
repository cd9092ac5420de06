"""The config of an ``inline::transformers`` provider."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workbench.engine.precision import Precision
from workbench.errors import ConfigError
from workbench.protocol import ConfigModel, Provider, QuantizationConfig


class TransformersConfig(ConfigModel):
    """What a run config may say under ``config`` of this provider."""

    models: list[str] = Field(default_factory=list)
    """Catalog names, local folders or hub ids; a folder is served under its own name."""
    quantization: QuantizationConfig | None = None
    """None is float32, the reference."""
    device: Literal["auto", "cpu"] = "auto"
    max_active: int = Field(default=16, ge=1, le=256)
    """Requests of one model that decode together; more wait their turn."""
    prefix_cache_mb: int = Field(default=128, ge=0)
    """Memory for keys and values of past prompts, for each model; 0 switches reuse off."""

    @property
    def precision(self) -> Precision:
        return self.quantization.type if self.quantization else "float32"


def parse(provider: Provider) -> TransformersConfig:
    """The provider's config, or a `ConfigError` that names the provider and the wrong key."""
    try:
        return TransformersConfig.model_validate(provider.config)
    except ConfigError as error:
        raise ConfigError(f"provider {provider.provider_id!r}: {error}") from None
