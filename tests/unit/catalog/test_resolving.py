from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from workbench import catalog
from workbench.catalog.hub_id import HubId
from workbench.errors import InvalidRequestError, ModelFormatError, UnknownModelError, UnsafeModelError

WEIGHTS = (2).to_bytes(8, "little") + b"{}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The least that counts as a model in Hugging Face layout."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(WEIGHTS)
    (path / "tokenizer.json").write_text("{}")
    return path


def test_a_local_folder_is_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert catalog.resolve(str(folder)) == catalog.resolve("./model") == catalog.resolve("model") == folder


def test_a_home_folder_may_be_written_with_a_tilde(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert catalog.resolve("~/model") == folder


def test_a_sentencepiece_tokenizer_will_do(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    assert catalog.resolve(str(folder)) == folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=name.removeprefix("model")):
        catalog.resolve(str(folder))


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "model.ckpt"])
def test_pickled_weights_alone_are_refused(folder: Path, pickle: str) -> None:
    (folder / "model.safetensors").rename(folder / pickle)
    with pytest.raises(UnsafeModelError, match=rf"pickles \({pickle}\)"):
        catalog.resolve(str(folder))


@pytest.mark.parametrize("config", ["", "{", "[]", "[" * 100_000], ids=["empty", "cut off", "a list", "deep"])
def test_a_config_that_is_no_object_is_refused(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        catalog.resolve(str(folder))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        (10**12).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}and more",
        (99).to_bytes(8, "little") + json.dumps({"a": {"data_offsets": [0, 64]}}).encode().ljust(99) + b"\0" * 63,
        (99).to_bytes(8, "little") + json.dumps({"a": {"data_offsets": "xy"}}).encode().ljust(99),
    ],
    ids=["empty", "no length", "huge header", "a list", "too long", "truncated", "bad offsets"],
)
def test_truncated_or_foreign_weights_are_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors is damaged"):
        catalog.resolve(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
    )
    with pytest.raises(ModelFormatError, match=r"lacks 1 of 2 weight files, such as model-2\.safetensors"):
        catalog.resolve(str(folder))


@pytest.mark.parametrize("weight_map", [{}, {"a": ""}, {"a": ".."}, {"a": "config.json"}, {"a": "x.bin"}])
def test_an_index_lists_safetensors_files(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelFormatError, match=r"index\.json is damaged: it must list \*\.safetensors files; got '"):
        catalog.resolve(str(folder))


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors"])
def test_a_shard_outside_the_folder_is_refused(folder: Path, shard: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ModelFormatError, match="outside its folder"):
        catalog.resolve(str(folder))


def refusing(path: object, *_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_folder_that_may_not_be_entered_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refusing)
        for name in (str(folder), f"{folder}/model.gguf"):
            with pytest.raises(UnknownModelError, match="cannot be read: Permission denied"):
                catalog.resolve(name)
        with pytest.raises(UnknownModelError, match=r"the adapter .* cannot be read: Permission denied"):
            catalog.resolve_folders(f"{folder}+{folder}")


@pytest.mark.parametrize("name", ["", "model.gguf"])
def test_a_file_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (folder / "model.gguf").write_bytes(b"GGUF")
    with monkeypatch.context() as patch:
        patch.setattr("io.open", refusing)
        with pytest.raises(ModelFormatError, match=f"{name or 'config.json'} cannot be read: Permission denied"):
            catalog.resolve(str(folder / name))


def test_a_path_upwards_is_refused_though_a_model_lies_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    for name in ("..", "../../model", "./../../model", f"{folder}/below/.."):
        with pytest.raises(UnknownModelError, match=r"must not contain '\.\.'"):
            catalog.resolve(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a/b/c",
        "org/",
        "/no/such/folder",
        "org/na me",
        "org/..",
        "org/na..me",
        "org/na--me",
        "-org/name",
        "org/name.",
        "org/name@",
        "org/name@a..b",
        "name@main",
        "org/name\n",
        "http://example.org/x",
        "org\\name",
        "organisation/" + "x" * 97,
        "x" * 100_000,
        "/" + "x" * 100_000,
        "a\0b",
        "/a\0b",
        "gpt2",
    ],
)
def test_what_is_no_name_folder_or_hub_id_is_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(hub_id: HubId, *, allow_download: bool) -> Path:
        raise AssertionError(f"the hub was asked for {hub_id}")

    monkeypatch.setattr("workbench.catalog.resolving.fetch_snapshot", ask)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModelError) as caught:
        catalog.resolve(name)
    assert len(str(caught.value)) < 1000


def test_a_file_in_place_of_a_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for file in (str(folder / "model.safetensors"), "./model.safetensors", "model.safetensors"):
        with pytest.raises(ModelFormatError, match="is not a GGUF file; give one, or the folder"):
            catalog.resolve(file)


def test_a_gguf_file_is_one_by_its_name_or_by_its_first_bytes(tmp_path: Path) -> None:
    for name, content in (("model.GGUF", b""), ("sha256-74", b"GGUF")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFormatError, match=f"{name} is damaged or cut off"):
            catalog.resolve(str(tmp_path / name))


@pytest.mark.parametrize("name", ["gguf:", "gguf:~nobody-here/a.gguf", "gguf:a\0b", "gguf:../a.gguf", "~nobody-here"])
def test_a_path_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises((UnknownModelError, InvalidRequestError)):
        catalog.resolve(name)
