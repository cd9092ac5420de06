"""Names of models with an adapter: the base model's name, a plus sign, and the adapter's folder.

``smollm2-135m-instruct+./adapter`` is the catalog's model with the adapter in that folder. A folder whose own name has
a plus sign is still a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.catalog.entry import is_entry
from workbench.catalog.gguf_folder import gguf_path
from workbench.catalog.resolving import exists, local_path, looks_like_path
from workbench.errors import ModelFormatError, UnknownModelError
from workbench.paths import typed_path

_SEPARATOR = "+"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's weights come from."""

    base: str
    """Catalog name, local folder, GGUF file or hub id."""
    adapter: str | None = None
    """Folder of an adapter that is merged into them."""

    def __str__(self) -> str:
        return self.base if self.adapter is None else f"{self.base}{_SEPARATOR}{self.adapter}"


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """The folders that a model is loaded from."""

    model: Path
    adapter: Path | None = None


def split_source(source: str) -> ModelSource:
    """Return a source in its parts; without an adapter, whatever it is, it is all base.

    A name may be cut at any plus sign: at the first that precedes an existing folder, or else at the last that precedes
    a path such as ``./adapter``.
    """
    if is_entry(source) or exists(source) or _is_file(source):
        return ModelSource(source)
    cuts = [index for index, character in enumerate(source) if character == _SEPARATOR and index]
    parts = [ModelSource(source[:index], source[index + 1 :]) for index in cuts]
    existing = (one for one in parts if one.adapter and _folder(one.adapter))
    written = (one for one in reversed(parts) if one.adapter and looks_like_path(one.adapter))
    return next(existing, None) or next(written, None) or ModelSource(source)


def adapter_folder(adapter: str) -> Path:
    """Return the absolute path of an adapter's folder.

    Raises:
        ModelFormatError: it is a file.
        UnknownModelError: there is no such folder, or the path contains ``..``.
    """
    try:
        return local_path(adapter)
    except ModelFormatError:
        raise ModelFormatError(
            f"{adapter} is a file; give the folder of the adapter, which contains adapter_config.json."
        ) from None
    except UnknownModelError as error:
        raise UnknownModelError(f"the adapter {adapter[:200]!r}: {error}") from None


def absolute_source(source: str, field: str) -> str:
    """Return a source with absolute paths in place of the folders and GGUF files that exist.

    A name of the catalog stays, as it is never a folder to `resolve`.

    Args:
        field: name of the field that has the source, for messages.
    """
    parts = split_source(source)
    if parts.adapter is None:
        return _absolute(source, field)
    return str(ModelSource(_absolute(parts.base, field), _absolute(parts.adapter, field)))


def served_name(source: str, field: str) -> str:
    """Return the name under which a source is served: that of its folders or GGUF file, or else the source itself.

    Args:
        field: name of the field that has the source, for messages.
    """
    parts = split_source(source)
    names = [_own_name(one, field) for one in (parts.base, parts.adapter) if one is not None]
    return _SEPARATOR.join(names)


def _is_file(text: str) -> bool:
    """Return whether a text names a GGUF file that exists."""
    path = gguf_path(text)
    return path is not None and path.is_file()


def _absolute(text: str, field: str) -> str:
    if is_entry(text):
        return text
    folder = _folder(text, field)
    if folder is None and (file := gguf_path(text)) is not None and file.is_file():
        return str(file.parent.resolve() / file.name)  # a link stays, because a hub's files are links with names
    return text if folder is None else str(folder)


def _own_name(text: str, field: str) -> str:
    folder = _folder(text, field)
    if folder is None and (file := gguf_path(text)) is not None:
        return file.stem
    return text if folder is None else folder.name


def _folder(text: str, field: str = "model") -> Path | None:
    """Return the absolute path of an existing folder; None for any other text."""
    if not text or "\0" in text:
        return None
    path = typed_path(text, field)
    try:
        return path.resolve() if path.is_dir() else None
    except OSError:  # the name is longer than a path may be
        return None
