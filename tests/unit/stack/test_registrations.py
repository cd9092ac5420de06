"""The file of registrations: what is put is found, by every process, and damage is a typed error."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from workbench.errors import StateError
from workbench.paths import state_dir
from workbench.stack.registrations import RegistrationStore, StoredRegistration

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
kinds = st.sampled_from(["model", "shield"])
stored = st.builds(StoredRegistration, kinds, texts, texts, texts, st.dictionaries(texts, JSON, max_size=2))


@pytest.fixture
def store(tmp_path: Path) -> RegistrationStore:
    return RegistrationStore(tmp_path / "deep" / "state" / "registrations.sqlite3")


def row(provider_id: str, identifier: str, llama_model: str = "weights") -> StoredRegistration:
    return StoredRegistration("model", provider_id, "inline::fake", identifier, {"llama_model": llama_model})


@settings(max_examples=budget(30))
@given(rows=st.lists(stored, max_size=4, unique_by=lambda row: (row.kind, row.provider_id, row.identifier)))
def test_what_is_put_is_found_in_order_and_what_is_removed_is_not(
    tmp_path_factory: pytest.TempPathFactory, rows: list[StoredRegistration]
) -> None:
    store = RegistrationStore(tmp_path_factory.mktemp("state") / "file")
    for each in rows:
        store.put(each)
    for kind in ("model", "shield"):
        assert store.rows(kind) == [each for each in rows if each.kind == kind]
    for each in rows[::2]:
        store.remove(each.kind, each.provider_id, each.identifier)
    for kind in ("model", "shield"):
        assert store.rows(kind) == [each for each in rows[1::2] if each.kind == kind]


def test_the_same_again_replaces_and_keeps_its_place(store: RegistrationStore) -> None:
    for each in (row("a", "x"), row("b", "x"), row("a", "x", "other")):
        store.put(each)
    assert store.rows("model") == [row("a", "x", "other"), row("b", "x")]


def test_looking_makes_no_file(store: RegistrationStore) -> None:
    assert store.rows("model") == []
    store.remove("model", "a", "x")
    assert not store.path.parent.parent.exists()


def test_a_file_of_a_newer_workbench_is_left_alone(store: RegistrationStore) -> None:
    store.put(row("a", "x"))
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for use in (lambda: store.rows("model"), lambda: store.put(row("a", "y")), lambda: store.remove("model", "a", "x")):
        with pytest.raises(StateError, match="newer workbench"):
            use()


def test_the_state_folder_is_the_environment_s_or_the_platform_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATE", "~/somewhere")
    assert state_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("WORKBENCH_STATE")
    assert "inference-workbench" in state_dir().parts


WORKER = """
import sys
from pathlib import Path
from workbench.stack.registrations import RegistrationStore, StoredRegistration

store, worker = RegistrationStore(Path(sys.argv[1])), sys.argv[2]
for step in range(100):
    store.put(StoredRegistration("model", "a", "inline::fake", f"{worker}-{step}", {}))
    store.put(StoredRegistration("model", "a", "inline::fake", "shared", {"worker": worker}))
    if step % 2:
        store.remove("model", "a", f"{worker}-{step}")
    store.rows("model")
"""


def test_three_processes_on_one_file_lose_nothing(store: RegistrationStore) -> None:
    command = [sys.executable, "-c", WORKER, str(store.path)]
    processes = [subprocess.Popen([*command, str(worker)], stderr=subprocess.PIPE) for worker in range(3)]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    names = [each.identifier for each in store.rows("model")]
    assert sorted(names) == sorted(
        {f"{worker}-{step}" for worker in range(3) for step in range(0, 100, 2)} | {"shared"}
    )


# --------------------------------------------------------------------------------------------- files of version 1

VERSION_1 = """
CREATE TABLE registrations (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    provider_id TEXT NOT NULL,
    provider_type TEXT NOT NULL,
    identifier TEXT NOT NULL,
    llama_model TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (provider_id, identifier)
);
PRAGMA user_version = 1;
"""
ADD_1 = (
    "INSERT INTO registrations (provider_id, provider_type, identifier, llama_model, metadata) VALUES (?, ?, ?, ?, ?)"
)
OLD = [("a", "x", '"we\nights"', {}), ("b", "y", "\\ café \u2028", {"note": [1, "é", None]}), ("a", "z", "", {"x": {}})]
MIGRATED = [
    StoredRegistration("model", provider, "inline::fake", name, {"llama_model": source, "metadata": metadata})
    for provider, name, source, metadata in OLD
]


def write_version_1(path: Path, *more: tuple[str, str, str, str]) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(VERSION_1)
        rows = [*((*row[:3], json.dumps(row[3])) for row in OLD), *more]
        connection.executemany(ADD_1, [(row[0], "inline::fake", *row[1:]) for row in rows])


def content(path: Path) -> tuple[int, list[str]]:
    """The version, and all that the file holds, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0], list(connection.iterdump())


