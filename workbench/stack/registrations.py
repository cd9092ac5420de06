"""Registrations that outlive the process, in one SQLite file that several processes may use at once."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import StateError
from workbench.paths import typed_path

FILE_NAME = "registrations.sqlite3"

_VERSION = 1
_BUSY_TIMEOUT_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS registrations (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    provider_id TEXT NOT NULL,
    provider_type TEXT NOT NULL,
    identifier TEXT NOT NULL,
    llama_model TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (provider_id, identifier)
)
"""
_PUT = """
INSERT INTO registrations (provider_id, provider_type, identifier, llama_model, metadata) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (provider_id, identifier) DO UPDATE SET
    provider_type = excluded.provider_type, llama_model = excluded.llama_model, metadata = excluded.metadata
"""
_ROWS = """
SELECT provider_id, provider_type, identifier, llama_model, metadata FROM registrations ORDER BY sequence
"""


def state_dir() -> Path:
    """``WORKBENCH_STATE``, else the platform's state folder of this user; it may not exist yet."""
    if chosen := os.environ.get("WORKBENCH_STATE"):
        return typed_path(chosen, "WORKBENCH_STATE").absolute()
    from platformdirs import user_state_path

    return user_state_path("inference-workbench", appauthor=False)


@dataclass(frozen=True, slots=True)
class StoredRegistration:
    """One model that was registered at run time."""

    provider_id: str
    provider_type: str
    """Another type under the same id is another provider, which is not asked for this model."""
    identifier: str
    llama_model: str
    metadata: dict[str, Any]


class RegistrationStore:
    """Safe from any thread and process: each call is one transaction on a connection of its own.

    The file is made by the first registration; to look into it changes nothing. Every method raises `StateError`
    where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[StoredRegistration]:
        """All of them, the oldest first."""
        if not self.path.exists():
            return []
        with self._connection() as connection:
            return [
                StoredRegistration(provider_id, provider_type, identifier, llama_model, json.loads(metadata))
                for provider_id, provider_type, identifier, llama_model, metadata in connection.execute(_ROWS)
            ]

    def put(self, row: StoredRegistration) -> None:
        """Keep a registration; one with the same provider and identifier is replaced and keeps its place."""
        with self._connection() as connection:
            connection.execute(
                _PUT, (row.provider_id, row.provider_type, row.identifier, row.llama_model, json.dumps(row.metadata))
            )

    def remove(self, provider_id: str, identifier: str) -> None:
        """Forget a registration; one that was never kept is no error."""
        if not self.path.exists():
            return
        with self._connection() as connection:
            connection.execute(
                "DELETE FROM registrations WHERE provider_id = ? AND identifier = ?", (provider_id, identifier)
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One connection a call: a connection shared by threads or inherited by a fork would need a lock of ours.
            with closing(sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # a reader never waits for a writer
                # The writer's lock at once: a reader that became a writer later could not wait for another one.
                connection.execute("BEGIN IMMEDIATE")
                self._prepare(connection)
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StateError(
                f"registrations in {self.path} cannot be read or written: {error}. Set WORKBENCH_STATE to a writable"
                " folder, or remove the file if it is damaged."
            ) from None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise StateError(
                f"registrations in {self.path} come from a newer workbench (format {version}; this one reads "
                f"{_VERSION}): upgrade the workbench, or set WORKBENCH_STATE to another folder"
            )
        if version < _VERSION:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
