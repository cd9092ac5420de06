"""The forward pass of a decoder-only transformer in torch, on any device.

The hidden states, norms, rotary positions and ratings of experts are float32; products, keys and values have the dtype
of the weights. In float32 the results are those of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.activations import ACTIVATIONS
from workbench.engine.block_structure import LayerStructure
from workbench.engine.insides.contributions import Unembedding
from workbench.engine.model_weights import Norm
from workbench.engine.on_device.attention import Span, attend, masks, store
from workbench.engine.on_device.dense import DenseBlock, DenseMatrix, DenseWeights
from workbench.engine.on_device.experts import mix_experts
from workbench.engine.on_device.visits import LayerVisit, Visits, unvisited
from workbench.insides import Point

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of the new tokens, float32, shape (sequences, tokens, sets of angles, rotary_dim) each."""


class Forward:
    """The blocks of a model, and the embedding and head around them.

    Args:
        weights: all on one device; a block may be read from the files when it is indexed.
    """

    def __init__(self, weights: DenseWeights) -> None:
        self.structure = structure = weights.structure
        self._weights = weights
        self._activate = ACTIVATIONS[structure.activation]
        self._product = _float32_product(weights.head.weight)

    @property
    def device(self) -> torch.device:
        return self._weights.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, keys and values."""
        return self._weights.embedding.weight.dtype

    def hidden_states(self, token_ids: Tensor, angles: Angles, span: Span, visits: Visits | None = None) -> Tensor:
        """Append tokens to sequences; return hidden states after the final norm, float32 (sequences, tokens, hidden).

        Args:
            token_ids: int64, shape (sequences, tokens).
        """
        hidden, structure = self._embed(token_ids, span.positions, visits), self.structure
        allowed = masks(structure, span)
        for index, layer in enumerate(structure.layers):
            hidden = self._run_block(index, hidden, angles, span, allowed[layer.window, layer.chunk], visits)
        normed = self._norm(hidden, self._weights.final_norm)
        return normed if visits is None else visits(Point("final_norm"), normed)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits of normed hidden states, shape (..., hidden) to (..., vocab)."""
        logits, cap = self._uncapped(hidden), self.structure.logit_cap
        return torch.tanh(logits / cap) * cap if cap else logits

    def unembed(self, hidden: Tensor) -> Tensor:
        """Return float32 logits of hidden states of the last layer, shape (..., hidden) to (..., vocab)."""
        return self.logits(self._norm(hidden, self._weights.final_norm))

    @property
    def unembedding(self) -> Unembedding:
        """The last norm and the head, with weights on the CPU."""
        structure, norm = self.structure, self._weights.final_norm
        bias = None if norm.bias is None else norm.bias.cpu()

        @torch.inference_mode()
        def head(normed: Tensor) -> Tensor:
            return self._uncapped(normed.to(self.device)).cpu()

        return Unembedding(
            structure.norm, structure.norm_eps, norm.weight[: structure.hidden].cpu(), bias, head, structure.logit_cap
        )

    def _uncapped(self, normed: Tensor) -> Tensor:
        logits = self._product(normed, self._weights.head)
        return logits if self.structure.logit_scale == 1.0 else logits * self.structure.logit_scale

    def _embed(self, token_ids: Tensor, positions: Tensor, visits: Visits | None) -> Tensor:
        structure = self.structure
        hidden = F.embedding(token_ids, self._weights.embedding.weight).float()
        if structure.embedding_scale != 1.0:
            hidden = hidden * structure.embedding_scale
        if visits is not None:
            hidden = visits(Point("embeddings"), hidden)
        learned = self._weights.positions
        return hidden if learned is None else hidden + F.embedding(positions, learned.weight).float()

    def _run_block(
        self, index: int, hidden: Tensor, angles: Angles, span: Span, mask: Tensor, visits: Visits | None
    ) -> Tensor:
        """Return the hidden states after one block, as `BlockStructure` describes it."""
        structure, scale, kv = self.structure, self.structure.residual_scale, span.kv[index]
        block, layer = self._weights.blocks[index], structure.layers[index]
        visit = unvisited if visits is None else visits.of_layer(index)
        hidden = visit("resid_pre", hidden)
        normed = visit("attn_in", self._norm(hidden, block.pre_attention_norm))
        queries = self._heads(block, layer, normed, angles, span.positions, kv, visit)
        z = attend(structure, layer, kv, queries, mask).unflatten(-1, (structure.heads, structure.head_dim))
        if visits is not None:
            z = visits.attention(index, queries, kv, z)
        update = visit("attn_out", block.output(visit("z", z).flatten(2)).float())
        attended = visit("resid_mid", hidden + scale * self._norm(update, block.post_attention_norm))
        source = hidden if structure.is_parallel else attended
        update = self._mlp(block, visit("mlp_in", self._norm(source, block.pre_mlp_norm)), visit)
        return visit("resid_post", attended + scale * self._norm(visit("mlp_out", update), block.post_mlp_norm))

    def _heads(
        self, block: DenseBlock, layer: LayerStructure, normed: Tensor, angles: Angles, positions: Tensor, kv: Tensor,
        visit: LayerVisit,
    ) -> Tensor:  # fmt: skip
        """Store keys and values of the new tokens; return their queries, shape (sequences, tokens, heads, head_dim)."""
        structure, heads = self.structure, self.structure.heads
        qkv: Tensor = block.qkv[0](normed).unflatten(
            -1, (-1, structure.head_dim)
        )  # (sequences, tokens, all heads, dim)
        rotated = qkv[..., : heads + structure.kv_heads, :].float()
        if block.qk_norm is not None:
            rotated = self._qk_norm(rotated, block.qk_norm)
        if layer.rotary is not None:
            rotated = _rotate(rotated, angles[0][..., layer.rotary, :], angles[1][..., layer.rotary, :])
        values = visit("value", qkv[..., heads + structure.kv_heads :, :])
        store(kv, rotated[..., heads:, :], values, positions)
        return rotated[..., :heads, :]

    def _qk_norm(self, x: Tensor, norm: Norm) -> Tensor:
        """Return normed queries and keys, shape (..., heads + kv_heads, head_dim)."""
        structure = self.structure
        weight = norm.weight.view(-1, structure.head_dim)
        if structure.qk_norm != "projection":
            return self._plain_norm(x, x.shape[-1:]) * weight
        parts = (part.flatten(-2) for part in x.split((structure.heads, structure.kv_heads), -2))
        normed = torch.cat([self._plain_norm(part, part.shape[-1:]) for part in parts], -1)
        heads: Tensor = normed.unflatten(-1, (-1, structure.head_dim))
        return heads * weight

    def _plain_norm(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the norm of the last dimension without weights."""
        if self.structure.norm == "layer":
            return F.layer_norm(x, shape, eps=self.structure.norm_eps)
        return F.rms_norm(x, shape, eps=self.structure.norm_eps)

    def _norm(self, x: Tensor, norm: Norm | None) -> Tensor:
        if norm is None:
            return x
        if self.structure.norm == "layer":
            return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, self.structure.norm_eps)
        return F.rms_norm(x, x.shape[-1:], norm.weight, self.structure.norm_eps)

    def _mlp(self, block: DenseBlock, normed: Tensor, visit: LayerVisit) -> Tensor:
        structure = self.structure
        if block.router is not None:
            return mix_experts(structure, block, normed, self._activate)
        gate_up = block.gate_up[0](normed)
        if structure.is_gated:
            gate, up = gate_up.chunk(2, -1)
            active = self._activate(visit("mlp_pre", gate)) * up
        else:
            active = self._activate(visit("mlp_pre", gate_up))
        return block.down(visit("mlp_act", active)).float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return heads, shape (sequences, tokens, heads, head_dim), with their first components rotated in two halves."""
    width = cos.shape[-1]
    rotated, rest = x[..., :width], x[..., width:]
    left, right = rotated.chunk(2, -1)
    turned = rotated * cos.unsqueeze(2) + torch.cat((-right, left), -1) * sin.unsqueeze(2)
    return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


def _float32_product(weight: Tensor) -> Callable[[Tensor, DenseMatrix], Tensor]:
    """Return the product that gives float32 logits: without rounding them to the weights' dtype where that is possible.

    Only CUDA multiplies lower precisions into float32, and not in every build.
    """
    if weight.dtype == torch.float32 or weight.device.type != "cuda":
        return lambda x, matrix: matrix(x).float()
    try:
        torch.mm(weight[:1], weight[:1].T, out_dtype=torch.float32)
    except (RuntimeError, TypeError, NotImplementedError):
        return lambda x, matrix: matrix(x).float()
    return _exact_product


def _exact_product(x: Tensor, matrix: DenseMatrix) -> Tensor:
    rows = x.flatten(0, -2).to(matrix.weight.dtype)
    product = torch.mm(rows, matrix.weight.T, out_dtype=torch.float32).view(*x.shape[:-1], -1)
    return product if matrix.bias is None else product + matrix.bias.float()
