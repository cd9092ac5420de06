"""APIs of a stack, by their names in a run config, with the protocols that define them."""

from __future__ import annotations

from workbench.protocol import (
    BatchInference,
    Inference,
    Insides,
    Inspect,
    Memory,
    MemoryBanks,
    MemoryBankUnregistration,
    Models,
    ModelUnregistration,
    ProviderHealth,
    Safety,
    Shields,
    ShieldUnregistration,
)

SERVED_APIS: dict[str, tuple[type, ...]] = {
    "inference": (Inference, BatchInference),
    "models": (Models, ModelUnregistration),
    "safety": (Safety,),
    "shields": (Shields, ShieldUnregistration),
    "memory": (Memory,),
    "memory_banks": (MemoryBanks, MemoryBankUnregistration),
    "inspect": (Inspect, ProviderHealth),
    "insides": (Insides,),
}
"""APIs that ``apis`` of a run config may name, with their protocols."""

DEFAULT_APIS = tuple(api for api in SERVED_APIS if api != "insides")
"""APIs that are served if a run config names none; looking into models, and changing them, must be switched on."""

PROVIDER_APIS = ("inference", "safety", "memory")
"""APIs that ``providers`` of a run config may name; the stack itself implements the others."""
