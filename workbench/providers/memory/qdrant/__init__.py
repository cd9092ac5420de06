"""Memory banks in a Qdrant server, or in its embedded store."""

from __future__ import annotations

from workbench.providers.memory.qdrant.provider import QdrantProvider

__all__ = ["QdrantProvider"]
