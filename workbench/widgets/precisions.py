"""The precisions in which a model can be registered with a provider, and the devices for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.protocol import Provider
from workbench.protocol.quantization import PRECISIONS


def precision_choices(provider: Provider) -> list[dict[str, str]]:
    """Return the choices with their texts, the default first with an empty value; none for a remote provider."""
    if provider.provider_type == "inline::ray":
        engine_type = provider.config.get("engine_type", "inline::transformers")
        return precision_choices(
            Provider(
                provider_id=provider.provider_id, provider_type=engine_type, config=provider.config.get("engine", {})
            )
        )
    if provider.provider_type != "inline::transformers":
        return []
    own = _named(provider.config.get("quantization")) or "float32"
    of_catalog = _named(provider.config.get("catalog_quantization")) or own
    default = f"{own} (default)" if own == of_catalog else f"{own} (default; {of_catalog} for catalog models)"
    return [{"value": "", "text": default}, *({"value": name, "text": name} for name in PRECISIONS)]


def device_choices(provider: Provider, devices: Sequence[str]) -> list[dict[str, str]]:
    """Return the choices with their texts, the default first with an empty value; none if there is only one device.

    Args:
        devices: devices of this machine that the provider can use, the preferred one first.
    """
    if len(devices) < 2:
        return []
    named = provider.config.get("device", "auto")
    default = devices[0] if named == "auto" else named
    return [{"value": "", "text": f"{default} (default)"}, *({"value": name, "text": name} for name in devices)]


def _named(quantization: Any) -> str | None:
    return str(quantization.get("type")) if isinstance(quantization, Mapping) else None