def test_registrations_of_version_1_are_models_in_their_order(store: RegistrationStore) -> None:
    write_version_1(store.path)
    assert store.rows("shield") == []
    assert store.rows("model") == MIGRATED
    version, lines = content(store.path)
    assert version == 2
    assert not any("registrations" in line for line in lines)
    store.put(row("a", "a"))
    assert store.rows("model") == [*MIGRATED, row("a", "a")]


@pytest.mark.parametrize("use", ["put", "remove"])
def test_a_file_of_version_1_is_migrated_by_whatever_comes_first(store: RegistrationStore, use: str) -> None:
    write_version_1(store.path)
    if use == "put":
        store.put(row("a", "new"))
    else:
        store.remove("model", "a", "z")
    assert store.rows("model") == ([*MIGRATED, row("a", "new")] if use == "put" else MIGRATED[:2])


@pytest.mark.parametrize("metadata", ['{"x": ', "[1]}", ""])
def test_a_damaged_row_is_a_typed_error_and_loses_nothing(store: RegistrationStore, metadata: str) -> None:
    write_version_1(store.path, ("a", "damaged", "weights", metadata))
    before = content(store.path)
    with pytest.raises(StateError, match="damaged"):
        store.rows("model")
    assert content(store.path) == before
    store.remove("model", "a", "damaged")
    assert store.rows("model") == MIGRATED


@pytest.mark.parametrize("definition", ["", "{", "3", "null", '["llama_model"]'])
def test_a_damaged_definition_is_a_typed_error(store: RegistrationStore, definition: str) -> None:
    store.put(row("a", "x"))
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE resources SET definition = ?", (definition,))
    with pytest.raises(StateError, match="damaged"):
        store.rows("model")


STEPS = [
    "CREATE TABLE",
    "INSERT INTO resources",
    "DROP TABLE",
    "PRAGMA user_version = 2",
    "SELECT provider_id",
    "COMMIT",
]
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from workbench.stack.registrations import RegistrationStore

class Mortal(sqlite3.Connection):
    def execute(self, sql, *values):
        found = super().execute(sql, *values) if sql != "COMMIT" else None
        if sys.argv[2] in sql:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

connect = sqlite3.connect
sqlite3.connect = lambda *args, **options: connect(*args, factory=Mortal, **options)
RegistrationStore(Path(sys.argv[1])).rows("model")
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_while_it_migrates_leaves_the_old_file(store: RegistrationStore, step: str) -> None:
    write_version_1(store.path)
    before = content(store.path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.path), step], check=False)
    assert done.returncode == -signal.SIGKILL
    assert content(store.path) == before
    assert store.rows("model") == MIGRATED


def test_many_processes_that_open_an_old_file_at_once_migrate_it_once(store: RegistrationStore) -> None:
    write_version_1(store.path)
    opener = (
        "import sys; from pathlib import Path; from workbench.stack.registrations import RegistrationStore\n"
        "store = RegistrationStore(Path(sys.argv[1])); print('ready', flush=True); input()\n"
        "print([each.identifier for each in store.rows('model')])"
    )
    command = [sys.executable, "-c", opener, str(store.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate() for process in processes] == [("['x', 'y', 'z']\n", "")] * 3
    assert store.rows("model") == MIGRATED


@pytest.mark.parametrize("is_old", [True, False])
def test_the_first_use_of_a_file_by_several_at_once_fails_for_none(tmp_path: Path, is_old: bool) -> None:
    for number in range(budget(100)):
        store = RegistrationStore(tmp_path / str(number) / "registrations.sqlite")
        if is_old:
            write_version_1(store.path)
        barrier = Barrier(4)

        def put(index: int, store: RegistrationStore = store, barrier: Barrier = barrier) -> None:
            barrier.wait()
            store.put(row("new", str(index)))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(put, range(4)))
        added = store.rows("model")[len(MIGRATED) * is_old :]
        assert sorted(each.identifier for each in added) == ["0", "1", "2", "3"]
