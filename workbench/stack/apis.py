"""The APIs of a stack: their names in a run config, and the protocols behind them."""

from __future__ import annotations

from workbench.protocol import BatchInference, Inference, Inspect, Models, ModelUnregistration, ProviderHealth

SERVED_APIS: dict[str, tuple[type, ...]] = {
    "inference": (Inference, BatchInference),
    "models": (Models, ModelUnregistration),
    "inspect": (Inspect, ProviderHealth),
}
"""What ``apis`` of a run config may name."""

PROVIDER_APIS = ("inference",)
"""What ``providers`` of a run config may name; the stack itself answers the others."""
