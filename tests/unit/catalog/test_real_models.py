"""Facts of the two embedded models as they lie in the cache after a real pull."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from workbench import catalog
from workbench.catalog import blocks

pytestmark = [pytest.mark.model, pytest.mark.real_model]

CHATML = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
)
# Ids that llama.cpp gives for the same file.
LLAMA_CPP_IDS = {
    "Hello world": [19556, 905],
    "The year 1984 and 3.14": [504, 713, 216, 33, 41, 40, 36, 284, 216, 35, 30, 33, 36],
    "a  1": [81, 256, 33],
    "x   42y": [104, 333, 36, 34, 105],
    "\n\n  7": [39892, 39],
    "½ ² ٣٤ 3D 2nd": [16738, 216, 19133, 216, 164, 113, 164, 114, 216, 35, 52, 216, 34, 268],
    "def f(x):\n    return x+10\n\t  5": [1604, 275, 24, 104, 727, 472, 1003, 1792, 27, 33, 32, 3354, 256, 37],
    "<|im_start|>user\nhi<|im_end|>": [1, 4093, 198, 6004, 2],
}


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_path)


@pytest.mark.real_model
@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.name)
def test_the_cache_holds_what_the_catalog_promises(entry: catalog.CatalogEntry) -> None:
    folder = catalog.local_path(entry.name)
    assert catalog.verify(entry.name) == catalog.check_folder(folder) == folder
    assert catalog.status(entry.name).disk_bytes == pytest.approx(entry.disk_bytes, rel=0.01)
    with safe_open(folder / "model.safetensors", framework="np") as file:
        slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - not a mapping
        counts = [_product(part.get_shape()) for part in slices if part.get_dtype() == "F32"]
    assert sum(counts) == entry.parameters


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def test_smollm2_blocks_give_back_its_weights_bit_for_bit(smollm2_path: Path) -> None:
    with (
        safe_open(smollm2_path / "model.safetensors", framework="np") as whole,
        safe_open(smollm2_path / "blocks.safetensors", framework="np") as split,
    ):
        types = json.loads(split.metadata()["types"])
        assert sorted(types.values()) == ["Q4_1"] * 210 + ["Q8_0"]
        for name in [f"model.layers.{layer}.self_attn.k_proj.weight" for layer in (0, 15, 29)]:
            expected = whole.get_tensor(name)
            parts = {k: split.get_tensor(f"{name}.{k}") for k in blocks.part_layouts(types[name], *expected.shape)}
            assert blocks.dequantize(parts).tobytes() == expected.tobytes()


def test_smollm2_text_becomes_the_ids_that_llama_cpp_gives(tokenizer: Any) -> None:
    assert {text: tokenizer(text).input_ids for text in LLAMA_CPP_IDS} == LLAMA_CPP_IDS
    assert [tokenizer.decode(ids) for ids in LLAMA_CPP_IDS.values()] == list(LLAMA_CPP_IDS)


def test_smollm2_has_its_17_special_tokens_and_its_template(tokenizer: Any) -> None:
    assert sorted(tokenizer.all_special_ids) == list(range(17))
    assert len(tokenizer) == 49_152
    messages = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == CHATML


def test_smollm2_stops_at_the_end_of_its_turn(smollm2_path: Path, tokenizer: Any) -> None:
    from transformers import AutoConfig, GenerationConfig

    config, generation = AutoConfig.from_pretrained(smollm2_path), GenerationConfig.from_pretrained(smollm2_path)
    assert generation.eos_token_id == config.eos_token_id == tokenizer.eos_token_id == 2
    assert tokenizer.convert_ids_to_tokens(2) == "<|im_end|>"
    assert config.max_position_embeddings == tokenizer.model_max_length == 8192
    assert config.rope_parameters["rope_theta"] == 100_000.0
    assert config.tie_word_embeddings


def test_minilm_keeps_how_it_pools(minilm_path: Path) -> None:
    assert json.loads((minilm_path / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"]
    assert json.loads((minilm_path / "sentence_bert_config.json").read_text())["max_seq_length"] == 256
    assert [module["type"].split(".")[-1] for module in json.loads((minilm_path / "modules.json").read_text())] == [
        "Transformer",
        "Pooling",
        "Normalize",
    ]
