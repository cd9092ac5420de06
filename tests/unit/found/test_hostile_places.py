"""Files that nobody vouches for end in a row, a problem or nothing: never in a crash, a wait, or a read outside."""

from __future__ import annotations

import builtins
import json
import math
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.budget import budget
from tests.fakes.found_models import empty_home, fill, write_folder, write_gguf, write_ollama, write_snapshot
from workbench import catalog
from workbench.found import describing, find_models, searching
from workbench.gguf_files import part_paths

CONFIGS = (
    *("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"),
    *("modules.json", "model.safetensors.index.json", "adapter_config.json"),
)
"""Files of a model folder that the list reads, or whose presence it reports."""

opened: list[str] = []
"""Paths that were opened while `recording` is true."""
recording = False


def record(event: str, arguments: tuple[Any, ...]) -> None:
    if recording and event == "open" and isinstance(arguments[0], str | bytes):
        opened.append(os.path.realpath(os.fsdecode(arguments[0])))


@contextmanager
def reads_recorded() -> Iterator[list[str]]:
    """Yield a list of the real paths that this process opens, as the interpreter itself reports them."""
    global recording  # noqa: PLW0603 - an audit hook cannot be removed
    if record not in hooks:
        sys.addaudithook(record)
        hooks.append(record)
    opened.clear()
    recording = True
    try:
        yield opened
    finally:
        recording = False


hooks: list[Callable[..., None]] = []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_home(tmp_path / "home", monkeypatch)


def test_nothing_outside_of_a_place_is_opened(home: Path, tmp_path: Path) -> None:
    outside, mine = tmp_path / "outside", home / "mine"
    file, folder = write_gguf(outside / "file.gguf"), write_folder(outside / "folder")
    for name in CONFIGS:
        (folder / name).touch()
    for number, name in enumerate((*CONFIGS, "more.safetensors", "odd\nname.safetensors", "MORE.SAFETENSORS", "x.bin")):
        linked = write_folder(mine / str(number)) / name
        linked.unlink(missing_ok=True)
        target = folder / (name if name in CONFIGS else "model.safetensors")
        linked.symlink_to(os.path.relpath(target, linked.parent) if number % 2 else target)
    hub, ollama = home / ".cache/huggingface/hub", home / ".ollama/models"
    snapshot = write_snapshot(hub, "org/tiny", write_folder(home / "made"))
    (snapshot / "tokenizer_config.json").symlink_to(folder / "config.json")
    (snapshot.parent / "0").symlink_to(folder, target_is_directory=True)
    for commit in ("../../../../../outside/folder", "0", str(folder), ".", "..", "", "\0", "\udcff"):
        (hub / "models--org--tiny/refs/main").write_bytes(os.fsencode(commit))
        with reads_recorded() as paths:
            assert find_models([mine]) == []
            assert paths
            assert not [path for path in paths if path.startswith(str(outside))]
    manifest = ollama / "manifests/registry.ollama.ai/library/evil/1b"
    write_ollama(ollama, "registry.ollama.ai/library/evil:1b", b"blob").unlink()
    relative = os.path.relpath(file, ollama / "blobs")
    for digest in (str(file), f"sha256:{file}", f"sha256:{relative}", f"sha256-{relative}", f"sha256:{'0' * 63}/"):
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
        manifest.write_text(json.dumps({"layers": [layer]}))
        with reads_recorded() as paths:
            assert find_models([mine]) == []
            assert not [path for path in paths if path.startswith(str(outside))]
    manifest.write_text(json.dumps({"layers": [layer], "padding": "x" * 2_000_000}))
    assert find_models([mine]) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and devices with names are POSIX's")
