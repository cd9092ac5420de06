"""A prompt's hidden states, computed by torch in the precision's dtype.

Long prompts are bound by arithmetic, not by memory: quantized matrices are dequantized to bf16, one layer after the
other, and multiplied by torch. The operations are those of the compiled step (`workbench.engine.kernels`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.engine.block_structure import Activation, BlockStructure, LayerStructure
from workbench.engine.fused_cache import FusedCache
from workbench.engine.kernels.matrix import Dequantizer
from workbench.engine.kernels.team import Team
from workbench.engine.packed_weights import Block, Norm, PackedWeights
from workbench.engine.rotary_table import RotaryVersions

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}

_Masks = dict[LayerStructure, Tensor]


class TorchPrefill:
    """Reader of prompts.

    Args:
        dtype: of products and of keys and values.
    """

    def __init__(self, weights: PackedWeights, rotary: RotaryVersions, dtype: torch.dtype, team: Team) -> None:
        self._weights = weights
        self._structure = weights.structure
        self._rotary = rotary
        self._dtype = dtype
        self._team = team
        self._dequantizer = Dequantizer(team)

    def read(self, token_ids: Sequence[int], cache: FusedCache) -> Tensor:
        """Append tokens to a sequence; return the last layer's hidden states, float32, shape (tokens, hidden).

        The caller adds to the cache's length.
        """
        torch.set_num_threads(self._team.threads)
        structure, past, count = self._structure, cache.length, len(token_ids)
        cos, sin = self._rotary.span(past, count, cache.rotary_version)
        angles = cos.unsqueeze(2), sin.unsqueeze(2)  # (count, sets of angles, 1, rotary_dim)
        hidden = self._embed(token_ids, past)
        cache.reserve(count)
        written = cache.kv[:, :, :, past : past + count, : structure.head_dim]
        whole = cache.kv[:, :, :, : past + count, : structure.head_dim]
        masks: _Masks = {}
        for index, (block, layer) in enumerate(zip(self._weights.blocks, structure.layers, strict=True)):
            qkv, output, gate_up, down = self._dequantizer.dense(block.matrices)
            q, kv = self._heads(qkv(self._normed(hidden, block.pre_attention_norm)), block, layer, angles)
            written[index].copy_(kv.permute(1, 2, 0, 3))
            attended = self._attend(layer, q, whole[index], past, masks)
            update = self._update(output(attended), block.post_attention_norm)
            if structure.is_parallel:
                mlp_input = self._normed(hidden, block.pre_mlp_norm)
                hidden += update
            else:
                hidden += update
                mlp_input = self._normed(hidden, block.pre_mlp_norm)
            hidden += self._update(down(self._activate(gate_up(mlp_input))), block.post_mlp_norm)
        return hidden

    def _embed(self, token_ids: Sequence[int], past: int) -> Tensor:
        """Return embeddings, float32, shape (tokens, hidden)."""
        hidden = self._weights.embedding.gather_rows(torch.tensor(token_ids))
        if self._structure.embedding_scale != 1.0:
            hidden *= self._structure.embedding_scale
        if self._weights.positions:
            hidden += self._weights.positions.gather_rows(torch.arange(past, past + len(token_ids)))
        return hidden

    def _normed(self, hidden: Tensor, norm: Norm | None) -> Tensor:
        return apply_norm(self._structure, hidden, norm).to(self._dtype)

    def _update(self, output: Tensor, norm: Norm | None) -> Tensor:
        """Return what a sublayer adds to the hidden states."""
        update = output if norm is None else apply_norm(self._structure, output.float(), norm)
        return update if self._structure.residual_scale == 1.0 else update * self._structure.residual_scale

    def _activate(self, first: Tensor) -> Tensor:
        """Return the input of the MLP's down projection, from the output of its first, (rows, inner or 2 * inner)."""
        activation = _ACTIVATIONS[self._structure.activation]
        if not self._structure.is_gated:
            return activation(first)
        gate, up = first.chunk(2, dim=1)
        return activation(gate) * up

    def _heads(
        self, qkv: Tensor, block: Block, layer: LayerStructure, angles: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return rotated queries (rows, heads, head_dim), rotated keys and values (rows, 2, kv_heads, head_dim)."""
        structure = self._structure
        heads = qkv.float().reshape(len(qkv), -1, structure.head_dim)
        qk = heads[:, : structure.heads + structure.kv_heads]
        if block.qk_norm is not None:
            self._norm_heads(qk, block.qk_norm.weight)
        if layer.rotary is not None:
            # rotate_half: the halves of each head are swapped; the minus is in the sine.
            cos, sin = (part[:, layer.rotary] for part in angles)  # (rows, 1, rotary_dim)
            rotated = qk[..., : structure.rotary_dim]
            swapped = rotated.roll(structure.rotary_dim // 2, -1)
            rotated.mul_(cos).addcmul_(swapped, sin)
        heads = heads.to(self._dtype)
        return heads[:, : structure.heads], heads[:, structure.heads :].unflatten(1, (2, structure.kv_heads))

    def _norm_heads(self, qk: Tensor, weight: Tensor) -> None:
        """Apply the norms of queries and keys, (rows, heads + kv_heads, head_dim), in place."""
        structure = self._structure
        if structure.qk_norm == "projection":
            for part in (qk[:, : structure.heads], qk[:, structure.heads :]):
                part.copy_(F.rms_norm(part, part.shape[1:], None, structure.norm_eps))
        elif structure.norm == "layer":
            qk.copy_(F.layer_norm(qk, qk.shape[2:], None, None, structure.norm_eps))
        else:
            qk.copy_(F.rms_norm(qk, qk.shape[2:], None, structure.norm_eps))
        qk.mul_(weight.view(qk.shape[1:]))

    def _attend(self, layer: LayerStructure, q: Tensor, kv: Tensor, past: int, masks: _Masks) -> Tensor:
        """Compute attention of queries (rows, heads, head_dim); return shape (rows, heads * head_dim).

        torch's fast attention lacks grouped queries. At the beginning of a text the keys are repeated for each head, so
        that only the causal half is computed; later the query heads of a key head are concatenated along the tokens.

        Args:
            kv: shape (2, kv_heads, past + rows, head_dim).
        """
        count, group = len(q), self._structure.heads // self._structure.kv_heads
        is_whole = layer.first_position(past + count - 1) == 0
        if past == 0 and is_whole and not self._structure.attention_cap:
            keys, values = kv.repeat_interleave(group, dim=1).unsqueeze(1).unbind()
            queries = q.transpose(0, 1).unsqueeze(0)
            attended = F.scaled_dot_product_attention(
                queries, keys, values, is_causal=True, scale=layer.attention_scale
            )
            return attended[0].transpose(0, 1).reshape(count, -1)
        keys, values = kv[:, :, layer.first_position(past) :].unbind()
        if layer not in masks:
            masks[layer] = self._mask(layer, past, count)
        queries = q.unflatten(1, (-1, group)).permute(1, 2, 0, 3).flatten(1, 2)  # (kv_heads, group * rows, head_dim)
        attended = self._masked_attention(layer, queries, keys, values, masks[layer])
        together: Tensor = attended.unflatten(1, (group, count)).permute(2, 0, 1, 3)
        return together.reshape(count, -1)

    def _masked_attention(
        self, layer: LayerStructure, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        """Compute attention of (kv_heads, rows, head_dim) with an additive mask."""
        cap = self._structure.attention_cap
        if not cap:
            q, k, v = (part.unsqueeze(0) for part in (queries, keys, values))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=layer.attention_scale)[0]
        outputs = []
        for q, k, v in zip(queries, keys, values, strict=True):  # one head at a time, for the sake of memory
            scores = (q @ k.T).float().mul_(layer.attention_scale / cap).tanh_().mul_(cap).add_(mask)
            outputs.append(scores.softmax(-1).to(self._dtype) @ v)
        return torch.stack(outputs)

    def _mask(self, layer: LayerStructure, past: int, count: int) -> Tensor:
        """Return the additive mask of a layer, repeated for each query head of a group: (group * rows, keys)."""
        first = layer.first_position(past)
        positions = torch.arange(past, past + count).unsqueeze(1)
        firsts = torch.tensor([layer.first_position(position) for position in range(past, past + count)]).unsqueeze(1)
        keys = torch.arange(first, past + count)
        unseen = (keys > positions) | (keys < firsts)  # (rows, keys)
        mask = torch.zeros(unseen.shape, dtype=self._dtype).masked_fill_(unseen, -torch.inf)
        return mask.repeat(self._structure.heads // self._structure.kv_heads, 1)


def apply_norm(structure: BlockStructure, hidden: Tensor, norm: Norm | None) -> Tensor:
    """Return the norm of float32 rows, or the rows themselves if there is none, shape (rows, hidden)."""
    if norm is None:
        return hidden
    if structure.norm == "layer":
        return F.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias, structure.norm_eps)
    # `torch.rms_norm` takes twice as many operations.
    size = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)  # (rows, 1)
    root_eps = torch.tensor(structure.norm_eps**0.5)
    return (hidden * norm.weight).div_(torch.hypot(size * hidden.shape[-1] ** -0.5, root_eps))
