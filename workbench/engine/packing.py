"""Packing of a Llama-family model's files for the fused decoder.

The structure decides whether a model belongs to the family: the architecture's name, the options of its config that
would change the computation, and exactly the expected tensors. The general decoder serves all other models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from workbench.engine.fused import Block, FusedDecoder
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.simd import ROWS
from workbench.engine.kernels.step_memory import Shape
from workbench.engine.precision import Precision, compute_dtype
from workbench.engine.weights import GROUP, Blocks, Int8Blocks, WeightFiles
from workbench.machine import thread_count

ARCHITECTURES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})

STATIC_ROPE = frozenset({"default", "linear", "llama3"})
"""Rotary types whose angles depend only on the position, not on the length of the text."""

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"
_NORM = "model.norm.weight"


def fits(config: PreTrainedConfig, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the fused decoder serves a model, by its config and the names and shapes of its tensors."""
    if not _is_family(config):
        return False
    expected = _expected(_shape(config), config)
    names = {*shapes, _HEAD} if config.tie_word_embeddings else set(shapes)
    return names == set(expected) and all(shapes[name] == expected[name] for name in shapes)


def pack(folder: Path, config: PreTrainedConfig, precision: Precision) -> FusedDecoder:
    """Return the fused decoder of a model folder that `fits`."""
    shape = _shape(config)
    with WeightFiles(folder) as files:
        packer = _Packer(files, precision)
        embedding, head = packer.embedding_and_head()
        return FusedDecoder(
            shape,
            [packer.block(f"model.layers.{layer}", shape) for layer in range(shape.layers)],
            embedding=embedding,
            norm=packer.norm(_NORM),
            head=head,
            rotary=Rotary(config),
            dtype=compute_dtype(precision),
            context_length=config.max_position_embeddings,
            threads=thread_count(),
        )


class Rotary:
    """Rotary cosines and sines, equal to the bit to those of transformers' module, whose import takes two seconds.

    Args:
        config: with a rotary type in `STATIC_ROPE`.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        rope = config.rope_parameters
        self._scale = 1.0
        if rope["rope_type"] == "default":
            width = _shape(config).head_dim
            steps = torch.arange(0, width, 2, dtype=torch.float) / width
            self._frequencies = 1.0 / (rope["rope_theta"] ** steps)  # (head_dim / 2,)
        else:
            self._frequencies, self._scale = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config)

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of integer positions, float32, shape (positions, head_dim) each."""
        angles = positions[:, None].float() * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos() * self._scale, angles.sin() * self._scale


class _Packer:
    """Packer of a model's tensors in one precision."""

    def __init__(self, files: WeightFiles, precision: Precision) -> None:
        self._files = files
        self._precision = precision

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

    def norm(self, name: str) -> Tensor:
        """Return a weight in memory padded with zeros to a whole group, which the compiled step reads."""
        weight = self._files.dense(name).float()
        return F.pad(weight, (0, -len(weight) % GROUP))[: len(weight)]

    def linear(self, *names: str) -> Matrix:
        """Return one matrix with the rows of several concatenated."""
        return self._matrix([f"{name}.weight" for name in names], self._precision, self._bias(names))

    def embedding_and_head(self) -> tuple[Matrix, Matrix]:
        """Return the embedding and the head, in at least 8 bits: 4 would cost far more accuracy than they save memory.

        They are one matrix if the file has no head or an equal one. The config's ``tie_word_embeddings`` is ignored, as
        in transformers, if the file has two different ones.
        """
        raised: dict[Precision, Precision] = {"int4": "int8", "fp8": "bf16"}
        precision = raised.get(self._precision, self._precision)
        embedding = self._matrix([_EMBEDDING], precision)
        tied = _HEAD not in self._files.names() or torch.equal(*map(self._files.dense, (_EMBEDDING, _HEAD)))
        return embedding, embedding if tied else self._matrix([_HEAD], precision)

    def _matrix(self, names: Sequence[str], precision: Precision, bias: Tensor | None = None) -> Matrix:
        files = self._files
        columns = files.shape(names[0])[1]
        match precision:
            case "int4":
                return Matrix.int4(Blocks.cat([files.blocks(name) for name in names]), columns, bias)
            case "int8":
                return Matrix.int8(Int8Blocks.cat([files.int8_blocks(name) for name in names]), columns, bias)
        weight = torch.cat([files.dense(name) for name in names])
        match precision:
            case "float32":
                return Matrix.float32(weight, bias)
            case "fp8":
                return Matrix.fp8(weight, bias)
            case "bf16":
                return Matrix.bf16(weight, bias)

    def _bias(self, names: Sequence[str]) -> Tensor | None:
        """Return the concatenated biases, zeros for layers without one; None if no layer has one."""
        present = self._files.names()
        if not any(f"{name}.bias" in present for name in names):
            return None
        parts = [
            self._files.dense(f"{name}.bias")
            if f"{name}.bias" in present
            else torch.zeros(self._files.shape(f"{name}.weight")[0])
            for name in names
        ]
        return torch.cat(parts).float()

    def _qk_norm(self, attention: str, shape: Shape) -> Tensor | None:
        if f"{attention}.q_norm.weight" not in self._files.names():
            return None
        q, k = (self._files.dense(f"{attention}.{name}_norm.weight").float() for name in "qk")  # (head_dim,) each
        return torch.cat((q.expand(shape.heads, -1), k.expand(shape.kv_heads, -1))).contiguous()


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
        and config.intermediate_size % ROWS == 0
        and config.num_attention_heads % config.num_key_value_heads == 0
    )


def _shape(config: PreTrainedConfig) -> Shape:
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        vocab=config.vocab_size,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        eps=config.rms_norm_eps,
    )


def _expected(shape: Shape, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors that a model of the family with this config has."""
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