def test_pipes_devices_loops_and_odd_names_are_passed(home: Path) -> None:
    mine = home / "mine"
    good = write_gguf(mine / "good.gguf")
    for number, name in enumerate(CONFIGS):
        for kind in ("pipe", "device", "loop", "folder"):
            special = write_folder(mine / f"{kind} {number}") / name
            special.unlink(missing_ok=True)
            if kind == "pipe":
                os.mkfifo(special)
            elif kind == "folder":
                special.mkdir()
            else:
                special.symlink_to("/dev/zero" if kind == "device" else special.name)
    os.mkfifo(mine / "pipe.gguf")
    (mine / "device.gguf").symlink_to("/dev/zero")
    (mine / "first.gguf").symlink_to("second.gguf")
    (mine / "second.gguf").symlink_to("first.gguf")
    (mine / "folder.gguf").mkdir()
    (mine / "itself").symlink_to(mine, target_is_directory=True)
    for odd in (b"not utf-8 \xff.gguf", b"._good.gguf", b".hidden.gguf", b"bell\x07.gguf", "bidi\u202e.gguf".encode()):
        shutil.copy(os.fsencode(good), os.fsencode(mine) + b"/" + odd)
    shutil.copy(good, mine / "OTHER.GGUF")
    blob = write_ollama(home / ".ollama/models", "registry.ollama.ai/library/pipe:1b", b"blob")
    blob.unlink()
    os.mkfifo(blob)
    found = {Path(model.path).name: model for model in find_models([mine])}
    assert {"good.gguf", "OTHER.GGUF"} <= set(found)
    others = {name: model.problem for name, model in found.items() if not name.lower().endswith(".gguf")}
    assert {name for name in found if name.lower().endswith(".gguf")} == {"good.gguf", "OTHER.GGUF"}
    assert not [name for name in others if name.startswith(("pipe", "device", "folder 0"))]
    assert "cannot be read" in others["loop 0"]


def test_no_content_of_a_config_crashes_the_list(home: Path) -> None:
    source = random.Random(3)
    keys = (
        *("architectures", "model_type", "auto_map", "is_encoder_decoder", "is_decoder", "quantization_config"),
        *("compression_config", "quantization", "text_config", "tie_word_embeddings"),
    )
    evil = "\x1b]0;x\x07" + "a" * 1000
    values: list[Any] = [None, 5, -1e308, evil, [], [5], [None], [["x"]], {}, {"quant_method": evil}, True]
    values += [["BertModel"], [f"{evil}ForMaskedLM"], [f"{evil}Model"], {"quant_method": "gptq", "bits": evil}]
    folder = write_folder(home / "mine/model")
    texts = ["", "{", "[" * 100_000, "1" * 5000, "\ufeff{}", "[]", "null", '{"a": NaN}', '{"a": 1' + "0" * 5000 + "}"]
    for number in range(budget(120)):
        config = {key: source.choice(values) for key in source.sample(keys, 3)}
        (folder / "config.json").write_text(json.dumps(config if number % 2 else {"architectures": ["LlamaModel"]}))
        for name in source.sample(CONFIGS[1:-1], 1):
            (folder / name).write_text(source.choice([*texts, json.dumps(config), json.dumps([config] * 2)]))
        (model,) = find_models([home / "mine"])
        for fact in (model.architecture, model.precision, model.problem, model.name):
            assert fact is None or (fact.isprintable() and len(fact) < 700)
        for name in CONFIGS[1:-1]:
            (folder / name).unlink(missing_ok=True)
    header = {"a": {"dtype": f"{evil}", "shape": [2**47] * 100, "data_offsets": [0, 0]}}
    for entry in (header, {"a": {"dtype": evil, "shape": [], "data_offsets": [0, 0]}}):
        encoded = json.dumps(entry).encode()
        write_folder(folder)
        (folder / "model.safetensors").write_bytes(len(encoded).to_bytes(8, "little") + encoded)
        (model,) = find_models([home / "mine"])
        assert str(model.precision).isprintable()


