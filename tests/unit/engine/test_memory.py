"""What a model will hold is known from its headers, and what would not fit is refused with what would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.tiny_models import bpe_tokenizer, llama_like, save_config
from workbench.engine import memory
from workbench.engine.loading import load
from workbench.engine.memory import check_limit, plan, tensor_shapes
from workbench.engine.precision import PRECISIONS, Precision
from workbench.engine.weight_sizes import RESERVE_BYTES, predict
from workbench.errors import InsufficientMemoryError, ModelFormatError
from workbench.found import find_models

VOCAB = 384
configs: Any = transformers


def shaped(**more: Any) -> dict[str, Any]:
    return {"vocab_size": VOCAB} | llama_like(
        **{"hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.1} | more
    )


STRUCTURES: dict[str, Callable[[], Any]] = {
    "llama": lambda: configs.LlamaConfig(**shaped()),
    "llama-tied": lambda: configs.LlamaConfig(**shaped(tie_word_embeddings=True)),
    "llama-odd": lambda: configs.LlamaConfig(**shaped(hidden_size=60, intermediate_size=100, head_dim=10)),
    "qwen2": lambda: configs.Qwen2Config(**shaped()),
    "qwen3": lambda: configs.Qwen3Config(**shaped(head_dim=32)),
    "gpt2": lambda: configs.GPT2Config(vocab_size=VOCAB, n_embd=64, n_layer=2, n_head=4, n_positions=512),
    "gemma3": lambda: configs.Gemma3TextConfig(
        **shaped(head_dim=16, query_pre_attn_scalar=16, sliding_window=24, layer_types=["full_attention"] * 2)
    ),
    "mixtral": lambda: configs.MixtralConfig(**shaped(num_local_experts=4, num_experts_per_tok=2)),
}


PACKED = {"llama", "llama-tied", "llama-odd", "qwen2", "qwen3", "gpt2", "gemma3", "mixtral"}
"""Those that the fused step takes."""


@pytest.fixture(scope="session")
def structure(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, tokenizer = tmp_path_factory.mktemp("structures"), bpe_tokenizer(VOCAB)

    @cache
    def folder(name: str) -> Path:
        return save_config(root / name, STRUCTURES[name](), tokenizer)

    return folder


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Leaves so many bytes for a model's weights."""

    def leave(nbytes: float) -> None:
        monkeypatch.setattr(memory, "memory_available_bytes", lambda: RESERVE_BYTES + int(nbytes))

    return leave


def weights_folder(folder: Path, **shapes: tuple[int, ...]) -> Path:
    """A folder with nothing but weights of these shapes."""
    save_file(
        {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}, folder / "model.safetensors"
    )
    return folder


# ------------------------------------------------------------------------------------------------------ prediction


@pytest.mark.parametrize("name", list(STRUCTURES))
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("keep_bf16", [True, False])
def test_the_prediction_is_what_is_held(
    structure: Callable[[str], Path], room: Callable[[float], None], name: str, precision: Precision, keep_bf16: bool
) -> None:
    shapes = tensor_shapes(structure(name))
    expected = predict(shapes, precision, packed=name in PACKED, keep_bf16=keep_bf16)
    room(expected)
    model = load(structure(name), precision=precision)
    assert model.memory_bytes == pytest.approx(expected, rel=0.02)
    assert model.predicted_memory_bytes == pytest.approx(model.memory_bytes, rel=0.02)
    assert model.parameters == sum(map(prod, shapes.values()))


