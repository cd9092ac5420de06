"""Documents for a memory bank, made from texts, files and folders."""

from __future__ import annotations

import base64
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from workbench.errors import InvalidRequestError, shortened
from workbench.paths import reason, typed_path
from workbench.protocol import URL, MemoryBankDocument

Source: TypeAlias = str | Path | MemoryBankDocument
"""Text, file or folder of files, or finished document."""
Sources: TypeAlias = Source | Sequence[Source] | Mapping[str, str]
"""One source, several, or texts by the ids of their documents."""

MAX_FILE_BYTES = 2**28
"""Maximum size of a file that is read; a memory provider may accept less."""

_MARKDOWN, _HTML = "text/markdown", "text/html"
_PDF = "application/pdf"
_MIME_TYPES = {
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".html": _HTML,
    ".htm": _HTML,
    ".json": "application/json",
    ".pdf": _PDF,
}
"""Types by suffix; any other file is plain text. Python's ``mimetypes`` also reads tables of the operating system."""
_SHOWN_FILES = 5


class _NotTextError(Exception):
    """The file is neither text in UTF-8 nor PDF."""


def documents_from(sources: Sources, metadata: Mapping[str, Any] | None = None) -> list[MemoryBankDocument]:
    """Return the documents of texts, files and folders, in their order.

    A text is named after its hash, so that the same text is the same document; a file after its name; and a file in a
    folder after its path there. Hidden and blank files, and those that links to folders lead to, are left out of a
    folder; files that are not text are left out with a warning.

    Args:
        metadata: metadata of the texts and files.

    Raises:
        InvalidRequestError: a source is none of these, a file cannot be read, or two documents have the same id.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidRequestError("metadata", metadata, "a mapping of JSON values by name, or None")
    shared = dict(metadata or {})
    if isinstance(sources, Mapping):
        fields = {name: f"documents[{shortened(name)}]" for name in sources}
        pairs = [(fields[name], _text(fields[name], text, shared, name)) for name, text in sources.items()]
    else:
        listed = list(sources) if isinstance(sources, list | tuple) else [sources]
        pairs = [
            (field, document)
            for field, source in ((f"documents[{index}]", source) for index, source in enumerate(listed))
            for document in _documents(field, source, shared)
        ]
    _check_ids(pairs)
    return [document for _, document in pairs]


def _documents(field: str, source: object, metadata: dict[str, Any]) -> Iterator[MemoryBankDocument]:
    if isinstance(source, MemoryBankDocument):
        yield source
    elif isinstance(source, str):
        yield _text(field, source, metadata)
    elif isinstance(source, Path):
        path = typed_path(source, field)
        if _is_folder(path):
            yield from _folder(field, path, metadata)
        else:
            try:
                yield _file(field, path, path.name, metadata)
            except _NotTextError:
                raise InvalidRequestError(field, str(path), "a file of text in UTF-8, or a PDF file") from None
    else:
        raise InvalidRequestError(field, source, "a text, a Path of a file or folder, or a MemoryBankDocument")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is longer than a path may be
        return False


def _text(field: str, text: object, metadata: dict[str, Any], name: object = None) -> MemoryBankDocument:
    if not isinstance(text, str):
        raise InvalidRequestError(field, text, "a text")
    if name is None:
        if _is_file_name(text):
            raise InvalidRequestError(field, text, f"a text; for the file of that name, pass Path({text!r})")
        name = f"text-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    if not isinstance(name, str):
        raise InvalidRequestError(field, name, "the text of a document under its id, a text too")
    return MemoryBankDocument(document_id=name, content=text, metadata=dict(metadata))


def _is_file_name(text: str) -> bool:
    """Return whether a text is probably meant as the file of that name, which exists."""
    try:
        return len(text) < 256 and not text.isspace() and Path(text).is_file()
    except (OSError, ValueError):  # no name of a file, for example because of a NUL
        return False


def _folder(field: str, folder: Path, metadata: dict[str, Any]) -> list[MemoryBankDocument]:
    documents, skipped = [], []
    for path in _files(folder):
        name = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "replace")
        try:
            document = _file(field, path, name, metadata)
        except _NotTextError:
            skipped.append(name)
        else:
            if not (isinstance(document.content, str) and not document.content.strip()):
                documents.append(document)
    if not documents:
        raise InvalidRequestError(field, str(folder), "a folder with at least one file of text")
    if skipped:
        names = ", ".join(skipped[:_SHOWN_FILES]) + (", ..." if len(skipped) > _SHOWN_FILES else "")
        warnings.warn(
            f"files in {folder} that are not text were left out ({len(skipped)}): {names}", UserWarning, stacklevel=2
        )
    return documents


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in the order of their names; links to folders are not followed."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            if path.is_file():
                yield path


def _file(field: str, path: Path, name: str, metadata: dict[str, Any]) -> MemoryBankDocument:
    content = _content(field, path)
    mime_type = _MIME_TYPES.get(path.suffix.lower(), "text/plain")
    if mime_type == _PDF:
        url = URL(uri=f"data:{_PDF};base64,{base64.b64encode(content).decode('ascii')}")
        return MemoryBankDocument(document_id=name, content=url, mime_type=mime_type, metadata=dict(metadata))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _NotTextError from None
    if "\0" in text:
        raise _NotTextError
    return MemoryBankDocument(document_id=name, content=text, mime_type=mime_type, metadata=dict(metadata))


def _content(field: str, path: Path) -> bytes:
    try:
        if not path.is_file():  # a device or a pipe has no end
            raise InvalidRequestError(field, str(path), "a file or a folder that exists")
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise InvalidRequestError(field, f"{size} bytes in {path}", f"a file of at most {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        raise InvalidRequestError(field, str(path), f"a readable file ({reason(error)})") from None


def _check_ids(pairs: Sequence[tuple[str, MemoryBankDocument]]) -> None:
    counts = Counter(document.document_id for _, document in pairs)
    for field, document in pairs:
        if counts[document.document_id] > 1:
            allowed = "a document whose id no other one in the call has: insert them one after the other"
            raise InvalidRequestError(field, document.document_id, allowed)
