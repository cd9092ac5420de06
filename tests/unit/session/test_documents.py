"""Texts, files and folders become documents with names that stay the same; what is none is refused by its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidRequestError
from workbench.protocol import URL, MemoryBankDocument
from workbench.session import documents
from workbench.session.documents import documents_from


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two texts and a page, one of them deeper, beside what is no document."""
    made = tmp_path / "notes"
    files = {
        "b.md": b"# B",
        "a.txt": "\ufeffäöü".encode(),
        "deep/er/page.HTML": b"<p>Hi</p>",
        "blank.txt": b" \n",
        ".hidden": b"secret",
        ".git/config": b"secret",
    }
    for name, content in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    return made


def names(found: list[MemoryBankDocument]) -> list[str]:
    return [document.document_id for document in found]


def test_a_folder_gives_its_files_by_their_paths_in_it(folder: Path) -> None:
    found = documents_from(folder, {"course": 1})
    assert [(one.document_id, one.content, one.mime_type, one.metadata) for one in found] == [
        ("a.txt", "äöü", "text/plain", {"course": 1}),
        ("b.md", "# B", "text/markdown", {"course": 1}),
        ("deep/er/page.HTML", "<p>Hi</p>", "text/html", {"course": 1}),
    ]
    found[0].metadata["course"] = 2
    assert found[1].metadata == {"course": 1}, "each has its own"


def test_a_list_mixes_all_kinds_in_its_order(folder: Path) -> None:
    own = MemoryBankDocument(document_id="own", content="x", metadata={"kept": True})
    found = documents_from(["a text", own, folder / "b.md"], {"course": 1})
    assert names(found)[1:] == ["own", "b.md"]
    assert found[1] is own
    assert found[0].metadata == {"course": 1}


def test_a_mapping_names_its_texts() -> None:
    found = documents_from({"one": "first", "two": "second"})
    assert [(one.document_id, one.content) for one in found] == [("one", "first"), ("two", "second")]


@given(st.text(), st.text())
def test_texts_have_the_same_name_exactly_if_they_are_the_same(one: str, other: str) -> None:
    (first,), (second,) = documents_from(f"{one} in a text"), documents_from([f"{other} in a text"])
    assert (first.document_id == second.document_id) == (one == other)
    assert first.content == f"{one} in a text"
    assert first.document_id.isprintable()


def test_a_pdf_is_handed_on_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "paper.PDF").write_bytes(b"%PDF-1.7\0\xff")
    (found,) = documents_from(tmp_path / "paper.PDF")
    assert found.content == URL(uri="data:application/pdf;base64,JVBERi0xLjcA/w==")
    assert found.mime_type == "application/pdf"


def test_links_are_followed_to_files_and_not_to_folders(folder: Path) -> None:
    (folder / "circle").symlink_to(folder, target_is_directory=True)
    (folder / "loop.md").symlink_to(folder / "loop.md")
    (folder / "gone.md").symlink_to(folder / "nowhere.md")
    (folder / "same.md").symlink_to(folder / "b.md")
    assert names(documents_from(folder)) == ["a.txt", "b.md", "same.md", "deep/er/page.HTML"]


def test_files_of_a_folder_that_are_not_text_are_left_out_with_a_warning(folder: Path) -> None:
    for index in range(7):
        (folder / f"c{index}.png").write_bytes(b"\x89PNG\r\n\0\xff")
    with pytest.warns(
        UserWarning, match=r"files in .* that are not text were left out \(7\): c0\.png, .*c4\.png, \.\.\.$"
    ):
        assert names(documents_from(folder)) == ["a.txt", "b.md", "deep/er/page.HTML"]


def test_a_pipe_is_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "pipe" not in names(documents_from(folder))
    with pytest.raises(InvalidRequestError, match=r"documents\[0\] must be a file or a folder that exists"):
        documents_from(folder / "pipe")


def test_a_name_that_is_no_text_is_replaced_and_does_not_stop_the_rest(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.md")).write_bytes(b"x")
    assert "\ufffd.md" in names(documents_from(folder))


@pytest.mark.parametrize(
    "source,field,said",
    [
        (7, "documents[0]", "a text, a Path of a file or folder"),
        (["x", None], "documents[1]", "a text, a Path of a file or folder"),
        ({"a": 7}, "documents['a']", "a text"),
        ({7: "a"}, "documents[7]", "the text of a document under its id"),
        (Path("nowhere.md"), "documents[0]", "a file or a folder that exists"),
        (Path("nul\0"), "documents[0]", "a file or a folder that exists"),
        (Path("x" * 300), "documents[0]", "a readable file"),
        (Path("notes/image.md"), "documents[0]", "a file of text in UTF-8, or a PDF file"),
        (Path("notes/nul.md"), "documents[0]", "a file of text in UTF-8, or a PDF file"),
        (Path("empty"), "documents[0]", "a folder with at least one file of text"),
        ("notes/b.md", "documents[0]", "a text; for the file of that name, pass Path('notes/b.md')"),
        (["x", "x"], "documents[0]", "a document whose id no other one in the call has"),
        ([Path("notes/b.md"), Path("other")], "documents[0]", "a document whose id no other one in the call has"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: Any, field: str, said: str
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder / "image.md").write_bytes(b"\x89PNG\xff")
    (folder / "nul.md").write_bytes(b"a\0b")
    Path("empty").mkdir()
    Path("other").mkdir()
    Path("other/b.md").write_text("another")
    with pytest.raises(InvalidRequestError) as caught:
        documents_from(source)
    assert str(caught.value).startswith(f"{field} must be {said}")


def test_a_file_is_not_read_beyond_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_FILE_BYTES", 3)
    assert names(documents_from(folder / "b.md")) == ["b.md"]
    (folder / "b.md").write_bytes(b"# Bc")
    with pytest.raises(InvalidRequestError, match=r"at most 3 bytes; got '4 bytes in "):
        documents_from(folder / "b.md")


def test_a_file_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(InvalidRequestError, match=r"documents\[0\] must be a readable file \(Permission denied\)"):
        documents_from(folder / "b.md")
