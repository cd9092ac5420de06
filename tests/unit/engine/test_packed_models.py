"""A model that is read from its stored form equals the one that transformers and the packer made of the folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import transformers

from tests.tiny_models import FAMILIES, UNICODE_CORPUS, llama_like, save_config
from tests.tiny_structures import LLAMA3_ROPE
from workbench.engine import loading
from workbench.engine.fused import FusedDecoder
from workbench.engine.loading import LoadedModel, load
from workbench.engine.packed_file import SUFFIX
from workbench.engine.packed_models import PackedModels, PackedParts
from workbench.engine.precision import Precision
from workbench.engine.transformers_loading import load_config
from workbench.errors import ModelFormatError
from workbench.prompts.encoding import PromptEncoder
from workbench.protocol import UserMessage

Load = Callable[..., LoadedModel]

ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 50_000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    "llama3": LLAMA3_ROPE,
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 128},
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [2.0, 3.0, 4.0, 5.0],
        "original_max_position_embeddings": 32,
    },
}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Folder of the stored models."""
    return tmp_path / "stored"


@pytest.fixture
def load_without_transformers(monkeypatch: pytest.MonkeyPatch) -> Load:
    """`load`, which fails if it would read a config or tokenizer with transformers, or pack a matrix."""

    def fail(*_: object) -> None:
        raise AssertionError("the stored model was not used")

    def load_stored(*args: Any, **options: Any) -> LoadedModel:
        with monkeypatch.context() as patches:
            for name in ("load_config", "load_tokenizer", "family_of", "served_structure"):
                patches.setattr(loading, name, fail)
            return load(*args, **options)

    return load_stored


def assert_equal(found: LoadedModel, expected: LoadedModel) -> None:
    """Compare everything that a request can see of two models."""
    for name in ("eos_ids", "context_length", "architecture", "parameters", "memory_bytes", "proof", "precision"):
        assert getattr(found, name) == getattr(expected, name), name
    encoders = [PromptEncoder(model.tokenizer, model.name) for model in (found, expected)]
    for text in UNICODE_CORPUS:
        assert encoders[0].encode_text(text) == encoders[1].encode_text(text)
        ids = encoders[1].encode_text(text)
        assert found.vocabulary.decode(ids) == expected.vocabulary.decode(ids)
    assert dict(encoders[0].special_ids) == dict(encoders[1].special_ids)
    assert dict(found.tokenizer.special_tokens_map) == dict(expected.tokenizer.special_tokens_map)
    assert encoders[0].has_chat_template == encoders[1].has_chat_template
    if encoders[1].has_chat_template:
        chats = [one.chat_prompt([UserMessage(content="Hi <|im_end|>")]) for one in encoders]
        assert chats[0] == chats[1]
    token_ids = [5, 9, 2, 7, 7, 1] * 10  # more than one step reads
    logits = [
        model.decoder.prefill(token_ids, model.decoder.new_cache(), every_position=True) for model in (found, expected)
    ]
    assert torch.equal(*logits)


def stored_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_stored_model_of_any_family_equals_the_loaded_one_or_is_not_stored(
    family: str, family_folder: Callable[[str], Path], stored: Path, load_without_transformers: Load
) -> None:
    folder = family_folder(family)
    first = load(folder, precision="int4", packed_models=stored, proofs=stored)
    if not isinstance(first.decoder, FusedDecoder):
        assert stored_files(stored) == []
        return
    assert len(stored_files(stored)) == 1
    assert_equal(load_without_transformers(folder, precision="int4", packed_models=stored), first)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_stored_model_equals_the_loaded_one_in_every_precision(
    precision: Precision, family_folder: Callable[[str], Path], stored: Path, load_without_transformers: Load
) -> None:
    folder = family_folder("qwen2")
    first = load(folder, precision=precision, packed_models=stored)
    assert_equal(load_without_transformers(folder, precision=precision, packed_models=stored), first)
    assert PackedModels(stored).has(folder, precision)


