"""The config of an ``inline::sqlite`` provider."""

from __future__ import annotations

from pydantic import Field

from workbench.providers.memory.config import DocumentConfig


class SqliteConfig(DocumentConfig):
    """The ``config`` of an ``inline::sqlite`` provider in a run config."""

    path: str | None = Field(default=None, min_length=1)
    """File of the banks; None for one under the folder of saved state, named after the provider."""
    cache_mb: int = Field(default=1024, ge=0)
    """Memory in MiB for the vectors of banks that were searched; those of the last searched bank are always kept."""
    index_above: int = Field(default=200_000, ge=0)
    """Chunks of a bank above which it is searched by an index, if ``faiss`` is installed: faster, but not exact."""
