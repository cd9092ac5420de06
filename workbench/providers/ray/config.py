"""The config of an ``inline::ray`` provider."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workbench.protocol import ConfigModel


class RayConfig(ConfigModel):
    """The ``config`` of an ``inline::ray`` provider in a run config."""

    address: str | None = Field(default=None, min_length=1)
    """Address of an existing cluster, such as ``auto`` or ``10.0.0.1:6379``; None starts one on this machine."""
    actors: int = Field(default=2, ge=1, le=1024)
    """Engines in the pool; each is a process with its own copy of a model."""
    cpus_per_actor: float = Field(default=1.0, ge=0, le=1024)
    """CPU cores that each actor reserves; below 1, several share one."""
    gpus_per_actor: float = Field(default=0.0, ge=0, le=64)
    """GPUs that each actor reserves."""
    retries: int = Field(default=3, ge=0, le=20)
    """Retries of a request on another actor after one is lost."""
    engine_type: str = "inline::transformers"
    """Provider type that each actor runs."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Config of that provider, with its models."""