@pytest.mark.parametrize("rope", list(ROPES))
def test_every_rotary_type_is_stored_as_transformers_computed_it(
    rope: str, tmp_path: Path, stored: Path, load_without_transformers: Load, tokenizers_by_kind: dict[str, Any]
) -> None:
    tokenizer = tokenizers_by_kind["sentencepiece" if rope == "default" else "byte-level"]
    kind: Any = transformers.Phi3Config if rope == "longrope" else transformers.LlamaConfig
    config = kind(vocab_size=len(tokenizer), **llama_like(rope_parameters=ROPES[rope]))
    folder = save_config(tmp_path / "model", config, tokenizer)
    first = load(folder, packed_models=stored)
    assert isinstance(first.decoder, FusedDecoder)
    assert_equal(load_without_transformers(folder, packed_models=stored), first)


def test_a_changed_file_is_read_again_and_its_older_forms_are_deleted(
    family_folder: Callable[[str], Path], tmp_path: Path, stored: Path, load_without_transformers: Load
) -> None:
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    for seconds in (1, 2, 3):
        os.utime(folder / "config.json", (seconds, seconds))
        with pytest.raises(AssertionError, match="was not used"):
            load_without_transformers(folder, packed_models=stored)
        load(folder, packed_models=stored)
    assert len(stored_files(stored)) == 2
    (folder / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelFormatError):
        load(folder, packed_models=stored)


def test_the_catalogs_record_of_a_model_changes_nothing(
    family_folder: Callable[[str], Path], tmp_path: Path, stored: Path, load_without_transformers: Load
) -> None:
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    load(folder, packed_models=stored)
    (folder / "record.json").write_text("{}")
    load_without_transformers(folder, packed_models=stored)


def test_a_damaged_stored_model_is_packed_again(
    family_folder: Callable[[str], Path], stored: Path, load_without_transformers: Load
) -> None:
    folder = family_folder("llama")
    first = load(folder, precision="int4", packed_models=stored)
    (path,) = stored_files(stored)
    path.write_bytes(path.read_bytes()[:-100])
    assert_equal(load(folder, precision="int4", packed_models=stored), first)
    assert_equal(load_without_transformers(folder, precision="int4", packed_models=stored), first)


def test_the_least_recently_used_models_are_deleted_and_one_that_exceeds_the_limit_is_not_stored(
    family_folder: Callable[[str], Path], stored: Path
) -> None:
    families = ["llama", "qwen2", "qwen3"]
    models = {family: load(family_folder(family)) for family in families}

    def store(family: str, limit_bytes: int) -> None:
        config, tokenizer = load_config(family_folder(family)), models[family].tokenizer
        PackedModels(stored, limit_bytes=limit_bytes).store(
            family_folder(family), "float32", config, tokenizer, PackedParts()
        )

    store("llama", 10)
    assert stored_files(stored) == []
    store("llama", 10**9)
    size = stored_files(stored)[0].stat().st_size
    store("qwen2", 10**9)
    for path, used in zip(stored_files(stored), (20, 10), strict=True):  # qwen2 was used first
        os.utime(path.with_suffix(".json"), (used, used))
    store("qwen3", int(2.5 * size))
    kept = [family for family in families if PackedModels(stored).has(family_folder(family), "float32")]
    assert kept == ["llama", "qwen3"]


def test_models_whose_folder_is_gone_are_deleted(
    family_folder: Callable[[str], Path], tmp_path: Path, stored: Path
) -> None:
    folder = shutil.copytree(family_folder("llama"), tmp_path / "model")
    load(folder, packed_models=stored)
    shutil.rmtree(folder)
    load(family_folder("qwen2"), packed_models=stored)
    assert len(stored_files(stored)) == 1


def test_a_folder_that_cannot_be_written_stores_nothing(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert isinstance(load(family_folder("llama"), packed_models=tmp_path / "file").decoder, FusedDecoder)


def test_a_value_that_json_changes_is_not_stored(family_folder: Callable[[str], Path], stored: Path) -> None:
    folder = family_folder("llama")
    model, config = load(folder), load_config(folder)
    config.sizes = {1: 2}  # would be read with a text as its key
    PackedModels(stored).store(folder, "float32", config, model.tokenizer, PackedParts())
    assert stored_files(stored) == []
