"""Damaged GGUF files end in a typed error, or are resolved; nothing is left of those that are refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from gguf.gguf_writer import GGUFValue

from tests.budget import budget
from tests.fakes.found_models import empty_home
from tests.fakes.gguf_models import write_gguf_model
from tests.unit.gguf_files.test_header import mutations
from workbench import catalog
from workbench.errors import ModelFormatError, WorkbenchError
from workbench.found import find_models
from workbench.gguf_files import read_gguf_header


def test_damaged_files_are_refused_with_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    write_gguf_model(path, "llama")
    whole, end = path.read_bytes(), read_gguf_header(path).data_start
    ways, source = mutations(whole, end), random.Random(4)
    refused = 0
    for _ in range(budget(300)):
        path.write_bytes(source.choice(ways)(source))
        try:
            catalog.resolve(str(path))
        except WorkbenchError:
            refused += 1
    assert refused > budget(300) // 3
    assert len(list((tmp_path / "cache/gguf").glob("*"))) <= 1
    assert not list((tmp_path / "cache/gguf").glob(".partial-*"))


def test_a_folder_in_the_place_of_a_file_is_refused_with_what_to_name(tmp_path: Path) -> None:
    for names, advice in (
        (["b.gguf", "a-00002-of-00002.gguf"], f"name the GGUF file in it: gguf:{tmp_path / 'b.gguf'}"),
        (["A.GGUF"], f"name the GGUF file in it: gguf:{tmp_path / 'A.GGUF'} or another of its 2 GGUF files"),
        (["config.json"], "name it without gguf:"),
        ([], "name a GGUF file; it has none"),
    ):
        for path in tmp_path.iterdir() if names != ["A.GGUF"] else ():
            path.unlink()
        for name in names:
            (tmp_path / name).touch()
        with pytest.raises(ModelFormatError) as refused:
            catalog.resolve(f"gguf:{tmp_path}")
        assert str(refused.value) == f"{tmp_path} is a folder; {advice}."


def test_the_list_of_found_models_refuses_the_settings_that_opening_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    empty_home(tmp_path / "home", monkeypatch)
    changes: dict[str, tuple[str, Callable[[gguf.GGUFWriter], object]]] = {
        "served": ("llama", lambda writer: writer.add_name("served")),
        "clamps": ("llama", lambda writer: writer.add_clamp_kqv(8.0)),
        "scaling": ("llama", lambda writer: writer.add_string("llama.rope.scaling.type", "made-up")),
        "causal": ("qwen3", lambda writer: writer.add_causal_attention(False)),
        "experts": ("granite", lambda writer: writer.add_expert_count(4)),
        "olmo3": ("olmo2", lambda writer: writer.add_sliding_window(64)),
        "kind": ("llama", lambda writer: writer.kv_data[0].pop("tokenizer.ggml.model")),
        "vocabulary": ("llama", lambda writer: writer.kv_data[0].pop("tokenizer.ggml.tokens")),
        "cut": ("llama", lambda writer: writer.kv_data[0].update(pre("unheard-of"))),
    }
    (tmp_path / "models").mkdir()
    for name, (architecture, change) in changes.items():

        def changed(writer: gguf.GGUFWriter, _: object, change: Callable[..., object] = change) -> None:
            change(writer)

        write_gguf_model(tmp_path / f"models/{name}.gguf", architecture, changed=changed)
    found = {Path(model.path).stem: model for model in find_models([tmp_path / "models"])}
    assert found.keys() == changes.keys()
    for name, model in found.items():
        try:
            catalog.resolve(model.path)
            refused = ""
        except ModelFormatError as error:
            refused = str(error)
        assert (name == "served") is model.servable is (not refused), name
        assert f"{model.path}{model.problem.removeprefix('it')}".rstrip(".") == (refused.rstrip(".") or model.path)


def pre(name: str) -> dict[str, GGUFValue]:
    return {"tokenizer.ggml.pre": GGUFValue(name, gguf.GGUFValueType.STRING)}
