"""Memory banks of all types in one SQLite file."""

from __future__ import annotations

from workbench.providers.memory.sqlite.provider import SqliteProvider

__all__ = ["SqliteProvider"]
