"""The config of an ``inline::ray`` provider."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workbench.protocol import ConfigModel


class RayConfig(ConfigModel):
    """What a run config may say under ``config`` of this provider."""

    address: str | None = Field(default=None, min_length=1)
    """Of an existing cluster, such as ``auto`` or ``10.0.0.1:6379``; None starts one on this machine."""
    actors: int = Field(default=2, ge=1, le=1024)
    """Engines in the pool, each a process with its own copy of a model."""
    cpus_per_actor: float = Field(default=1.0, ge=0, le=1024)
    """Cores that an actor takes of the cluster; below 1, several share one."""
    gpus_per_actor: float = Field(default=0.0, ge=0, le=64)
    """GPUs that an actor takes of the cluster."""
    retries: int = Field(default=3, ge=0, le=20)
    """How often a request goes to another actor after one was lost."""
    engine_type: str = "inline::transformers"
    """Provider type that each actor runs."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Its config, with the models."""
