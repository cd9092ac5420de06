from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from workbench.catalog import blocks
from workbench.catalog.gguf_conversion import convert_gguf
from workbench.catalog.progress import silent

if TYPE_CHECKING:
    from tests.unit.catalog.conftest import TinyGguf


@pytest.fixture(scope="module")
def converted(tiny_gguf: TinyGguf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert_gguf(tiny_gguf.path, folder, silent)
    return folder


def test_every_parameter_is_the_dequantized_matrix_with_its_rows_in_transformers_order(
    converted: Path, tiny_gguf: TinyGguf
) -> None:
    with safe_open(converted / "model.safetensors", framework="np") as file:
        assert set(file.keys()) == set(tiny_gguf.expected)  # tied: the embedding is stored once
        for name, matrix in tiny_gguf.expected.items():
            np.testing.assert_array_equal(file.get_tensor(name), matrix, strict=True)


def test_the_blocks_give_back_every_quantized_parameter_bit_for_bit(converted: Path, tiny_gguf: TinyGguf) -> None:
    with safe_open(converted / "blocks.safetensors", framework="np") as file:
        about = file.metadata()
        assert json.loads(about["types"]) == tiny_gguf.kinds
        assert (about["format"], about["format_version"], about["group_size"]) == ("workbench-blocks", "1", "32")
        for name, kind in tiny_gguf.kinds.items():
            keys = blocks.part_layouts(kind, *tiny_gguf.expected[name].shape)
            parts = {key: file.get_tensor(f"{name}.{key}") for key in keys}
            assert blocks.dequantize(parts).tobytes() == tiny_gguf.expected[name].tobytes()


def test_transformers_loads_the_folder_and_finds_every_parameter(converted: Path, tiny_gguf: TinyGguf) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(converted, output_loading_info=True)
    model, report = loaded
    assert not any(report.values())
    found = model.state_dict()
    assert all(torch.equal(found[name], torch.from_numpy(matrix)) for name, matrix in tiny_gguf.expected.items())
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
    assert list(found) == [*_in_file_order(converted), "lm_head.weight"]


def _in_file_order(folder: Path) -> list[str]:
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return [name for name in header if name != "__metadata__"]


def test_the_config_is_what_transformers_itself_reads_from_the_file(converted: Path, tiny_gguf: TinyGguf) -> None:
    from transformers import AutoConfig

    theirs = AutoConfig.from_pretrained(tiny_gguf.path.parent, gguf_file=tiny_gguf.path.name).to_dict()
    ours = AutoConfig.from_pretrained(converted).to_dict()
    incidental = {"_name_or_path", "_model_name_or_path", "architectures", "quantization_config", "dtype"}
    assert {k: v for k, v in ours.items() if k not in incidental} == {
        k: v for k, v in theirs.items() if k not in incidental
    }


def test_the_tokenizer_is_what_transformers_reads_where_no_digit_is_involved(
    converted: Path, tiny_gguf: TinyGguf
) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_gguf.path.parent, gguf_file=tiny_gguf.path.name)
    ours = AutoTokenizer.from_pretrained(converted)
    for text in ["hello world", "  hello", "a\n\n b\t", "<|im_start|>user\nhe<|im_end|>", "é😀日", ""]:
        assert ours(text).input_ids == theirs(text).input_ids
        assert ours.decode(ours(text).input_ids) == text
    for named in ("bos_token", "eos_token", "unk_token", "pad_token"):
        assert getattr(ours, named) == getattr(theirs, named)
    assert set(ours.all_special_tokens) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert ours.chat_template == theirs.chat_template
    assert ours.model_max_length == 128


def test_a_digit_never_joins_the_blanks_before_it(converted: Path) -> None:
    tokenizer = Tokenizer.from_file(str(converted / "tokenizer.json"))
    assert tokenizer.encode("he  1").tokens == ["he", "ĠĠ", "1"]
    assert tokenizer.encode("he  w").tokens == ["he", "Ġ", "Ġw"]


def test_generation_stops_where_the_file_says(converted: Path) -> None:
    generation = json.loads((converted / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def test_progress_grows_to_its_total(tiny_gguf: TinyGguf, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    convert_gguf(tiny_gguf.path, tmp_path, lambda *facts: told.append(facts))
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    assert told[-1][1] == told[-1][2] == sum(matrix.nbytes for matrix in tiny_gguf.expected.values())


def test_matrices_that_pass_in_several_chunks_come_out_the_same(
    tiny_gguf: TinyGguf, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.catalog.gguf_conversion._CHUNK_ELEMENTS", 64 * 5)
    convert_gguf(tiny_gguf.path, tmp_path, silent)
    for name in ("model.safetensors", "blocks.safetensors"):
        assert (tmp_path / name).read_bytes() == (converted / name).read_bytes()


@pytest.mark.parametrize("end", [0, 3, 1000, -64])
def test_a_file_that_is_cut_off_is_refused(tiny_gguf: TinyGguf, tmp_path: Path, end: int) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.path.read_bytes()[:end])
    with pytest.raises((ValueError, LookupError)):
        convert_gguf(cut, tmp_path, silent)


def test_another_architecture_is_refused_by_name(make_gguf: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mamba'; only llama"):
        convert_gguf(make_gguf(tmp_path / "other.gguf", architecture="mamba").path, tmp_path, silent)


def test_wrong_blocks_would_stop_the_conversion(
    tiny_gguf: TinyGguf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = blocks.split_blocks

    def off_by_one(kind: str, data: Any) -> blocks.Parts:
        parts = right(kind, data)
        return parts | {"q": np.roll(parts["q"], 1, axis=1)}

    monkeypatch.setattr(blocks, "split_blocks", off_by_one)
    with pytest.raises(ValueError, match="do not reproduce"):
        convert_gguf(tiny_gguf.path, tmp_path, silent)
