"""Folders of GPTQ, AWQ and compressed-tensors are read exactly, or refused by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from tests.budget import some
from tests.fakes.listening import generate
from tests.fakes.quantized_folders import FORMATS, quantized, save_quantized, set_quantization
from workbench.engine.grouped_formats import read_groups
from workbench.engine.grouped_layouts import Awq, CompressedTensors, Gptq, GroupedLayout
from workbench.engine.loading import load
from workbench.engine.memory import tensor_shapes
from workbench.engine.model_folder import check_folder
from workbench.engine.precision import Precision
from workbench.engine.quantization_settings import stored_format
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.engine.weight_sizes import RESERVE_BYTES
from workbench.engine.weights import WeightFiles
from workbench.errors import ModelFormatError, ModelLoadError
from workbench.found import describing
from workbench.found.describing import describe
from workbench.found.searching import Candidate
from workbench.records import FoundModel

OF_FORMAT: dict[str, GroupedLayout] = {
    "gptq": Gptq(1),
    "gptq_v2": Gptq(0),
    "awq": Awq(),
    "symmetric": CompressedTensors(),
    "asymmetric": CompressedTensors(),
}

WORDS = [
    *([1392285232, -629924168] * 2, [-1488852091, 801727245] * 2, [-57265958, 1948170322] * 2),
    *([1105954095, -916255321] * 2, [-1775183244, 515396348] * 2, [-343593015, 1661839169] * 2),
    *([819622942, -1202520938] * 2, [-2060465821, 229065195] * 2),
]
ZERO_WORD = 440163952


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """A quantized folder and the same unquantized, by format; each is made once."""
    root, made = tmp_path_factory.mktemp("quantized"), {}

    def of(name: str) -> tuple[Path, Path]:
        if name not in made:
            made[name] = save_quantized(root / name, name)
        return made[name]

    return of


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("group", [32, 64, 128, 256])
def test_random_matrices_are_read_exactly(name: str, group: int) -> None:
    one, stored = FORMATS[name], OF_FORMAT[name]
    for seed in some(list(range(10))):
        rng = np.random.default_rng(seed)
        rows, columns = 8 * int(rng.integers(1, 9)), group * int(rng.integers(1, 4))
        weight = rng.standard_normal((rows, columns)).astype(np.float32) * float(rng.choice([1e-3, 1.0, 50.0]))
        parts = one.write(quantized(weight, columns // group, low=one.low, symmetric=one.symmetric))
        shapes = {part: tensor.shape for part, tensor in parts.items()}
        assert stored.shape(shapes) == (rows, columns)
        tensors = {part: torch.from_numpy(np.ascontiguousarray(tensor)) for part, tensor in parts.items()}
        groups = read_groups(stored, tensors.__getitem__, shapes)
        expected = torch.from_numpy(one.judge(parts))
        assert torch.equal(groups.dense(), expected)
        scale, minimum = (part.repeat_interleave(32, 1) for part in groups.per_block())
        assert torch.equal(groups.q * scale + minimum, expected)  # as int4 computes


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_and_dense_weights_of_a_folder_are_its_numbers(
    folders: Callable[[str], tuple[Path, Path]], name: str
) -> None:
    small, dense = folders(name)
    assert tensor_shapes(small) == tensor_shapes(dense)
    expected = load_file(dense / "model.safetensors")
    with WeightFiles(small) as files:
        assert files.names() == set(expected)
        for full, weight in expected.items():
            assert files.shape(full) == weight.shape
            assert torch.equal(files.dense(full).float(), torch.from_numpy(weight))
            if "_proj" in full:
                assert torch.equal(files.blocks(full).dense(), torch.from_numpy(weight))


@pytest.mark.parametrize("name", FORMATS)
def test_ids_equal_those_of_transformers_on_the_same_numbers(
    folders: Callable[[str], tuple[Path, Path]], engine_of: Callable[..., Engine], name: str
) -> None:
    small, dense = folders(name)
    check_folder(small)
    engine = engine_of(model=load(small))
    reference = transformers.AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32).eval()
    for seed in range(4):
        prompt = np.random.default_rng(seed).integers(3, 380, 12).tolist()
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = reference.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
            )
        answer = output[0, len(prompt) :].tolist()
        heard = generate(engine, GenerationRequest(prompt_ids=tuple(prompt), max_tokens=24))
        assert heard.ids == (answer[:-1] if answer[-1] == 0 else answer)


def described(folder: Path) -> FoundModel:
    """Return what the list of models on this machine says of a folder."""
    found = describe(Candidate("mine", "model_folders", folder))
    assert found is not None
    return found


def test_quantized_folders_are_listed_as_what_they_are(
    folders: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, method in (("gptq", "gptq"), ("awq", "awq"), ("asymmetric", "compressed-tensors")):
        small, dense = map(described, folders(name))
        assert (small.servable, small.precision, small.parameters) == (True, method, dense.parameters)
        assert (small.fits_in, small.memory_bytes) == ("float32", dense.memory_bytes)
        room = RESERVE_BYTES + (dense.memory_bytes or 0) // 2
        with monkeypatch.context() as patch:
            patch.setattr(describing, "memory_limit_bytes", lambda room=room: room)
            assert described(folders(name)[0]).fits_in == "int4"  # bf16 would round


@pytest.mark.parametrize("name", ["gptq", "asymmetric"])
def test_int4_computes_with_the_stored_numbers(folders: Callable[[str], tuple[Path, Path]], name: str) -> None:
    """Its logits are nearer to those of float32 than after rounding the same weights to int4 a second time."""
    small, dense = folders(name)
    prompt = list(range(3, 60))

    def logits(folder: Path, precision: Precision) -> torch.Tensor:
        decoder = load(folder, precision=precision).decoder
        return decoder.prefill(prompt, decoder.new_cache())[0]

    exact = logits(dense, "float32")
    stored, again = ((logits(folder, "int4") - exact).abs().max() for folder in (small, dense))
    assert stored < again / 2


def test_zero_biases_that_gptq_adds_are_left_out(folders: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    small, dense = folders("gptq")
    folder = Path(shutil.copytree(small, tmp_path / "biased"))
    stored = load_file(folder / "model.safetensors")
    rows = {name.removesuffix("qweight"): tensor.shape[1] for name, tensor in stored.items() if "qweight" in name}
    biases = {f"{prefix}bias": np.zeros(count, np.float16) for prefix, count in rows.items()}
    save_file(stored | biases, folder / "model.safetensors", {"format": "pt"})
    assert tensor_shapes(folder) == tensor_shapes(dense)
    prompt = [5, 6, 7]
    first, second = (load(one).decoder for one in (folder, small))
    assert torch.equal(first.prefill(prompt, first.new_cache()), second.prefill(prompt, second.new_cache()))


GPTQ, PACKED = FORMATS["gptq"].settings, FORMATS["symmetric"].settings


def changed_group(**settings: Any) -> dict[str, Any]:
    (group,) = PACKED["config_groups"].values()
    return PACKED | {"config_groups": {"group_0": group | settings}}


def changed(**weights: Any) -> dict[str, Any]:
    (group,) = PACKED["config_groups"].values()
    return changed_group(weights=group["weights"] | weights)


@pytest.mark.parametrize(
    "settings, words",
    [
        (GPTQ | {"bits": 8}, "GPTQ with 8 bits"),
        (GPTQ | {"checkpoint_format": "marlin"}, "GPTQ in the format marlin"),
        (GPTQ | {"is_marlin_format": True}, "GPTQ in the format marlin"),
        (GPTQ | {"pack_dtype": "int16"}, "GPTQ packed in int16"),
        (GPTQ | {"desc_act": True}, r"in the order of their activations \(desc_act\)"),
        ({"quant_method": "awq", "bits": 3}, "AWQ with 3 bits"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "AWQ in the version gemv"),
        ({"quant_method": "awq", "bits": 4, "zero_point": False}, "AWQ without zero points"),
        (PACKED | {"format": "float-quantized"}, "compressed-tensors in the format float-quantized"),
        (PACKED | {"kv_cache_scheme": {"num_bits": 8}}, "a quantized KV cache"),
        (
            PACKED | {"transform_config": {"config_groups": {"R4": {"type": "hadamard"}}}},
            "compressed-tensors with transf",
        ),
        (PACKED | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "compressed-tensors with sparse weights"),
        (PACKED | {"sparsity_config": [1]}, "compressed-tensors with sparse weights"),
        (changed_group(output_activations={"num_bits": 8}), "compressed-tensors with quantized activations"),
        (changed_group(format="nvfp4-pack-quantized"), "a group in the format nvfp4-pack-quantized"),
        (PACKED | {"config_groups": {}}, "without config_groups"),
        (changed(num_bits=8), "compressed-tensors with 8 bits of type int"),
        (changed(type="float"), "compressed-tensors with 4 bits of type float"),
        (changed(strategy="tensor"), "the strategy tensor"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes in 4 bits"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"bits": 4}, "a method that quantization_config does not name"),
        (PACKED | {"config_groups": {"group_0": {"weights": [4]}}}, "a group that does not describe its weights"),
    ],
)
def test_other_formats_are_refused_by_name_with_what_to_choose(
    folders: Callable[[str], tuple[Path, Path]], tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    folder = Path(shutil.copytree(folders("gptq")[0], tmp_path / "other"))
    set_quantization(folder, settings)
    for read in (load, tensor_shapes, stored_format):
        with pytest.raises(ModelFormatError, match=rf"{words}.*Choose the repository of the unquantized model"):
            read(folder)
    assert re.search(words, described(folder).problem)


def spoiled(folder: Path, **tensors: Any) -> None:
    """Replace tensors of the first query projection."""
    stored = load_file(folder / "model.safetensors")
    stored |= {f"model.layers.0.self_attn.q_proj.{part}": tensor for part, tensor in tensors.items()}
    save_file(stored, folder / "model.safetensors", {"format": "pt"})


def test_columns_in_the_order_of_activations_are_refused(
    folders: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders("gptq")[0], tmp_path / "reordered"))
    order = np.random.default_rng(0).permutation(np.arange(128) // 64).astype(np.int32)
    spoiled(folder, g_idx=order)
    with pytest.raises(ModelFormatError, match=r"layers\.0\.self_attn\.q_proj.*desc_act"):
        load(folder)


@pytest.mark.parametrize(
    "tensors",
    [
        {"scales": np.zeros((3, 128), np.float16)},
        {"scales": np.zeros((128, 128), np.float16), "qzeros": np.zeros((128, 16), np.int32)},
        {"qzeros": np.zeros((2, 15), np.int32)},
        {"g_idx": np.zeros(64, np.int32)},
    ],
    ids=["groups", "groups of one", "zeros", "columns"],
)
def test_tensors_that_do_not_match_are_refused_by_name(
    folders: Callable[[str], tuple[Path, Path]], tmp_path: Path, tensors: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(folders("gptq")[0], tmp_path / "spoiled"))
    spoiled(folder, **tensors)
    with pytest.raises(ModelFormatError, match=r"layers\.0\.self_attn\.q_proj\.weight is stored in a way"):
        load(folder)


def test_a_quantized_model_outside_the_fast_step_is_refused(
    folders: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders("awq")[0], tmp_path / "outside"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mlp_bias": True}))
    with pytest.raises(ModelLoadError, match="quantized by AWQ, which are supported only for"):
        load(folder)


def test_words_that_the_package_compressed_tensors_has_written_are_read() -> None:
    """Recorded from its version 0.20.1: q is 5 * row + 3 * column, and zero 7 * row, both modulo 16."""
    rows, columns = torch.arange(8).unsqueeze(1), torch.arange(32)
    parts = {
        "weight_packed": torch.tensor(WORDS, dtype=torch.int32),
        "weight_zero_point": torch.tensor([[ZERO_WORD]], dtype=torch.int32),
        "weight_scale": torch.full((8, 1), 0.5),
    }
    shapes = {part: tuple(tensor.shape) for part, tensor in parts.items()}
    expected = 0.5 * ((5 * rows + 3 * columns) % 16 - (7 * rows) % 16).float()
    assert torch.equal(read_groups(CompressedTensors(), parts.__getitem__, shapes).dense(), expected)


def test_a_word_of_awq_holds_its_rows_in_awqs_order() -> None:
    """AutoAWQ, vLLM and compressed-tensors undo it by the order 0 4 1 5 2 6 3 7."""
    parts = {
        "qweight": torch.full((32, 1), 0x76543210, dtype=torch.int32),
        "qzeros": torch.zeros(1, 1, dtype=torch.int32),
        "scales": torch.ones(1, 8),
    }
    read = read_groups(Awq(), parts.__getitem__, {part: tuple(tensor.shape) for part, tensor in parts.items()})
    assert read.dense()[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_a_word_of_gptq_holds_columns_and_zeros_less_one() -> None:
    parts = {
        "qweight": torch.full((4, 8), 0x76543210, dtype=torch.int32),
        "qzeros": torch.full((1, 1), 0x76543210, dtype=torch.int32),
        "scales": torch.ones(1, 8),
    }
    read = read_groups(Gptq(1), parts.__getitem__, {part: tuple(tensor.shape) for part, tensor in parts.items()})
    assert read.dense()[0].tolist() == [number - 1 for number in range(8)] * 4
    assert read.dense()[7].tolist() == [number - 8 for number in range(8)] * 4
