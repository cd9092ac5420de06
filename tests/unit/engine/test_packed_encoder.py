"""A packed encoder is transformers' BERT: its layers, attention and whole, in double precision, on any threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from workbench.engine.kernels.panels import TURN
from workbench.engine.kernels.text_encoder import ROWS_AT_ONCE
from workbench.engine.packed_encoder import PackedEncoder, can_pack

LENGTHS = [1, 2, TURN, 15, 16, 17, 31, 32, 33, 70, ROWS_AT_ONCE, ROWS_AT_ONCE + 1]


def random_bert(activation: str, heads: int, head_dim: int, inner: int) -> tuple[BertConfig, Any]:
    config = BertConfig(
        hidden_size=heads * head_dim, num_attention_heads=heads, intermediate_size=inner, num_hidden_layers=3,
        vocab_size=50, hidden_act=activation, layer_norm_eps=1e-3, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = BertModel(config, add_pooling_layer=False).eval().requires_grad_(requires_grad=False)
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms, which are zeros and ones at first
                parameter.add_(0.3 * torch.randn_like(parameter))
    return config, model


def random_embeddings(width: int, lengths: list[int]) -> Tensor:
    return torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(1))


def by_transformers(model: Any, embeddings: Tensor) -> Tensor:
    """Return the hidden states of each text alone, one after the other."""
    texts = (text.unsqueeze(0) for text in embeddings.split(LENGTHS))
    return torch.cat([model.encoder(text).last_hidden_state[0] for text in texts])


@pytest.mark.parametrize(
    "activation,heads,head_dim,inner",
    [("gelu", 3, 32, 160), ("gelu_new", 1, 64, 64), ("relu", 2, 96, 32), ("silu", 1, 32, 96)],
)
def test_hidden_states_are_as_exact_as_those_of_transformers(
    activation: str, heads: int, head_dim: int, inner: int
) -> None:
    config, model = random_bert(activation, heads, head_dim, inner)
    assert can_pack(config)
    embeddings = random_embeddings(config.hidden_size, LENGTHS)
    by_torch = by_transformers(model, embeddings)
    exact = by_transformers(model.double(), embeddings.double())
    found = PackedEncoder(model.float().encoder, config)(embeddings, LENGTHS)
    assert float((found - exact).norm()) < 2 * float((by_torch - exact).norm()) < 1e-4 * float(exact.norm())
    assert float((found - exact).abs().max()) < 4 * float((by_torch - exact).abs().max())


def test_a_text_is_the_same_alone_and_among_others_on_any_threads() -> None:
    config, model = random_bert("gelu", 2, 32, 64)
    packed = PackedEncoder(model.encoder, config)
    embeddings = random_embeddings(64, LENGTHS)
    before, threads = embeddings.clone(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = torch.cat([packed(text, [len(text)]) for text in embeddings.split(LENGTHS)])
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            assert torch.equal(packed(embeddings, LENGTHS), alone), count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(embeddings, before)


def test_packing_takes_the_memory_of_the_layers_and_frees_them() -> None:
    config, model = random_bert("gelu", 2, 32, 64)
    nbytes = sum(one.nbytes for one in model.encoder.parameters())
    packed = PackedEncoder(model.encoder, config)
    assert sum(one.nbytes for one in packed.buffers()) == nbytes
    assert not list(model.encoder.parameters())


def test_sizes_that_do_not_fill_panels_and_other_activations_are_left_to_torch() -> None:
    for sizes in (("gelu", 3, 16, 32), ("gelu", 1, 32, 40), ("tanh", 1, 32, 32)):
        assert not can_pack(random_bert(*sizes)[0])
