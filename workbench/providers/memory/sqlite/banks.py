"""Banks and documents in the file: reading definitions, and all changes."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError, MemoryBankNotFoundError
from workbench.protocol import memory_bank
from workbench.providers.memory.checking import check_same
from workbench.providers.memory.sqlite.database import Database, create_words, words_table

if TYPE_CHECKING:
    from workbench.protocol import MemoryBankDef
    from workbench.providers.memory.preparing import NewDocument

_BATCH = 500
"""Documents that one statement deletes."""


@dataclass(frozen=True, slots=True)
class StoredBank:
    """A bank in the file."""

    bank: int
    """Number of the bank, which is never used again."""
    definition: MemoryBankDef
    dimensions: int | None
    """Length of the bank's vectors; None before the first."""
    revision: int


class _CancelledError(Exception):
    """The request was cancelled, so that nothing reads this error; it only ends the transaction."""


class BankStore:
    """Banks of one provider; every method blocks and is a transaction of its own."""

    def __init__(self, database: Database, provider_id: str) -> None:
        self.database = database
        self._provider_id = provider_id

    def definitions(self) -> list[MemoryBankDef]:
        """Return the definitions of all banks, the oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT identifier FROM banks ORDER BY bank").fetchall()
            return [self.find(connection, identifier).definition for (identifier,) in rows]

    def bank(self, identifier: str) -> StoredBank:
        """Return a bank; raise `MemoryBankNotFoundError` if it is not stored."""
        with self.database.reading() as connection:
            return self.find(connection, identifier)

    def find(self, connection: sqlite3.Connection, identifier: str) -> StoredBank:
        """Return a bank as part of a transaction."""
        columns = "bank, definition, dimensions, revision"
        row = connection.execute(f"SELECT {columns} FROM banks WHERE identifier = ?", (identifier,)).fetchone()
        if row is None:
            served = [name for (name,) in connection.execute("SELECT identifier FROM banks")]
            raise MemoryBankNotFoundError(identifier, served)
        bank, definition, dimensions, revision = row
        fields = json.loads(definition) | {"identifier": identifier, "provider_id": self._provider_id}
        return StoredBank(bank, memory_bank(fields), dimensions, revision)

    def create(self, definition: MemoryBankDef) -> None:
        """Store an empty bank, unless the same bank is stored already; raise `InvalidRequestError` for another one."""
        fields = json.dumps(definition.model_dump(mode="json", exclude={"identifier", "provider_id"}))
        with self.database.writing() as connection:
            try:
                known = self.find(connection, definition.identifier)
            except MemoryBankNotFoundError:
                statement = "INSERT INTO banks (identifier, definition) VALUES (?, ?)"
                bank = connection.execute(statement, (definition.identifier, fields)).lastrowid
                if definition.type != "keyvalue" and bank is not None:
                    create_words(connection, bank)
            else:
                check_same(known.definition, definition)

    def drop(self, identifier: str) -> None:
        """Delete a bank with its documents."""
        with self.database.writing() as connection:
            bank = self.find(connection, identifier).bank
            connection.execute(f"DROP TABLE IF EXISTS {words_table(bank)}")
            documents = "SELECT document FROM documents WHERE bank = ?"
            connection.execute(f"DELETE FROM chunks WHERE document IN ({documents})", (bank,))
            for table in ("vectors", "documents", "banks"):
                connection.execute(f"DELETE FROM {table} WHERE bank = ?", (bank,))

    def insert(
        self,
        stored: StoredBank,
        documents: Sequence[NewDocument],
        *,
        now: float,
        expires_at: float | None,
        dimensions: int | None,
        cancelled: threading.Event,
    ) -> None:
        """Store documents in place of those of the same ids, all or none; nothing if ``cancelled`` is set meanwhile."""
        with self._changing(stored.definition.identifier, now) as (connection, bank):
            if bank.bank != stored.bank:
                raise MemoryBankNotFoundError(stored.definition.identifier, [])  # it was replaced meanwhile
            if dimensions is not None:
                check_dimensions(bank, dimensions)
                connection.execute("UPDATE banks SET dimensions = ? WHERE bank = ?", (dimensions, bank.bank))
            ids = [document.document_id for document in documents]
            _delete(connection, bank, _numbers(connection, bank, ids))
            for document in documents:
                _check_wanted(cancelled)
                _insert(connection, bank, document, expires_at)
            _check_wanted(cancelled)

    def delete(self, identifier: str, document_ids: Sequence[str], now: float) -> None:
        """Delete documents, all or none; raise `InvalidRequestError` for an id that is not in the bank."""
        with self._changing(identifier, now) as (connection, bank):
            found = dict(_numbers_by_id(connection, bank, document_ids))
            for index, document_id in enumerate(document_ids):
                if document_id not in found:
                    allowed = f"the id of a document in the bank {identifier}"
                    raise InvalidRequestError(f"document_ids[{index}]", document_id, allowed)
            _delete(connection, bank, found.values())

    def document_ids(self, identifier: str, now: float) -> list[str]:
        """Return the ids of the documents that have not expired, in order of insertion."""
        with self.database.reading() as connection:
            bank = self.find(connection, identifier).bank
            statement = (
                "SELECT document_id FROM documents WHERE bank = ? AND (expires_at IS NULL OR expires_at > ?) "
                "ORDER BY document"
            )
            return [document_id for (document_id,) in connection.execute(statement, (bank, now))]

    @contextmanager
    def _changing(self, identifier: str, now: float) -> Iterator[tuple[sqlite3.Connection, StoredBank]]:
        """Yield a transaction and a bank that it changes; expired documents of all banks are deleted first."""
        with self.database.writing() as connection:
            self._purge(connection, now)
            bank = self.find(connection, identifier)
            yield connection, bank
            _raise_revision(connection, bank)

    def _purge(self, connection: sqlite3.Connection, now: float) -> None:
        statement = "SELECT DISTINCT identifier FROM banks JOIN documents USING (bank) WHERE expires_at <= ?"
        for (identifier,) in connection.execute(statement, (now,)).fetchall():
            bank = self.find(connection, identifier)
            expired = "SELECT document FROM documents WHERE bank = ? AND expires_at <= ?"
            _delete(connection, bank, [number for (number,) in connection.execute(expired, (bank.bank, now))])
            _raise_revision(connection, bank)


def check_dimensions(bank: StoredBank, dimensions: int) -> None:
    """Raise `InvalidRequestError` if a bank's vectors have another length than those of its embedding model."""
    if bank.dimensions not in (None, dimensions):
        allowed = (
            f"a bank whose embedding model makes vectors of {bank.dimensions} numbers, as when it was filled; "
            f"now it makes {dimensions}. Fill a new bank"
        )
        raise InvalidRequestError("bank_id", bank.definition.identifier, allowed)


