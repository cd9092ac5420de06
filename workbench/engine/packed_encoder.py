"""The encoder of a BERT with packed weights, computed by the kernel of `text_encoder` in float32.

One call computes all layers, so that neither Python nor the allocator is called between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.engine.kernels.activation import ACTIVATION_IDS
from workbench.engine.kernels.panel_linear import pack_panels
from workbench.engine.kernels.panels import PANEL, TURN
from workbench.engine.kernels.simd import LANES
from workbench.engine.kernels.team import Team
from workbench.engine.kernels.text_attention import AttentionShape, attention_bytes, scores_row_bytes
from workbench.engine.kernels.text_encoder import ADDRESSES, ROWS_AT_ONCE, EncoderShape, encode
from workbench.engine.structure_reading import ACTIVATIONS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_LEAST_ROWS = 2 * TURN
"""Rows that are worth a thread of their own."""


def can_pack(config: PreTrainedConfig) -> bool:
    """Whether the kernels have the activation of a BERT, and its sizes fill whole panels."""
    head_dim = config.hidden_size // config.num_attention_heads
    fills_panels = head_dim % PANEL == 0 and config.intermediate_size % PANEL == 0
    return fills_panels and config.hidden_act in ACTIVATIONS


class PackedEncoder(nn.Module):
    """The layers of a BERT, which leave ``encoder``; the packed weights take the same memory."""

    def __init__(self, encoder: Any, config: PreTrainedConfig) -> None:
        super().__init__()
        head_dim = config.hidden_size // config.num_attention_heads
        self._heads = config.num_attention_heads, head_dim, np.float32(head_dim**-0.5)
        self._inner, self._eps = config.intermediate_size, np.float32(config.layer_norm_eps)
        self._activation = ACTIVATION_IDS[ACTIVATIONS[config.hidden_act]]
        for index, layer in enumerate(encoder.layer):
            for place, tensor in enumerate(_pack(layer)):
                self.register_buffer(f"{index}_{place}", tensor)
            encoder.layer[index] = nn.Identity()  # so that no second copy of all weights is held

    def forward(self, embeddings: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return the last hidden states, shape (tokens of all texts, hidden), of embeddings of the same shape.

        It computes on as many threads as torch would on this one, or on fewer if there are few tokens.
        """
        count = len(embeddings)
        hidden = nn.functional.pad(embeddings, (0, 0, 0, -count % TURN))
        threads = max(1, min(torch.get_num_threads(), len(hidden) // _LEAST_ROWS))
        attention = AttentionShape(*self._heads, scores_row_bytes(max(lengths)))
        shape = EncoderShape(attention, self._inner, self._activation, self._eps)
        weights = np.array([one.data_ptr() for one in self.buffers()], np.int64).reshape(-1, ADDRESSES)
        job = partial(Team(threads).run, encode) if threads > 1 else partial(encode, thread=0, threads=1)
        job(hidden.numpy(), np.array(lengths, np.int64), weights, shape, *_memory(shape, len(hidden), threads))
        return hidden[:count]


def _memory(shape: EncoderShape, rows: int, threads: int) -> Iterator[Any]:
    """Yield the buffers of `encode`."""
    width = shape.attention.heads * shape.attention.head_dim
    yield torch.empty(min(threads, 2), rows + LANES, 3 * width).numpy()
    yield torch.zeros(rows, width).numpy()  # the padding, too, has to be numbers
    yield torch.empty(threads, ROWS_AT_ONCE, shape.inner).numpy()
    yield torch.empty(threads, ROWS_AT_ONCE, width).numpy()
    yield torch.zeros(threads, -(-attention_bytes(shape.attention) // 64) * 64, dtype=torch.uint8).numpy()
    yield np.zeros(16, np.int64)


def _pack(layer: Any) -> list[Tensor]:
    """Return the tensors of a layer, in the order in which kernels take their addresses."""
    own = layer.attention.self
    first = [getattr(own, name) for name in ("query", "key", "value")]
    weight, bias = (torch.cat([getattr(one, name) for one in first]) for name in ("weight", "bias"))
    tensors = [pack_panels(weight), bias]
    for linear in (layer.attention.output.dense, layer.intermediate.dense, layer.output.dense):
        tensors += [pack_panels(linear.weight), linear.bias]
    for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
        tensors += [norm.weight, norm.bias]
    return [one.detach().clone() for one in tensors]
