"""From the files of a Llama-family model to the packed weights of the fused step.

Whether a model is of that family is decided by its structure: the architecture's name, the options in its config that
would change the computation, and that its tensors are exactly the expected ones. Anything else goes the general way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from workbench.engine.fused import Block, FusedDecoder, Norm, Shape
from workbench.engine.precision import Linear, Precision, compute_dtype, quantized
from workbench.engine.weights import Blocks, WeightFiles

if TYPE_CHECKING:
    from transformers import LlamaConfig

ARCHITECTURES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})

STATIC_ROPE = frozenset({"default", "linear", "llama3"})
"""Rotary types whose angles depend on the position alone; the others change with the length of the text."""

_RECOMPUTED = 128
"""Logits per row that are computed in float32 where the output matrix is in bf16; beyond them lies no likely token."""

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"
_NORM = "model.norm.weight"


def pack(
    folder: Path, config: PreTrainedConfig, precision: Precision, *, keep_wide: bool = True
) -> FusedDecoder | None:
    """The fused decoder of a model folder, or None where the structure is another.

    Args:
        keep_wide: hold bf16 weights beside int4 and int8 ones, for prompts and batches.
    """
    if not _is_family(config):
        return None
    shape = _shape(config)
    with WeightFiles(folder) as files:
        expected = _expected(shape, config)
        names = files.names() | {_HEAD} if config.tie_word_embeddings else files.names()
        if names != set(expected) or any(files.shape(name) != expected[name] for name in files.names()):
            return None  # the general way says what is wrong, if something is
        packer = _Packer(files, precision, config.rms_norm_eps, keep_wide=keep_wide)
        embedding = files.dense(_EMBEDDING).to(compute_dtype(precision))
        return FusedDecoder(
            shape,
            [packer.block(f"model.layers.{layer}", shape) for layer in range(shape.layers)],
            embedding=embedding,
            norm=packer.norm(_NORM),
            head=_head(files, embedding),
            rotary=LlamaRotaryEmbedding(cast("LlamaConfig", config)),
            dtype=compute_dtype(precision),
        )


class _Head:
    """The output matrix, in the type of activations: 4 bits here would cost far more exactness than time.

    A bf16 product is also rounded to bf16 at its end, which puts logits around 20 on a grid of 1/8: neighbours tie, and
    the greedy choice between them would be one of chance. The best logits are therefore computed again in float32.
    """

    def __init__(self, weight: Tensor, nbytes: int) -> None:
        self._weight = weight  # (vocab, hidden)
        self.nbytes = nbytes

    def __call__(self, x: Tensor) -> Tensor:
        if self._weight.dtype == torch.float32:
            return F.linear(x, self._weight)
        rounded = x.to(self._weight.dtype)
        # The weights stand left, so that oneDNN takes them as they are for any number of rows.
        logits = torch.mm(self._weight, rounded.T).T.float()  # (rows, vocab)
        best = logits.topk(min(_RECOMPUTED, logits.shape[1]), sorted=False).indices  # (rows, best)
        exact = torch.bmm(self._weight[best].float(), x.float().unsqueeze(2)).squeeze(2)
        return logits.scatter_(1, best, exact)


def _head(files: WeightFiles, embedding: Tensor) -> _Head:
    """The file's output matrix; the embedding where the two are one, which then counts once.

    A config may say that they are tied and the file hold two: then, as in transformers, the file is right.
    """
    if _HEAD not in files.names():
        return _Head(embedding, nbytes=0)
    weight = files.dense(_HEAD).to(embedding.dtype)
    if torch.equal(weight, embedding):
        return _Head(embedding, nbytes=0)
    return _Head(weight, weight.nbytes)


class _Packer:
    """Reads the tensors of one layer and packs them in one precision."""

    def __init__(self, files: WeightFiles, precision: Precision, eps: float, *, keep_wide: bool) -> None:
        self._files = files
        self._precision = precision
        self._eps = eps
        self._keep_wide = keep_wide

    def block(self, prefix: str, shape: Shape) -> Block:
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        return Block(
            attention_norm=self.norm(f"{prefix}.input_layernorm.weight"),
            qkv=self.linear(*(f"{attention}.{name}_proj" for name in "qkv")),
            qk_norm=self._qk_norm(attention, shape),
            output=self.linear(f"{attention}.o_proj"),
            mlp_norm=self.norm(f"{prefix}.post_attention_layernorm.weight"),
            gate_up=self.linear(f"{mlp}.gate_proj", f"{mlp}.up_proj"),
            down=self.linear(f"{mlp}.down_proj"),
        )

    def norm(self, name: str) -> Norm:
        return Norm(self._files.dense(name), self._eps, compute_dtype(self._precision))

    def linear(self, *names: str) -> Linear:
        """One matrix of the rows of several, one below the other."""
        bias = self._bias(names)
        weights = [f"{name}.weight" for name in names]
        weight = _stack([self._files.dense(name) for name in weights])
        return quantized(
            weight,
            bias,
            self._precision,
            lambda: Blocks.cat([self._files.blocks(name) for name in weights]),
            keep_wide=self._keep_wide,
        )

    def _bias(self, names: Sequence[str]) -> Tensor | None:
        """Biases of all parts, zeros for those that have none; None where none has one."""
        present = self._files.names()
        if not any(f"{name}.bias" in present for name in names):
            return None
        parts = [
            self._files.dense(f"{name}.bias")
            if f"{name}.bias" in present
            else torch.zeros(self._files.shape(f"{name}.weight")[0])
            for name in names
        ]
        return torch.cat(parts).to(compute_dtype(self._precision))

    def _qk_norm(self, attention: str, shape: Shape) -> Tensor | None:
        if f"{attention}.q_norm.weight" not in self._files.names():
            return None
        q, k = (self._files.dense(f"{attention}.{name}_norm.weight").float() for name in "qk")  # (head_dim,) each
        return torch.cat((q.expand(shape.heads, -1), k.expand(shape.kv_heads, -1)))


def _stack(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _is_family(config: PreTrainedConfig) -> bool:
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    layer_types = getattr(config, "layer_types", None) or []
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return (
        (config.architectures or [""])[0] in ARCHITECTURES
        and config.hidden_act == "silu"
        and rope.get("rope_type") in STATIC_ROPE
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and all(kind == "full_attention" for kind in layer_types)
        and (window is None or window >= config.max_position_embeddings)
    )


def _shape(config: PreTrainedConfig) -> Shape:
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        rms_norm_eps=config.rms_norm_eps,
        context_length=config.max_position_embeddings,
    )


def _expected(shape: Shape, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Tensors of a model of the family; biases and the norms of queries and keys only as its architecture has them."""
    hidden, inner, vocab = config.hidden_size, config.intermediate_size, config.vocab_size
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    qkv = {f"self_attn.{part}_proj": (rows, hidden) for part, rows in (("q", q), ("k", kv), ("v", kv))}
    output = {"self_attn.o_proj": (hidden, q)}
    mlp = {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    biased: dict[str, tuple[int, int]] = {}
    if config.architectures == ["Qwen2ForCausalLM"]:
        biased |= qkv
    elif getattr(config, "attention_bias", False):
        biased |= qkv | output
    if getattr(config, "mlp_bias", False):
        biased |= mlp
    layer: dict[str, tuple[int, ...]] = {f"{name}.weight": size for name, size in (qkv | output | mlp).items()}
    layer |= {f"{name}.bias": size[:1] for name, size in biased.items()}
    layer |= {f"{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
    if config.architectures == ["Qwen3ForCausalLM"]:
        layer |= {f"self_attn.{name}_norm.weight": (shape.head_dim,) for name in "qk"}
    layers = {f"model.layers.{index}.{name}": size for index in range(shape.layers) for name, size in layer.items()}
    return {_EMBEDDING: (vocab, hidden), _NORM: (hidden,), _HEAD: (vocab, hidden)} | layers