def _check_wanted(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise _CancelledError


def _insert(connection: sqlite3.Connection, bank: StoredBank, document: NewDocument, expires_at: float | None) -> None:
    metadata = json.dumps(document.metadata, ensure_ascii=False)
    number = connection.execute(
        "INSERT INTO documents (bank, document_id, metadata, expires_at) VALUES (?, ?, ?, ?)",
        (bank.bank, document.document_id, metadata, expires_at),
    ).lastrowid
    for chunk in document.chunks:
        place = connection.execute(
            "INSERT INTO chunks (document, content, token_count) VALUES (?, ?, ?)",
            (number, chunk.content, chunk.token_count),
        ).lastrowid
        if bank.definition.type != "keyvalue":
            statement = f"INSERT INTO {words_table(bank.bank)} (rowid, content) VALUES (?, ?)"
            connection.execute(statement, (place, chunk.content))
        if chunk.vector is not None:
            connection.execute("INSERT INTO vectors VALUES (?, ?, ?, ?)", (place, number, bank.bank, chunk.vector))


def _numbers(connection: sqlite3.Connection, bank: StoredBank, ids: Sequence[str]) -> list[int]:
    return [number for _, number in _numbers_by_id(connection, bank, ids)]


def _numbers_by_id(connection: sqlite3.Connection, bank: StoredBank, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    for start in range(0, len(ids), _BATCH):
        yield from connection.execute(
            "SELECT document_id, document FROM documents "
            "WHERE bank = ? AND document_id IN (SELECT value FROM json_each(?))",
            (bank.bank, json.dumps(ids[start : start + _BATCH])),
        ).fetchall()


def _delete(connection: sqlite3.Connection, bank: StoredBank, numbers: Iterable[int]) -> None:
    """Delete documents with their chunks, vectors and words."""
    remaining = list(numbers)
    chosen = "document IN (SELECT value FROM json_each(?))"
    for start in range(0, len(remaining), _BATCH):
        batch = (json.dumps(remaining[start : start + _BATCH]),)
        if bank.definition.type != "keyvalue":
            words = words_table(bank.bank)
            connection.execute(
                f"INSERT INTO {words} ({words}, rowid, content) "
                f"SELECT 'delete', chunk, content FROM chunks WHERE {chosen}",
                batch,
            )
        connection.execute(f"DELETE FROM vectors WHERE chunk IN (SELECT chunk FROM chunks WHERE {chosen})", batch)
        connection.execute(f"DELETE FROM chunks WHERE {chosen}", batch)
        connection.execute(f"DELETE FROM documents WHERE {chosen}", batch)


def _raise_revision(connection: sqlite3.Connection, bank: StoredBank) -> None:
    connection.execute("UPDATE banks SET revision = revision + 1 WHERE bank = ?", (bank.bank,))