def test_weights_in_mxfp4_count_as_transformers_unpacks_them(tmp_path: Path) -> None:
    options = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 16}
    folder = save_config(tmp_path / "mxfp4", configs.GptOssConfig(**shaped(**options)), bpe_tokenizer(VOCAB))
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj") and ".experts." in name]:
        experts, columns, rows = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.randint(256, (experts, rows, columns // 32, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.full((experts, rows, columns // 32), 120, dtype=torch.uint8)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}))
    (found,) = find_models([tmp_path])
    for precision in ("float32", "bf16", "int8"):
        model = load(folder, precision=precision)
        assert model.memory_bytes == pytest.approx(model.predicted_memory_bytes, rel=0.02)
        assert (found.parameters, found.precision) == (model.parameters, "mxfp4")
        assert precision != "float32" or found.memory_bytes == model.predicted_memory_bytes


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_prediction_for_the_embedded_model_follows_from_its_size(smollm2_path: Path, precision: Precision) -> None:
    """134.5 million parameters, of which 28.3 are the embedding and 106.2 lie in matrices of the layers."""
    matrices, others = 106_168_320, 28_346_688
    each, outside = {
        "float32": (4, 4),
        "bf16": (2, 2),
        "fp8": (9 / 8, 2),
        "int8": (9 / 8, 9 / 8),
        "int4": (6 / 8, 9 / 8),
    }[precision]
    expected = matrices * each + others * outside
    assert predict(tensor_shapes(smollm2_path), precision, packed=True) == pytest.approx(expected, rel=0.005)


def test_shapes_come_from_headers_alone(tmp_path: Path) -> None:
    weights_folder(tmp_path, a__weight=(3, 5), b__bias=(7,), scalar=())
    assert tensor_shapes(tmp_path) == {"a.weight": (3, 5), "b.bias": (7,), "scalar": ()}


def test_a_header_is_read_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_folder(tmp_path, first=(3, 5))
    shapes = tensor_shapes(tmp_path)
    shapes.clear()  # a caller's own
    with monkeypatch.context() as patch:
        patch.setattr(json, "loads", None)
        assert tensor_shapes(tmp_path) == {"first": (3, 5)}
    weights_folder(tmp_path, first=(3, 5), second=(2,))
    assert tensor_shapes(tmp_path) == {"first": (3, 5), "second": (2,)}


def test_blocks_beside_the_weights_are_not_counted_again(structure: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(structure("llama"), tmp_path / "model")
    before = tensor_shapes(folder)
    save_file({"x.q": torch.zeros(1000, 1000)}, folder / "blocks.safetensors")
    assert tensor_shapes(folder) == before


def test_only_the_files_that_are_loaded_count(structure: Callable[[str], Path], tmp_path: Path) -> None:
    """Some folders hold the same weights twice, under the names of another program."""
    folder = shutil.copytree(structure("llama"), tmp_path / "model")
    before = tensor_shapes(folder)
    save_file({"layers.0.wq": torch.zeros(1000, 1000)}, folder / "consolidated.safetensors")
    assert tensor_shapes(folder) == before


def test_buffers_in_older_files_are_not_counted(structure: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(structure("gpt2"), tmp_path / "model")
    before, path = tensor_shapes(folder), folder / "model.safetensors"
    buffers = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    save_file(load_file(path) | buffers, path, metadata={"format": "pt"})
    assert tensor_shapes(folder) == before
    loaded = load(folder)
    assert loaded.parameters == sum(map(prod, before.values()))
    assert loaded.predicted_memory_bytes == pytest.approx(loaded.memory_bytes, rel=0.02)


def test_shards_count_together(structure: Callable[[str], Path], tmp_path: Path) -> None:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(structure("llama"))
    model.save_pretrained(tmp_path, max_shard_size="80KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert tensor_shapes(tmp_path) == tensor_shapes(structure("llama"))


@pytest.mark.parametrize(
    "content", [b"", b"1234", b"\xff" * 8, b"\x05\x00\x00\x00\x00\x00\x00\x00nonsense", b"\2" + bytes(7) + b"[]"]
)
def test_a_damaged_header_is_a_damaged_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        tensor_shapes(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[]", "{"])
def test_a_damaged_index_is_a_damaged_model(structure: Callable[[str], Path], tmp_path: Path, index: str) -> None:
    folder = shutil.copytree(structure("llama"), tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelFormatError, match=r"index\.json"):
        load(folder)


# --------------------------------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_wide_copies_go_where_that_alone_makes_it_fit(
    structure: Callable[[str], Path], room: Callable[[float], None], precision: Precision
) -> None:
    shapes = tensor_shapes(structure("gpt2"))
    wide, narrow = (predict(shapes, precision, packed=False, keep_bf16=keep_bf16) for keep_bf16 in (True, False))
    assert narrow < wide
    for nbytes, expected in ((wide, True), (wide - 1, False), (narrow, False)):
        room(nbytes)
        found = plan(structure("gpt2"), precision, "model", packed=False)
        assert (found.keep_bf16, found.nbytes) == (expected, wide if expected else narrow)
    room(narrow - 1)
    with pytest.raises(InsufficientMemoryError):
        plan(structure("gpt2"), precision, "model", packed=False)


@pytest.mark.parametrize("name", ["gemma3", "gpt2"])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_without_its_wide_copies_a_model_answers_all_the_same(
    structure: Callable[[str], Path], room: Callable[[float], None], name: str, precision: Precision
) -> None:
    folder = structure(name)
    room(predict(tensor_shapes(folder), precision, packed=False))
    small = load(folder, precision=precision, fast=False)
    room(10**9)
    large = load(folder, precision=precision, fast=False)
    assert small.memory_bytes < large.memory_bytes
    token_ids = list(range(3, 40))
    with torch.inference_mode():
        found, expected = (one.decoder.prefill(token_ids, one.decoder.new_cache()) for one in (small, large))
    assert 0 < float((found - expected).norm()) < 0.35 * float(expected.norm())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_refusal_names_what_would_fit_and_nothing_else(
    structure: Callable[[str], Path], room: Callable[[float], None], precision: Precision
) -> None:
    shapes = tensor_shapes(structure("llama"))
    least = {one: predict(shapes, one, packed=True) for one in PRECISIONS}
    room(least[precision] - 1)
    with pytest.raises(InsufficientMemoryError) as caught:
        plan(structure("llama"), precision, "my-model", packed=True)
    message = str(caught.value)
    assert message.startswith(f"my-model in {precision} needs ")
    advice = message.partition("free; ")[2]
    for one in PRECISIONS:
        assert (f"{one} (" in advice) is (least[one] < least[precision])
    assert ("smaller model" in advice) is (precision == "int4")


@pytest.mark.parametrize("nbytes", [0, -RESERVE_BYTES, -(10**12)])
def test_where_nothing_fits_a_smaller_model_is_the_advice(
    structure: Callable[[str], Path], room: Callable[[float], None], nbytes: int
) -> None:
    room(nbytes)
    with pytest.raises(InsufficientMemoryError, match="smaller model: no precision of this one fits") as caught:
        load(structure("llama"), precision="int4", name="my-model")
    assert "-" not in str(caught.value).replace("my-model", ""), "nobody has less than no memory left"


def test_the_limit_of_the_environment_is_what_refuses(
    structure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_LIMIT", str(100 * 2**20))
    with pytest.raises(InsufficientMemoryError, match="100 MiB"):
        load(structure("llama"))


def test_a_refused_model_was_not_read(
    structure: Callable[[str], Path], room: Callable[[float], None], tmp_path: Path
) -> None:
    """Nothing but headers is looked at: weights that would fail to load are never come to."""
    folder = shutil.copytree(structure("llama"), tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    room(0)
    with pytest.raises(InsufficientMemoryError):
        load(folder)


def test_a_model_of_many_files_is_refused_by_the_sum_of_them(tmp_path: Path, room: Callable[[float], None]) -> None:
    for part in (1, 2):
        save_file({f"part{part}.weight": torch.zeros(64, 64)}, tmp_path / f"model-{part}.safetensors")
    places = {f"part{part}.weight": f"model-{part}.safetensors" for part in (1, 2)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    room(2 * 64 * 64 * 4 - 1)
    with pytest.raises(InsufficientMemoryError):
        plan(tmp_path, "float32", "parts", packed=False)
    room(2 * 64 * 64 * 4)
    assert plan(tmp_path, "float32", "parts", packed=False).nbytes == 2 * 64 * 64 * 4


@pytest.mark.parametrize("precision", ["float32", "int4"])
def test_what_could_never_fit_is_told_before_it_is_loaded_and_what_could_is_not(
    structure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    """Whatever else is in memory at the moment."""
    folder = structure("llama")
    needed = predict(tensor_shapes(folder), precision, packed=True)
    monkeypatch.setattr(memory, "memory_available_bytes", lambda: 0)
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: needed + RESERVE_BYTES)
    check_limit(folder, precision, "my-model", packed=True)
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: needed + RESERVE_BYTES - 1)
    with pytest.raises(InsufficientMemoryError, match=f"my-model in {precision} needs") as caught:
        check_limit(folder, precision, "my-model", packed=True)
    assert ("choose a smaller model" in str(caught.value)) is (precision == "int4")
    assert ("int4 (" in str(caught.value)) is (precision == "float32")
