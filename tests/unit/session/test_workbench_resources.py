"""Shields and memory banks from a notebook: registered, used, listed and removed, each by a call that blocks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.fakes.resources import DictionaryMemory, WordShield, config_of, echo, memory, safety, serve_fakes
from workbench import Workbench
from workbench.catalog import progress
from workbench.errors import (
    ClosedError,
    InvalidRequestError,
    MemoryBankNotFoundError,
    ModelNotFoundError,
    ShieldError,
    ShieldNotFoundError,
)
from workbench.protocol import (
    URL,
    GraphMemoryBankDef,
    KeywordMemoryBankDef,
    MemoryBankDocument,
    ShieldDefWithProvider,
    UserMessage,
    VectorMemoryBankDef,
)
from workbench.providers.memory.interface import MemoryCapabilities

CONFIG = config_of(safety=[safety("guard", "own"), safety("other")], memory=[memory("memory", "notes"), memory("more")])


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    serve_fakes(monkeypatch)
    with Workbench(CONFIG) as bench:
        yield bench


def provider(bench: Workbench) -> DictionaryMemory:
    found = bench._stack.memory_providers["memory"]
    assert isinstance(found, DictionaryMemory)
    return found


# -------------------------------------------------------------------------------------------------------------- shields


def test_a_text_or_a_conversation_is_checked(bench: Workbench) -> None:
    violation = bench.run_shield("own", "a forbidden word").violation
    assert violation is not None
    assert violation.metadata == {"word": "forbidden"}
    assert bench.run_shield("own", [UserMessage(content="forbidden"), UserMessage(content="fine")]).violation is None
    assert bench.run_shield("own", "a forbidden word", {"words": ["moon"]}).violation is None


def test_a_shield_is_registered_with_the_defaults_of_its_provider_and_removed(bench: Workbench) -> None:
    made = bench.register_shield("new")
    assert made == ShieldDefWithProvider(identifier="new", type="word", provider_id="guard")
    moon = bench.register_shield("llama", "llama_guard", provider_id="other", params={"words": ["moon"]})
    assert bench.list_shields()[1:] == [made, moon]
    assert bench.run_shield("llama", "the moon").violation is not None
    bench.unregister_shield("llama")
    with pytest.raises(ShieldNotFoundError, match="new, own"):
        bench.run_shield("llama", "the moon")


def test_a_type_finds_the_provider_that_runs_it(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scanner(WordShield):
        shield_types: ClassVar[tuple[str, ...]] = ("scan",)

    monkeypatch.setattr(bench._stack.safety_providers["other"], "__class__", Scanner)
    assert bench.register_shield("new", "scan").provider_id == "other"


def test_what_cannot_be_registered_or_run_is_refused(bench: Workbench) -> None:
    refusals: list[tuple[str, Any]] = [
        ("type", lambda: bench.register_shield("new", "scan")),
        ("provider_id", lambda: bench.register_shield("new", provider_id="nobody")),
        ("params.surprise", lambda: bench.register_shield("new", params={"surprise": 1})),
        ("params", lambda: bench.register_shield("new", params=7)),  # type: ignore[arg-type]
        ("identifier", lambda: bench.register_shield("")),
        ("messages", lambda: bench.run_shield("own", [])),
        ("messages", lambda: bench.run_shield("own", None)),  # type: ignore[arg-type]
    ]
    for field, call in refusals:
        with pytest.raises(InvalidRequestError, match=rf"^{field} must be "):
            call()
    with pytest.raises(ShieldNotFoundError):
        bench.unregister_shield("new")
    with pytest.raises(ShieldError):
        bench.run_shield("own", "really?")
    assert [shield.identifier for shield in bench.list_shields()] == ["own"]


# --------------------------------------------------------------------------------------------------------- memory banks


def test_a_vector_bank_has_the_first_sentence_model_and_short_chunks_by_default(bench: Workbench) -> None:
    made = bench.register_memory_bank("new")
    assert made == VectorMemoryBankDef(
        identifier="new", embedding_model="echo-embedding", chunk_size_in_tokens=128, provider_id="memory"
    )
    own = bench.register_memory_bank(
        "own", embedding_model="echo-embedding", chunk_size_in_tokens=9, overlap_size_in_tokens=0, provider_id="more"
    )
    assert (own.provider_id, own.type) == ("more", "vector")
    assert bench.list_memory_banks()[1:] == [made, own]


def test_the_other_types_have_no_chunks(bench: Workbench) -> None:
    assert bench.register_memory_bank("graph", "graph") == GraphMemoryBankDef(identifier="graph", provider_id="memory")
    for field, value in (("chunk_size_in_tokens", 9), ("overlap_size_in_tokens", 0), ("embedding_model", "x")):
        with pytest.raises(InvalidRequestError, match=rf"{field} must be left out"):
            bench.register_memory_bank("words", "keyword", **{field: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="type"):
        bench.register_memory_bank("words", "heap")
    assert len(bench.list_memory_banks()) == 2


def test_a_bank_of_the_same_name_elsewhere_is_returned_by_its_own_definition(bench: Workbench) -> None:
    made = bench.register_memory_bank("notes", "keyword", provider_id="more")
    assert made == KeywordMemoryBankDef(identifier="notes", provider_id="more")


def test_without_a_sentence_model_a_vector_bank_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_fakes(monkeypatch)
    alone = {**echo(), "config": {"models": ["own"], "embedding_models": []}}
    with (
        Workbench(config_of([alone], memory=[memory()])) as bench,
        pytest.raises(ModelNotFoundError, match=r"embedding model.*own"),
    ):
        bench.register_memory_bank("new")


def test_what_is_inserted_is_found_until_it_is_deleted(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "rome.md").write_text("Rome is old")
    own = MemoryBankDocument(document_id="own", content="Paris is old too")
    inserted = bench.insert("notes", [tmp_path, own], ttl_seconds=60, metadata={"course": 1})
    assert inserted == ["rome.md", "own"]
    assert provider(bench).calls == [(2, 60)]
    assert bench.list_documents("notes") == ["rome.md", "own"]
    found = bench.query("notes", "Rome is", max_chunks=1)
    assert [(chunk.document_id, chunk.metadata) for chunk in found.chunks] == [("rome.md", {"course": 1})]
    assert len(bench.query("notes", ["is", " old"]).chunks) == 2
    bench.delete_documents("notes", ("rome.md",))
    assert bench.list_documents("notes") == ["own"]
    bench.unregister_memory_bank("notes")
    with pytest.raises(MemoryBankNotFoundError):
        bench.query("notes", "Rome")


def test_what_cannot_be_read_or_found_is_refused_and_nothing_is_inserted(bench: Workbench, tmp_path: Path) -> None:
    refusals: list[tuple[str, Any]] = [
        (r"documents\[1\]", lambda: bench.insert("notes", ["a text", tmp_path / "nowhere"])),
        ("ttl_seconds", lambda: bench.insert("notes", "a text", ttl_seconds=-1)),
        ("params.surprise", lambda: bench.query("notes", "a", surprise=1)),
        ("query", lambda: bench.query("notes", None)),  # type: ignore[arg-type]
        ("document_ids", lambda: bench.delete_documents("notes", "own")),
        ("document_ids", lambda: bench.delete_documents("notes", None)),  # type: ignore[arg-type]
        ("document_ids", lambda: bench.delete_documents("notes", 7)),  # type: ignore[arg-type]
        ("metadata", lambda: bench.insert("notes", "a text", metadata="course")),  # type: ignore[arg-type]
        ("metadata", lambda: bench.insert("notes", "a text", metadata=[1])),  # type: ignore[arg-type]
        ("progress", lambda: bench.insert("notes", "a text", progress=7)),  # type: ignore[arg-type]
        ("provider_id", lambda: bench.register_shield("new", provider_id=["guard"])),  # type: ignore[arg-type]
        (r"document_ids\[0\]", lambda: bench.delete_documents("notes", ["own"])),
    ]
    for field, call in refusals:
        with pytest.raises(InvalidRequestError, match=rf"^{field} must be "):
            call()
    for name in ("insert", "query", "list_documents", "unregister_memory_bank"):
        more = ["a text"] if name in ("insert", "query") else []
        with pytest.raises(MemoryBankNotFoundError, match="served memory banks: notes"):
            getattr(bench, name)("nobody", *more)
    assert bench.list_documents("notes") == []


def test_a_document_that_the_provider_refuses_is_named(bench: Workbench) -> None:
    page = MemoryBankDocument(document_id="page", content=URL(uri="https://example.org"))
    with pytest.raises(
        InvalidRequestError, match=r"^documents\['page'\]\.content must be a text; got 'https://example"
    ):
        bench.insert("notes", ["a text", page])


def test_a_long_name_of_a_document_is_cut_in_the_error(bench: Workbench) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        bench.insert("notes", {"x" * 10_000: 7})  # type: ignore[dict-item]
    assert len(str(caught.value)) < 200


def test_the_progress_of_an_insertion_is_reported(bench: Workbench) -> None:
    seen: list[tuple[int, int]] = []
    bench.insert("notes", ["one", "two", "three"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_bar_shows_it_in_a_terminal(bench: Workbench, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(progress, "wants_bar", lambda: True)
    bench.insert("notes", ["one", "two", "three"])
    assert capfd.readouterr().err == "", "it is over before a bar would be of use"


def test_a_closed_workbench_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_fakes(monkeypatch)
    with Workbench(CONFIG) as bench:
        pass
    for call in (lambda: bench.run_shield("own", "x"), lambda: bench.insert("notes", "x"), bench.list_memory_banks):
        with pytest.raises(ClosedError):
            call()


def test_calls_from_several_threads_do_not_disturb_each_other(bench: Workbench) -> None:
    def work(index: int) -> None:
        for step in range(10):
            bench.insert("notes", {f"{index}-{step}": f"text {index}"})
            assert bench.query("notes", f"text {index}", max_chunks=1).chunks[0].content == f"text {index}"

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.list_documents("notes")) == 40


def test_a_provider_that_stores_fewer_types_refuses_the_others(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DictionaryMemory, "capabilities", MemoryCapabilities())
    with pytest.raises(InvalidRequestError, match=r"memory_bank\.type"):
        bench.register_memory_bank("words", "keyword")
