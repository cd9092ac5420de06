"""The file of registrations: what is put is found, by every process, and damage is a typed error."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import StateError
from workbench.stack.registrations import RegistrationStore, StoredRegistration, state_dir

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
stored = st.builds(StoredRegistration, texts, texts, texts, texts, st.dictionaries(texts, JSON, max_size=2))


@pytest.fixture
def store(tmp_path: Path) -> RegistrationStore:
    return RegistrationStore(tmp_path / "deep" / "state" / "registrations.sqlite3")


def row(provider_id: str, identifier: str, llama_model: str = "weights") -> StoredRegistration:
    return StoredRegistration(provider_id, "inline::fake", identifier, llama_model, {})


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(stored, max_size=4, unique_by=lambda row: (row.provider_id, row.identifier)))
def test_what_is_put_is_found_in_order_and_what_is_removed_is_not(
    tmp_path_factory: pytest.TempPathFactory, rows: list[StoredRegistration]
) -> None:
    store = RegistrationStore(tmp_path_factory.mktemp("state") / "file")
    for each in rows:
        store.put(each)
    assert store.rows() == rows
    for each in rows[::2]:
        store.remove(each.provider_id, each.identifier)
    assert store.rows() == rows[1::2]


def test_the_same_again_replaces_and_keeps_its_place(store: RegistrationStore) -> None:
    for each in (row("a", "x"), row("b", "x"), row("a", "x", "other")):
        store.put(each)
    assert store.rows() == [row("a", "x", "other"), row("b", "x")]


def test_looking_makes_no_file(store: RegistrationStore) -> None:
    assert store.rows() == []
    store.remove("a", "x")
    assert not store.path.parent.parent.exists()


def test_a_file_of_a_newer_workbench_is_left_alone(store: RegistrationStore) -> None:
    store.put(row("a", "x"))
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for use in (store.rows, lambda: store.put(row("a", "y")), lambda: store.remove("a", "x")):
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
    store.put(StoredRegistration("a", "inline::fake", f"{worker}-{step}", "weights", {}))
    store.put(StoredRegistration("a", "inline::fake", "shared", worker, {}))
    if step % 2:
        store.remove("a", f"{worker}-{step}")
    store.rows()
"""


def test_three_processes_on_one_file_lose_nothing(store: RegistrationStore) -> None:
    command = [sys.executable, "-c", WORKER, str(store.path)]
    processes = [subprocess.Popen([*command, str(worker)], stderr=subprocess.PIPE) for worker in range(3)]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    names = [each.identifier for each in store.rows()]
    assert sorted(names) == sorted(
        {f"{worker}-{step}" for worker in range(3) for step in range(0, 100, 2)} | {"shared"}
    )
