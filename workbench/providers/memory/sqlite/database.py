"""The file of a provider's banks: its tables, and transactions on them.

=============  =====================================================================================================
``banks``      definitions; ``revision`` rises with every change, so that a process sees those of the others
``documents``  ids, metadata and expiry times, in seconds since 1970
``chunks``     texts; a bank without an embedding model has one chunk for each document
``vectors``    float32 vectors of the chunks of vector banks
``words_N``    full-text index of bank N's chunks, one for each bank, so that no bank's scores depend on another's
=============  =====================================================================================================
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from workbench.errors import StateError

_VERSION = 1
_APPLICATION_ID = 0x4D42616E  # "MBan"
_BUSY_TIMEOUT_S = 60.0
_SCHEMA = """
CREATE TABLE banks (
    bank INTEGER PRIMARY KEY AUTOINCREMENT,
    identifier TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL,
    dimensions INTEGER,
    revision INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE documents (
    document INTEGER PRIMARY KEY AUTOINCREMENT,
    bank INTEGER NOT NULL,
    document_id TEXT NOT NULL,
    metadata TEXT NOT NULL,
    expires_at REAL,
    UNIQUE (bank, document_id)
);
CREATE INDEX documents_by_expiry ON documents (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE chunks (
    chunk INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL,
    content TEXT NOT NULL,
    token_count INTEGER NOT NULL
);
CREATE INDEX chunks_by_document ON chunks (document);
CREATE TABLE vectors (
    chunk INTEGER PRIMARY KEY,
    document INTEGER NOT NULL,
    bank INTEGER NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX vectors_by_bank ON vectors (bank);
"""


class Database:
    """One SQLite file, safe from any thread and process: each block is a transaction on a connection of its own.

    The first write creates the file; reading does not. Every method raises `StateError` if the file cannot be read or
    written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one state of the file throughout the block."""
        with self._errors("read"), closing(self._opened()) as connection:
            connection.execute("BEGIN")
            if self._version(connection):
                yield connection
                return
        with self._errors("read"), closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            _create(connection)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose changes are stored at the end of the block; none are if it raises."""
        with self._errors("written"):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as connection:
                # Take the writer's lock at once: a reader that became a writer later could not wait for another one.
                connection.execute("BEGIN IMMEDIATE")
                if not self._version(connection):
                    _create(connection)
                yield connection
                connection.execute("COMMIT")

    def _opened(self) -> sqlite3.Connection:
        path = self.path if self.path.exists() else ":memory:"
        return sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the file's tables, 0 for none; raise `StateError` for a file of something else."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables:
            return 0
        if application_id != _APPLICATION_ID:
            raise StateError(f"{self.path} is no file of memory banks: set config.path of the provider to another one")
        if version > _VERSION:
            raise StateError(
                f"memory banks in {self.path} come from a newer workbench (format {version}; this one reads "
                f"{_VERSION}): upgrade the workbench, or set config.path of the provider to another file"
            )
        return int(version)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StateError(
                f"memory banks in {self.path} cannot be {what}: {error}. Make room on the disk, or set config.path of "
                "the provider, or WORKBENCH_STATE, to a writable place; remove the file if it is damaged."
            ) from None


def words_table(bank: int) -> str:
    """Return the name of a bank's full-text index."""
    return f"words_{bank:d}"


def create_words(connection: sqlite3.Connection, bank: int) -> None:
    """Create the full-text index of a bank, which finds inflected forms of English words and ignores accents."""
    connection.execute(
        f"CREATE VIRTUAL TABLE {words_table(bank)} USING fts5(content, content='chunks', content_rowid='chunk',"
        " tokenize='porter unicode61 remove_diacritics 2')"
    )


def _create(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):  # `executescript` would commit
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