def test_no_names_and_shapes_of_tensors_crash_the_list(home: Path) -> None:
    source, folder = random.Random(5), home / "mine/model"
    quantized: list[dict[str, Any]] = [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "awq", "bits": 4},
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"weights": {"num_bits": 4, "strategy": "group"}}},
        },
    ]
    ends = ("qweight", "qzeros", "scales", "g_idx", "weight_packed", "weight_scale", "weight_zero_point", "weight")
    for settings in quantized:
        write_folder(folder, config={"quantization_config": settings})
        for _ in range(budget(40)):
            names = source.sample([f"{prefix}{end}" for prefix in ("", ".", "a.", "a..") for end in ends], 12)
            sizes = source.choices([0, 1, 4, 8, 32, 2**40], k=64)
            shapes = {name: sizes[4 * index :][: source.choice([0, 1, 2, 2, 3])] for index, name in enumerate(names)}
            entries = {
                name: {"dtype": "I32", "shape": shape, "data_offsets": [0, 0]}
                for name, shape in shapes.items()
                if math.prod(shape) < 2**63
            }
            encoded = json.dumps(entries).encode()
            (folder / "model.safetensors").write_bytes(len(encoded).to_bytes(8, "little") + encoded)
            (model,) = find_models([home / "mine"])
            assert model.problem.isprintable()


def test_files_that_vanish_while_they_are_listed_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = empty_home(tmp_path / "whole", monkeypatch)
    fill(whole)
    every = len(find_models([whole / "my models"]))
    for number in range(budget(16)):
        home = Path(shutil.copytree(whole, tmp_path / str(number), symlinks=True))
        for variable in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(variable, str(home))
        calls = iter(range(1000))

        def vanishing(original: Callable[..., Any], at: int, calls: Iterator[int] = calls) -> Callable[..., Any]:
            def check(*arguments: Any, **options: Any) -> Any:
                outcome = original(*arguments, **options)
                if next(calls) == at:
                    path = arguments[-1]
                    real = Path(os.path.realpath(path.path if isinstance(path, searching.Candidate) else path))
                    shutil.rmtree(real) if real.is_dir() else real.unlink()
                return outcome

            return check

        with monkeypatch.context() as patch:
            patch.setattr(searching, "_is_inside", vanishing(searching._is_inside, number))
            patch.setattr(catalog, "check_folder", vanishing(catalog.check_folder, number % 4))
            patch.setattr(describing, "part_paths", vanishing(part_paths, number % 10))
            assert len(find_models([home / "my models"])) <= every
        shutil.rmtree(home)


def test_folders_that_cannot_be_read_hide_no_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals of the system are made up here: the superuser, who may run this test, meets none."""
    fill(home)
    every = {model.path for model in find_models([home / "my models"])}
    folders = [path for path in home.rglob("*") if path.is_dir() and not path.is_symlink()]
    for locked in (*folders, *(path for path in home.rglob("*.json"))):

        def refusing(original: Callable[..., Any], locked: str = str(locked)) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                path = arguments[0] if arguments and isinstance(arguments[0], str | Path) else ""
                if str(path).startswith(locked):
                    raise PermissionError(13, "Permission denied", str(path))
                return original(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("stat", "lstat", "scandir", "listdir", "open", "readlink"):
                patch.setattr(os, name, refusing(getattr(os, name)))
            patch.setattr(builtins, "open", refusing(builtins.open))
            patch.setattr("io.open", refusing(builtins.open))
            found = {model.path for model in find_models([home / "my models"])}
        assert {path for path in every if not concerns(locked, Path(path).relative_to(home))} <= found


def concerns(locked: Path, model: Path) -> bool:
    """Return whether a locked path is in the place of a model, or above it, or says where it is."""
    place = {".cache": 2}.get(model.parts[0], 1)
    root = Path(*model.parts[:place])
    names_downloads = root.name == "downloads of studio" and ".lmstudio" in locked.parts
    relative = locked.relative_to(next(parent for parent in locked.parents if parent.name == "home"))
    return relative.is_relative_to(root) or root.is_relative_to(relative) or names_downloads
