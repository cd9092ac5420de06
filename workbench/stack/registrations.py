"""Storage of run-time registrations, in one SQLite file that several processes may use at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import StateError

FILE_NAME = "registrations.sqlite3"

_VERSION = 2
_BUSY_TIMEOUT_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    provider_type TEXT NOT NULL,
    identifier TEXT NOT NULL,
    definition TEXT NOT NULL,
    UNIQUE (kind, provider_id, identifier)
)
"""
# Stored JSON is copied as text: a damaged value is reported when it is read, and blocks no other row.
_FROM_VERSION_1 = """
INSERT INTO resources (sequence, kind, provider_id, provider_type, identifier, definition)
SELECT sequence, 'model', provider_id, provider_type, identifier,
    '{"llama_model": ' || json_quote(llama_model) || ', "metadata": ' || metadata || '}'
FROM registrations
"""
_PUT = """
INSERT INTO resources (kind, provider_id, provider_type, identifier, definition) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (kind, provider_id, identifier) DO UPDATE SET
    provider_type = excluded.provider_type, definition = excluded.definition
"""
_ROWS = "SELECT provider_id, provider_type, identifier, definition FROM resources WHERE kind = ? ORDER BY sequence"
_REMOVE = "DELETE FROM resources WHERE kind = ? AND provider_id = ? AND identifier = ?"


@dataclass(frozen=True, slots=True)
class StoredRegistration:
    """One resource that was registered at run time."""

    kind: str
    provider_id: str
    provider_type: str
    """Type of the provider at the time; an instance of another type does not restore the resource."""
    identifier: str
    definition: dict[str, Any]
    """The definition's other fields."""


class RegistrationStore:
    """Registrations in a SQLite file, safe from any thread and process: each call is a transaction of its own.

    The first registration creates the file; reading does not. Every method raises `StateError` if the file cannot be
    read or written. A file of an earlier version is migrated in the first transaction that succeeds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, kind: str) -> list[StoredRegistration]:
        """Return all registrations of a kind, the oldest first."""
        if not self.path.exists():
            return []
        with self._connection() as connection:
            return [
                StoredRegistration(kind, provider_id, provider_type, identifier, _fields(definition))
                for provider_id, provider_type, identifier, definition in connection.execute(_ROWS, (kind,))
            ]

    def put(self, row: StoredRegistration) -> None:
        """Store a registration; one of the same kind, provider and identifier is replaced in its position."""
        values = row.kind, row.provider_id, row.provider_type, row.identifier, json.dumps(row.definition)
        with self._connection() as connection:
            connection.execute(_PUT, values)

    def remove(self, kind: str, provider_id: str, identifier: str) -> None:
        """Delete a registration; it is no error if there is none."""
        if not self.path.exists():
            return
        with self._connection() as connection:
            connection.execute(_REMOVE, (kind, provider_id, identifier))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One connection a call: a connection shared by threads or inherited by a fork would need a lock of ours.
            with closing(sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
                # Take the writer's lock at once: a reader that became a writer later could not wait for another one.
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
        """Bring the file to the current version, as part of the caller's transaction."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise StateError(
                f"registrations in {self.path} come from a newer workbench (format {version}; this one reads "
                f"{_VERSION}): upgrade the workbench, or set WORKBENCH_STATE to another folder"
            )
        if version == _VERSION:
            return
        connection.execute(_SCHEMA)
        if version == 1:
            connection.execute(_FROM_VERSION_1)
            connection.execute("DROP TABLE registrations")
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _fields(definition: str) -> dict[str, Any]:
    fields = json.loads(definition)
    if not isinstance(fields, dict):
        raise ValueError(f"a definition is {type(fields).__name__} instead of an object")  # noqa: TRY004 - as json.loads reports damage
    return fields
