"""Memory banks are filled, queried and emptied from the command line, and kept between two commands."""

from __future__ import annotations

import io
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.fakes.resources import config_of, memory, serve_fakes

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli

STORED = {"provider_id": "stored", "provider_type": "inline::sqlite", "config": {}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with some notes; banks are stored in a file, or by a fake without chunks of its own."""
    serve_fakes(monkeypatch)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config_of(memory=[STORED, memory("fake")])))
    monkeypatch.setenv("WORKBENCH_CONFIG", str(tmp_path / "run.yaml"))
    monkeypatch.chdir(tmp_path)
    notes = {
        "notes/rome.md": "# Rome\n\nRome is old.",
        "notes/deep/paris.txt": "Paris is big.",
        "oslo.txt": "Oslo is cold.",
    }
    for name, text in notes.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    return tmp_path


@pytest.fixture
def words(cli: Cli) -> str:
    """The name of an empty keyword bank."""
    assert cli("memory", "register", "words", "--type", "keyword").code == 0
    return "words"


def documents(cli: Cli, bank: str) -> list[str]:
    return cli("memory", "list", bank).out.splitlines()


def found(cli: Cli, *arguments: str) -> list[str]:
    outcome = cli("memory", "query", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return [chunk["document_id"] for chunk in json.loads(outcome.out)["chunks"]]


# ---------------------------------------------------------------------------------------------------------------- banks


def test_a_registered_bank_is_listed_until_it_is_deleted(cli: Cli) -> None:
    assert cli("memory", "list").out == "NAME  PROVIDER  TYPE  CHUNKS\n"
    made = cli("memory", "register", "terms", "--type", "keyvalue")
    assert (made.code, made.out) == (0, "terms: keyvalue bank registered with stored\n")
    options = ("--provider", "fake", "--chunk-size", "64", "--overlap", "0")
    assert cli("memory", "register", "notes", *options).out == (
        "notes: vector bank registered with fake, 64 tokens of echo-embedding, 0 of them shared\n"
    )
    assert cli("memory", "list").out.splitlines()[1:] == [
        "terms  stored    keyvalue",
        "notes  fake      vector    64 tokens of echo-embedding, 0 of them shared",
    ]
    assert json.loads(cli("memory", "list", "--json").out)[1] == {
        "name": "notes",
        "identifier": "notes",
        "provider_id": "fake",
        "type": "vector",
        "embedding_model": "echo-embedding",
        "chunk_size_in_tokens": 64,
        "overlap_size_in_tokens": 0,
    }
    assert cli("memory", "unregister", "stored/terms", "notes").out == "stored/terms: deleted\nnotes: deleted\n"
    assert json.loads(cli("memory", "list", "--json").out) == []


# ------------------------------------------------------------------------------------------------------------ documents


def test_files_folders_and_patterns_are_inserted_and_found_by_the_next_command(cli: Cli, words: str) -> None:
    assert cli("memory", "insert", words, "notes", "oslo.txt").out == "words: 3 documents inserted\n"
    assert documents(cli, words) == ["rome.md", "deep/paris.txt", "oslo.txt"]
    assert found(cli, words, "old") == ["rome.md"]
    assert json.loads(cli("memory", "insert", words, "notes/**/*.txt", "--json").out) == ["paris.txt"]
    assert json.loads(cli("memory", "list", words, "--json").out)[-2:] == ["oslo.txt", "paris.txt"]
    assert cli("memory", "delete", words, "paris.txt", "rome.md").out == "words: paris.txt, rome.md deleted\n"
    assert documents(cli, words) == ["deep/paris.txt", "oslo.txt"]


def test_a_text_is_read_from_standard_input(cli: Cli, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("The exam is on Monday."))
    assert cli("memory", "insert", words, "-").out == "words: 1 document inserted\n"
    shown = cli("memory", "query", words, "exam").out
    assert shown.splitlines()[1] == "    The exam is on Monday."


def test_a_chunk_is_shown_with_its_score_document_metadata_and_text(cli: Cli, words: str) -> None:
    cli("memory", "insert", words, "notes/rome.md", "--metadata", '{"course": "Ä"}')
    score, *lines = cli("memory", "query", words, "old").out.split("  ", 1)
    assert float(score) > 0
    assert lines == ['rome.md  {"course": "Ä"}\n    # Rome\n\n    Rome is old.\n\n']


def test_a_filter_takes_json_or_text_and_several_values_of_a_key(cli: Cli, words: str) -> None:
    for name, course in (("rome.md", '{"course": 1}'), ("deep/paris.txt", '{"course": "one"}')):
        cli("memory", "insert", words, f"notes/{name}", "--metadata", course)
    assert len(found(cli, words, "is")) == 2
    assert found(cli, words, "is", "--filter", "course=1") == ["rome.md"]
    assert found(cli, words, "is", "--filter", "course=one") == ["paris.txt"]
    assert len(found(cli, words, "is", "--filter", "course=one", "--filter", "course=1")) == 2
    assert len(found(cli, words, "is", "--max-chunks", "1")) == 1
    assert found(cli, words, "is", "--score-threshold", "1e9") == []


def test_each_type_of_bank_has_its_own_options(cli: Cli) -> None:
    for kind in ("keyvalue", "graph"):
        cli("memory", "register", kind, "--type", kind)
    cli("memory", "insert", "keyvalue", "notes", "oslo.txt")
    assert found(cli, "keyvalue", "rome.md") == ["rome.md"]
    assert found(cli, "keyvalue", "o") == []
    assert found(cli, "keyvalue", "o", "--prefix") == ["oslo.txt"]
    cli("memory", "insert", "graph", "notes/rome.md", "--metadata", '{"links": ["oslo.txt"]}')
    cli("memory", "insert", "graph", "oslo.txt")
    assert found(cli, "graph", "old") == ["rome.md", "oslo.txt"]
    assert found(cli, "graph", "old", "--hops", "0") == ["rome.md"]


def test_a_time_to_live_is_handed_on(cli: Cli, words: str) -> None:
    assert cli("memory", "insert", words, "oslo.txt", "--ttl", "86400").code == 0
    assert documents(cli, words) == ["oslo.txt"]
    refused = cli("memory", "insert", words, "oslo.txt", "--ttl", "-1")
    assert (refused.code, "ttl_seconds" in refused.err) == (2, True)


# ------------------------------------------------------------------------------------------------------------ bad usage


@pytest.mark.parametrize(
    "arguments,said",
    [
        (("register", ""), "identifier"),
        (("register", "x", "--type", "heap"), "heap"),
        (("register", "x", "--provider", "nobody"), "one of the configured memory providers: stored, fake"),
        (("register", "x", "--type", "keyword", "--chunk-size", "9"), "chunk_size_in_tokens must be left out"),
        (("register", "x", "--embedding-model", "nobody"), "nobody"),
        (("unregister", "nobody"), "served memory banks: words"),
        (("unregister", "words", "nobody"), "served memory banks: words"),
        (("list", "nobody"), "served memory banks: words"),
        (("insert", "nobody", "oslo.txt"), "served memory banks: words"),
        (("insert", "words", "nowhere.txt"), "nowhere.txt"),
        (("insert", "words", "no*where"), "no*where"),
        (("insert", "words", "oslo.txt", "--metadata", "[1]"), "JSON object"),
        (("insert", "words", "oslo.txt", "--metadata", "{"), "not valid JSON"),
        (("query", "nobody", "x"), "served memory banks: words"),
        (("query", "words", " "), "query"),
        (("query", "words", "x", "--mode", "hybrid"), "params.mode"),
        (("query", "words", "x", "--hops", "1"), "params.hops"),
        (("query", "words", "x", "--max-chunks", "0"), "params.max_chunks"),
        (("query", "words", "x", "--filter", "course"), "KEY=VALUE"),
        (("query", "words", "x", "--filter", "=1"), "KEY=VALUE"),
        (("delete", "words", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_bad_usage_is_told_in_words_and_changes_nothing(
    cli: Cli, words: str, arguments: tuple[str, ...], said: str
) -> None:
    outcome = cli("memory", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert documents(cli, words) == []
    assert [bank["name"] for bank in json.loads(cli("memory", "list", "--json").out)] == [words]


def test_a_file_that_is_not_text_is_refused_and_in_a_folder_left_out(cli: Cli, words: str) -> None:
    Path("notes/rome.png").write_bytes(b"\x89PNG\0\xff")
    refused = cli("memory", "insert", words, "notes/rome.png")
    assert (refused.code, "a file of text in UTF-8, or a PDF file" in refused.err) == (2, True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        outcome = cli("memory", "insert", words, "notes")
    assert (outcome.code, outcome.out) == (0, "words: 2 documents inserted\n")
    assert outcome.err == "workbench: warning: files in notes that are not text were left out (1): rome.png\n"


def test_the_file_of_the_banks_is_where_the_state_is(cli: Cli, words: str, own_state: Path) -> None:
    cli("memory", "insert", words, "oslo.txt")
    content: Any = [path.read_bytes() for path in own_state.rglob("*") if path.is_file()]
    assert any(b"Oslo is cold." in stored for stored in content)
