"""Folders that cannot or must not be loaded are refused by name, before anything of them runs."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.fakes.listening import generate
from workbench.engine.loading import load
from workbench.engine.model_folder import check_config
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.errors import ModelFormatError, ModelLoadError, NumericalError, UnprovenModelError, UnsafeModelError


@pytest.fixture
def folder(tmp_path: Path, family_folder: Callable[[str], Path]) -> Path:
    """A sound model to spoil."""
    return shutil.copytree(family_folder("llama"), tmp_path / "model")


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_sound_folder_loads_under_its_own_name(folder: Path) -> None:
    model = load(folder)
    assert (model.name, model.context_length, model.precision) == ("model", 512, "float32")
    assert model.eos_ids == {0}
    assert model.parameters > 0
    assert model.memory_bytes > 0


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"nowhere.*config\.json"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=name):
        load(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\xff"])
def test_a_config_that_is_no_object_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, 20_000, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        load(folder)


@pytest.mark.parametrize("fast", [True, False])
def test_a_missing_tensor_is_refused_and_never_made_up(folder: Path, fast: bool) -> None:
    """Transformers would draw a random one in its place, with no more than a warning."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "down_proj" in name)
    del tensors[name]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelFormatError, match="model"):
        load(folder, fast=fast)


@pytest.mark.parametrize("fast", [True, False])
def test_a_tensor_of_another_shape_is_refused(folder: Path, fast: bool) -> None:
    change(folder / "config.json", intermediate_size=64)
    shapes = r"layers\.0\.mlp\.down_proj\.weight in the shape \[32, 48\], but \[32, 64\] follows from config\.json"
    with pytest.raises(ModelFormatError, match=shapes):
        load(folder, fast=fast)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickled_weights_are_refused_unread(folder: Path, name: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "exploded",))

    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UnsafeModelError, match=name):
        load(folder)
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("key", ["auto_map", "_attn_implementation_internal", "_experts_implementation_internal"])
def test_a_folder_that_asks_for_code_is_refused(folder: Path, file: str, key: str) -> None:
    change(folder / file, **{key: {"AutoModelForCausalLM": "evil.Model"}})
    (folder / "evil.py").write_text(f"open({str(folder / 'exploded')!r}, 'w')")
    with pytest.raises(UnsafeModelError, match=key):
        load(folder)
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("values", [{"model_type": "no-such-model"}, {"is_encoder_decoder": True, "model_type": "t5"}])
def test_an_architecture_that_is_none_of_ours_is_refused(folder: Path, values: dict[str, Any]) -> None:
    change(folder / "config.json", **values)
    with pytest.raises(ModelFormatError):
        load(folder)


@pytest.mark.parametrize("values", [{"eos_token_id": "x"}, {"num_attention_heads": 0}, {"layer_types": 5}])
@pytest.mark.parametrize("fast", [True, False])
def test_a_config_of_nonsense_is_refused_by_its_folder(folder: Path, values: dict[str, Any], fast: bool) -> None:
    change(folder / "config.json", **values)
    with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
        load(folder, fast=fast)


ODD: list[Any] = [3, {}, [3], True]


@pytest.mark.parametrize(
    "values, words",
    [
        *(({"architectures": value}, "architectures to .*; a list of names") for value in (*ODD, "x")),
        *(({"model_type": value}, "model_type to .*; a name") for value in ODD),
        *(({name: 2**70}, f"{name} to .*; at most 10,000") for name in ("num_hidden_layers", "n_layer", "num_labels")),
        ({"vision_config": {"depth": 10**9}}, "depth to 1000000000; at most 10,000"),
    ],
)
def test_values_that_transformers_uses_unchecked_are_refused_before_it_reads_them(
    folder: Path, values: dict[str, Any], words: str
) -> None:
    change(folder / "config.json", **values)
    with pytest.raises(ModelFormatError, match=rf"config\.json sets {words}"):
        check_config(folder)


def test_a_field_that_transformers_refuses_is_named_with_the_type_that_it_expects(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers="x")
    with pytest.raises(ModelFormatError, match=r"'num_hidden_layers': TypeError: .* expected int, got str"):
        load(folder)


@pytest.mark.parametrize(
    "content",
    [
        *(
            '{"eos_token_id": [2, null]}',
            '{"eos_token_id": "2"}',
            '{"eos_token_id": [2, "x"]}',
            '{"eos_token_id": true}',
            '{"eos_token_id": 2.0}',
        ),
        *('{"suppress_tokens": 7}', '{"max_new_tokens": "x"}', "[1]", "{", "null"),
    ],
)
def test_generation_settings_of_nonsense_are_refused_by_their_file(folder: Path, content: str) -> None:
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(ModelFormatError, match=r"generation_config\.json"):
        load(folder)


def test_an_end_outside_the_vocabulary_is_none(folder: Path) -> None:
    change(folder / "generation_config.json", eos_token_id=[-1, 5, 99_999])
    assert load(folder).eos_ids == {0, 5}


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFormatError, match="tokenizer"):
        load(folder)


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelLoadError, match="tokenizer"):
        load(folder)


def test_one_weight_that_is_nan_is_an_error_and_never_text(folder: Path, engine_of: Callable[..., Engine]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.down_proj.weight"][3, 3] = float("nan")
    save_file(tensors, path, {"format": "pt"})
    heard = generate(engine_of(model=load(folder)), GenerationRequest(prompt_ids=(5, 6, 7)))
    assert isinstance(heard.error, NumericalError)
    assert heard.text == ""
    with pytest.raises(UnprovenModelError, match="computes NaN"):
        load(folder, fast=False)
