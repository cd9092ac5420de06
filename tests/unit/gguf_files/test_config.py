"""Configs from GGUF headers: what is missing or not covered is refused by the name of its key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import _type_traits

from tests.fakes.gguf_models import ARCHITECTURES, write_gguf_model
from workbench.errors import ModelFormatError
from workbench.gguf_files import config_of, read_gguf_model
from workbench.gguf_files import model as gguf_model
from workbench.gguf_files.tensor_names import LAYOUTS
from workbench.gguf_files.tensor_types import READ_TYPES

Change = Callable[[gguf.GGUFWriter, dict[str, Any]], None]


def written(path: Path, architecture: str, changed: Change = lambda *_: None) -> Path:
    write_gguf_model(path, architecture, changed=changed)
    return path


def test_every_architecture_is_tried() -> None:
    assert {family.name or name for name, family in ARCHITECTURES.items()} == set(LAYOUTS)


def test_all_types_that_the_package_reads_are_read() -> None:
    assert {kind.name for kind in _type_traits} | {"F32", "F16"} == READ_TYPES


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_tensors_have_two_names_that_lead_to_each_other(tmp_path: Path, architecture: str) -> None:
    model = read_gguf_model(written(tmp_path / "tiny.gguf", architecture))
    stored = model.stored_tensors()
    assert {one.name for one in stored.values()} == set(model.tensors)
    assert all(model.layout.name_in_file(theirs) == one.name for theirs, one in stored.items())
    ends = {one.start + one.nbytes for one in stored.values()}
    assert len(ends) == len(stored)  # no two are in one place
    assert max(ends) <= model.path.stat().st_size


def without(key: str) -> Change:
    def change(writer: gguf.GGUFWriter, _: dict[str, Any]) -> None:
        del writer.kv_data[0][key]

    return change


def with_value(key: str, value: Any, kind: str = "UINT32") -> Change:
    def change(writer: gguf.GGUFWriter, _: dict[str, Any]) -> None:
        writer.kv_data[0][key] = gguf.gguf_writer.GGUFValue(value, gguf.GGUFValueType[kind])

    return change


def without_embedding(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
    tensors["token_embd.weight"] = (np.ones(8, np.float32), "F32")


@pytest.mark.parametrize(
    "changed, message",
    [
        (without("general.architecture"), "does not name its architecture"),
        (with_value("general.architecture", "mamba", "STRING"), "architecture 'mamba', which cannot be served"),
        (without("llama.embedding_length"), "must set llama.embedding_length .* found nothing"),
        (with_value("llama.block_count", 0), "must set llama.block_count to one positive whole number; found 0"),
        (with_value("llama.block_count", 2**31 - 1), "declares 2,147,483,647 layers"),
        (with_value("llama.attention.head_count", 2**32 - 1), "llama.attention.head_count to one positive"),
        (without("llama.attention.layer_norm_rms_epsilon"), "must set llama.attention.layer_norm_rms_epsilon"),
        (with_value("llama.rope.freq_base", float("nan"), "FLOAT32"), "rope.freq_base to a finite number; found nan"),
        (with_value("llama.rope.scaling.type", "odd", "STRING"), "scales rotary angles by 'odd'"),
        (with_value("llama.expert_count", 8), "must set llama.expert_used_count"),
        (with_value("llama.expert_count", 99_999), "declares 99,999 experts; at most 1,024 are read"),
        (with_value("general.type", "adapter", "STRING"), r"is of the type 'adapter' \(general.type\), not a model"),
        (with_value("llama.attention.causal", False, "BOOL"), "attention that is not causal"),
        (with_value("llama.attention.clamp_kqv", 8.0, "FLOAT32"), r"sets llama\.attention\.clamp_kqv"),
        (with_value("llama.attention.key_length", 64), "rotates 32 of 64 components of a head"),
        (with_value("split.tensors.count", 99), "declares 99 tensors in all its parts; found 21"),
        (without_embedding, "has no matrix token_embd.weight"),
    ],
)
def test_what_is_missing_or_not_covered_is_named(tmp_path: Path, changed: Change, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        config_of(read_gguf_model(written(tmp_path / "tiny.gguf", "llama", changed)))


def test_experts_of_other_kinds_and_of_another_number_are_refused(tmp_path: Path) -> None:
    other = written(tmp_path / "other.gguf", "qwen2", with_value("qwen2.expert_count", 8))
    with pytest.raises(ModelFormatError, match="mixture of experts of the kind qwen2, which cannot be served yet"):
        config_of(read_gguf_model(other))
    wrong = written(tmp_path / "wrong.gguf", "mixtral", with_value("llama.expert_count", 5))
    with pytest.raises(ModelFormatError, match=r"ffn_\w+_exps\.weight in the shape .*; 5 experts are expected"):
        read_gguf_model(wrong).stored_tensors()


def test_more_experts_than_there_are_tensors_are_refused(tmp_path: Path) -> None:
    """Loading would list the tensors of all experts of all layers to compare them with the file's."""

    def changed(writer: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
        for key, value in (("block_count", 100), ("expert_count", 1024)):
            with_value(f"llama.{key}", value)(writer, tensors)
        for name in [name for name in tensors if "exps" in name]:
            del tensors[name]
        tensors.update({f"x{number}": (np.ones(1, np.float32), "F32") for number in range(100)})

    with pytest.raises(ModelFormatError, match=r"declares 100 layers of 1,024 experts, but has 1\d\d tensors"):
        config_of(read_gguf_model(written(tmp_path / "tiny.gguf", "mixtral", changed)))


def test_tensors_that_share_their_data_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_model, "_MOST_STORED", 20)
    many = read_gguf_model(written(tmp_path / "many.gguf", "mixtral"))
    with pytest.raises(ModelFormatError, match="more than 20 matrices of experts"):
        many.stored_tensors()
