"""Linear layers in two bf16 parts are those of float32, and the vectors of texts are those of torch's products."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig

from tests.tiny_models import save_sentence_model
from workbench.engine import unpadded
from workbench.engine.embeddings import EmbeddingModel
from workbench.engine.kernels.bf16_split import GROUPS_AT_ONCE, ROWS_AT_ONCE, SplitLinear, split_linears
from workbench.engine.kernels.tiles import AVAILABLE
from workbench.machine import thread_count

in_tiles = pytest.mark.skipif(not AVAILABLE, reason="the processor has no matrix tiles")


def random_numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def random_layer(columns: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, columns, outputs, bias=bias)
    for parameter in layer.parameters():
        parameter.data = random_numbers(*parameter.shape)
    return layer.requires_grad_(requires_grad=False)


@in_tiles
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "rows,columns,outputs", [(1, 32, 32), (33, 64, 96), (ROWS_AT_ONCE + 40, 32 * GROUPS_AT_ONCE + 32, 64)]
)
def test_a_layer_in_parts_is_float32_to_16_bits(rows: int, columns: int, outputs: int, bias: bool) -> None:
    layer, x = random_layer(columns, outputs, bias=bias), random_numbers(2, rows, columns)
    found = SplitLinear(layer)(x)
    assert found.shape == (2, rows, outputs)
    exact = layer.double()(x.double())
    reach = x.double().abs() @ layer.weight.abs().T  # what the products add up to without their signs
    assert float(((found - exact).abs() / reach).max()) < 2**-16
    assert float((found - exact).norm() / exact.norm()) < 2**-16


@in_tiles
def test_a_row_is_the_same_alone_and_among_others() -> None:
    layer, x = SplitLinear(random_layer(96, 64)), random_numbers(75, 96)
    assert torch.equal(torch.cat([layer(row) for row in x.split(1)]), layer(x))
    assert torch.equal(torch.cat([layer(row) for row in x.split(40)]), layer(x))


@in_tiles
def test_layers_that_do_not_fill_tiles_are_left_as_they_are() -> None:
    model = nn.Sequential(*(random_layer(*shape) for shape in ((40, 32), (32, 40), (32, 64))))
    nbytes = sum(one.nbytes for one in model.parameters())
    split_linears(model)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear, SplitLinear]
    assert sum(one.nbytes for one in (*model.parameters(), *model.buffers())) == nbytes


def test_vectors_in_tiles_are_those_of_torchs_products(minilm_path: Path) -> None:
    """Also where there are no tiles, and both are the same."""
    texts = ["", "A cat.", "The quick brown fox jumps over the lazy dog. " * 30, *(f"word {n} " * n for n in range(40))]
    fast, general = (torch.tensor(EmbeddingModel(minilm_path, fast=fast).embed(texts)) for fast in (True, False))
    torch.testing.assert_close(fast, general, atol=1e-5, rtol=0)
    assert float(torch.cosine_similarity(fast.double(), general.double()).min()) >= 1 - 1e-9


def test_a_texts_vector_is_the_same_alone_and_among_others(minilm_path: Path) -> None:
    model = EmbeddingModel(minilm_path)
    texts = ["a", "b", "", "two words", "a b c " * 60, "two others", "a much longer one " * 20]
    alone = torch.tensor([model.embed([text])[0] for text in texts])
    torch.testing.assert_close(torch.tensor(model.embed(texts)), alone, atol=1e-7 if AVAILABLE else 1e-6, rtol=0)


def test_processors_without_tiles_take_torchs_products_and_other_families_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_sentence_model(tmp_path / "sentences")
    expected = EmbeddingModel(folder, fast=False).embed(["abc", "d"])
    monkeypatch.setattr(unpadded, "AVAILABLE", False)
    model = EmbeddingModel(folder)
    assert not any(isinstance(module, SplitLinear) for module in model._model.modules())
    torch.testing.assert_close(torch.tensor(model.embed(["abc", "d"])), torch.tensor(expected), atol=1e-6, rtol=0)
    assert unpadded.fits(AutoConfig.for_model("bert"))
    assert not unpadded.fits(AutoConfig.for_model("roberta"))


def test_a_new_thread_computes_with_all_cores_after_texts_were_embedded(tmp_path: Path) -> None:
    EmbeddingModel(save_sentence_model(tmp_path / "sentences")).embed(["abc", "d"])
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [thread_count()]
