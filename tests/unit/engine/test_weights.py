"""Four bits per weight: what is lost has a bound, and what a file already holds in four bits is not touched again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from tests.budget import budget
from workbench.engine.weight_sizes import GROUP
from workbench.engine.weights import BLOCKS_FILE, Blocks, WeightFiles


def matrix(rows: int, groups: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(rows, groups * GROUP, generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=budget(80))
@given(
    rows=st.integers(1, 5),
    groups=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 1e-30, 1e-4, 1.0, 1e4]),
)
def test_no_weight_moves_by_more_than_half_a_step_of_its_group(rows: int, groups: int, seed: int, scale: float) -> None:
    weight = matrix(rows, groups, seed, scale)
    blocks = Blocks.of(weight)
    assert (blocks.q.dtype, blocks.q.shape, blocks.scale.shape) == (torch.uint8, weight.shape, (rows, groups))
    assert int(blocks.q.max()) <= 15
    moved = (blocks.dense() - weight).abs().unflatten(1, (-1, GROUP))
    spread = weight.unflatten(1, (-1, GROUP))
    step = (spread.amax(-1) - spread.amin(-1)) / 15
    rounding = 1e-6 * weight.abs().max()  # of float32 itself
    assert bool((moved.amax(-1) <= step / 2 + rounding).all())


@given(seed=st.integers(0, 10**6))
@settings(max_examples=budget(30))
def test_what_has_sixteen_even_levels_survives_exactly(seed: int) -> None:
    """Levels that float32 holds exactly, such as a file's own: quantizing them once more changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randint(0, 16, (3, 64), generator=generator)
    q[:, 0], q[:, 1], q[:, 32], q[:, 33] = 0, 15, 0, 15
    weight = q * 0.25 - 2.0
    blocks = Blocks.of(weight)
    assert torch.equal(blocks.q.long(), q)
    assert torch.equal(blocks.dense(), weight)


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
def test_a_group_of_one_value_is_that_value(value: float) -> None:
    assert torch.equal(Blocks.of(torch.full((2, 64), value)).dense(), torch.full((2, 64), value))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_quantized_as_the_numbers_that_they_are(dtype: torch.dtype) -> None:
    weight = matrix(4, 2, 1).to(dtype)
    assert torch.equal(Blocks.of(weight).dense(), Blocks.of(weight.float()).dense())


def test_matrices_one_below_the_other_keep_their_own_groups() -> None:
    parts = [matrix(rows, 3, rows) for rows in (1, 4, 2)]
    whole = Blocks.cat([Blocks.of(part) for part in parts])
    assert torch.equal(whole.dense(), torch.cat([Blocks.of(part).dense() for part in parts]))
    assert torch.equal(whole.dense(), Blocks.of(torch.cat(parts)).dense())


def test_a_weight_that_is_not_a_number_is_not_quantized_away() -> None:
    weight = matrix(2, 2, 0)
    weight[1, 5] = float("nan")
    dense = Blocks.of(weight).dense()
    assert bool(dense[1, :GROUP].isnan().all()), "its group is lost, and says so"
    assert bool(dense[0].isfinite().all())


# ---------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A matrix in Q4_1 blocks, one in blocks of another type, and one without; the blocks differ from the weights."""
    weights = {name: matrix(3, 2, index) for index, name in enumerate(("four", "eight", "plain"))}
    save_file(weights, tmp_path / "model.safetensors")
    parts = {
        "four.q": torch.arange(3 * 32, dtype=torch.uint8).reshape(3, 32),
        "four.scale": torch.full((3, 2), 0.5, dtype=torch.float16),
        "four.minimum": torch.full((3, 2), -3.0, dtype=torch.float16),
        "eight.q": torch.zeros(3, 64, dtype=torch.int8),
        "eight.scale": torch.zeros(3, 2, dtype=torch.float16),
    }
    save_file(parts, tmp_path / BLOCKS_FILE, {"types": json.dumps({"four": "Q4_1", "eight": "Q8_0"})})
    return tmp_path


def test_the_files_own_blocks_are_taken_and_the_even_column_is_the_low_half(folder: Path) -> None:
    with WeightFiles(folder) as files:
        blocks = files.blocks("four")
    assert blocks.q[0, :6].tolist() == [0, 0, 1, 0, 2, 0]
    assert blocks.q[1, :4].tolist() == [0, 2, 1, 2]
    assert blocks.dense()[1, :4].tolist() == [-3.0, -2.0, -2.5, -2.0]
    assert blocks.scale.dtype == blocks.minimum.dtype == torch.float32


@pytest.mark.parametrize("name", ["eight", "plain"])
def test_without_four_bit_blocks_the_weights_are_quantized(folder: Path, name: str) -> None:
    with WeightFiles(folder) as files:
        assert torch.equal(files.blocks(name).dense(), Blocks.of(files.dense(name)).dense())


def test_blocks_are_no_weights(folder: Path) -> None:
    with WeightFiles(folder) as files:
        assert files.names() == {"four", "eight", "plain"}
        assert files.shape("four") == (3, 64)


def test_a_folder_without_blocks_is_read_as_well(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copy(folder / "model.safetensors", other)
    with WeightFiles(other) as files:
        assert torch.equal(files.blocks("four").dense(), Blocks.of(files.dense("four")).dense())


def test_shards_are_those_that_the_index_names(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    save_file({"more": torch.ones(2, 2)}, folder / "model-00002-of-00002.safetensors")
    save_file({"stray": torch.ones(2, 2)}, folder / "consolidated.safetensors")
    places = dict.fromkeys(("four", "eight", "plain"), "model-00001-of-00002.safetensors")
    index = {"weight_map": places | {"more": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with WeightFiles(folder) as files:
        assert files.names() == {"four", "eight", "plain", "more"}
        assert torch.equal(files.dense("more"), torch.ones(2, 2))


@pytest.mark.parametrize("layer", [0, 13, 29])
def test_the_embedded_models_blocks_are_its_weights_bit_for_bit(smollm2_path: Path, layer: int) -> None:
    """So that int4 computes with the numbers of the file, in whatever order of rows the conversion has put them."""
    with WeightFiles(smollm2_path) as files:
        names = [name for name in files.names() if re.match(rf"model\.layers\.{layer}\..*_proj\.weight", name)]
        assert len(names) == 7
        for name in names:
            assert torch.equal(files.blocks(name).dense().view(torch.int32), files.dense(name).view(torch.int32)), name
