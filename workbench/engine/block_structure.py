"""The structure of a decoder-only transformer, from which its kernels and the check of its tensors follow.

A block computes, with the norms that it has::

    attended = post_attention_norm(attention(pre_attention_norm(hidden)))
    hidden = hidden + residual_scale * attended
    hidden = hidden + residual_scale * post_mlp_norm(mlp(pre_mlp_norm(hidden)))

A parallel block feeds its MLP the hidden states from before attention. `workbench.engine.families` reads structures
from the configs of Hugging Face's architectures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

NormKind = Literal["rms", "layer"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]
QueryKeyNorm = Literal["none", "head", "own_heads", "projection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStructure:
    """What may differ from layer to layer."""

    rotary: int | None
    """Index of the layer's angles in `BlockStructure.rotary`; None without rotary positions."""
    attention_scale: float
    """Factor of the scores before the softmax."""
    window: int = 0
    """Number of tokens, its own included, that a token attends to; 0 is all before it."""
    chunk: int = 0
    """Length of the parts of the text that tokens attend within; 0 is the whole text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """Names of a model's modules in its files, those of a layer relative to ``{layers}.{index}``.

    A name is followed by ``.weight`` or ``.bias``. Norms and matrices that a model does not have are None.
    """

    embedding: str = "model.embed_tokens"
    positions: str | None = None
    """Learned position embeddings."""
    layers: str = "model.layers"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    """Query, key and value projections, or the one that holds all three."""
    output: str = "self_attn.o_proj"
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    """The MLP's first projections, or the one that holds both; a plain MLP has one."""
    down: str = "mlp.down_proj"
    router: str | None = None
    """The matrix that rates experts; there are no biases then."""
    experts: str | None = None
    """What ``gate_up`` and ``down`` are relative to, with the index of an expert between."""
    pre_attention_norm: str | None = "input_layernorm"
    post_attention_norm: str | None = None
    pre_mlp_norm: str | None = "post_attention_layernorm"
    """The same as ``pre_attention_norm`` if both read one norm."""
    post_mlp_norm: str | None = None
    qk_norm: tuple[str, str] = ("self_attn.q_norm", "self_attn.k_norm")
    unused: tuple[str, ...] = ()
    """Ends of the names of buffers in older files, which are not weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStructure:
    """Sizes and structure of a model's blocks, and of the embedding and head around them."""

    hidden: int
    inner: int
    """Width of the MLP."""
    vocab: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: tuple[LayerStructure, ...]
    names: TensorNames = field(default_factory=TensorNames)
    is_tied: bool = False
    """Whether the head may be missing from the files, and is then the embedding."""
    qkv_by_head: bool = False
    """Whether the rows of the one matrix of queries, keys and values are ordered by head first, as in GPT-NeoX."""
    is_transposed: bool = False
    """Whether the files hold matrices of layers as (in, out), as GPT-2's do."""
    biased: frozenset[str] = frozenset()
    """Which matrices have biases, of ``qkv``, ``output``, ``mlp`` and ``head``."""

    norm: NormKind = "rms"
    norm_eps: float
    has_norm_bias: bool = False
    norm_offset: float = 0.0
    """Number that is added to the weight of an RMS norm, 1 in Gemma."""
    qk_norm: QueryKeyNorm = "none"
    """Norm of queries and keys: one weight for all heads, one for each head, or one norm of the whole projection."""
    is_parallel: bool = False
    activation: Activation = "silu"
    is_gated: bool = True
    experts: int = 0
    """Number of MLPs of which a token passes some; 0 is one MLP for all tokens."""
    active_experts: int = 0
    """Number of experts that a token passes, those with the highest probabilities."""
    normalizes_experts: bool = False
    """Whether the weights of these experts are divided by their sum."""

    rotary: tuple[str | None, ...] = ()
    """The sets of rotary angles: layer types of the config's ``rope_parameters``, None if these hold one set."""
    rotary_dim: int = 0
    """Number of rotated components at the beginning of each head, in two halves unless interleaved."""
    rotary_border: int = 0
    """Length in tokens of the longest text with the first version of the angles; longer ones have a second version, as
    in LongRoPE. 0 if there is one version."""
    is_interleaved: bool = False
    """Whether neighboring components are rotated together; packing then reorders the heads into halves."""
    attention_cap: float = 0.0
    """Soft cap of the scores, ``cap * tanh(score / cap)``; 0 is none."""

    position_count: int = 0
    """Number of learned positions."""
    position_offset: int = 0
    """Index of the embedding of position 0."""
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    """Factor of the logits, before their cap."""
    logit_cap: float = 0.0

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def key_size(self) -> int:
        return self.kv_heads * self.head_dim

    def check_indices(self, token_ids: Sequence[int], length: int) -> None:
        """Raise IndexError unless the embeddings have rows for all tokens of a text, and for its ``length`` positions.

        The compiled step reads them by address, and CUDA would fail for good.
        """
        if not 0 <= min(token_ids) <= max(token_ids) < self.vocab:
            given = f"ids from {min(token_ids)} to {max(token_ids)}"
            raise IndexError(f"token ids must be from 0 to {self.vocab - 1}; got {given}")
        if self.position_count and length > self.position_count:
            raise IndexError(f"positions must be below {self.position_count}; got {length - 1}")

    def full_name(self, name: str) -> str:
        """Return a tensor's name with the prefix of the base model, which some files omit."""
        base = self.names.layers.partition(".")[0] + "."
        return name if name.startswith((base, f"{self.names.head}.")) else base + name


def expected_tensors(structure: BlockStructure) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of exactly the tensors that a model of this structure has, with the head."""
    names = structure.names
    outer = (structure.vocab, structure.hidden)
    tensors: dict[str, tuple[int, ...]] = {f"{names.embedding}.weight": outer, f"{names.head}.weight": outer}
    if "head" in structure.biased:
        tensors[f"{names.head}.bias"] = outer[:1]
    if names.positions:
        rows = structure.position_count + structure.position_offset
        tensors[f"{names.positions}.weight"] = (rows, structure.hidden)
    tensors |= _norm_tensors(structure, names.final_norm)
    layer = _matrices(structure) | _router(structure) | _layer_norms(structure)
    for index in range(len(structure.layers)):
        tensors |= {f"{names.layers}.{index}.{name}": shape for name, shape in layer.items()}
    return tensors


def _matrices(structure: BlockStructure) -> dict[str, tuple[int, ...]]:
    names, hidden, inner = structure.names, structure.hidden, structure.inner
    q, kv = structure.query_size, structure.key_size
    qkv = (q, kv, kv) if len(names.qkv) == 3 else (q + 2 * kv,)
    gate_up = (inner, inner) if structure.is_gated else (inner,)
    gate_up = gate_up if len(names.gate_up) == len(gate_up) else (sum(gate_up),)
    matrices = [
        *(("qkv", name, (rows, hidden)) for name, rows in zip(names.qkv, qkv, strict=True)),
        ("output", names.output, (hidden, q)),
        *(
            ("mlp", f"{expert}{name}", (rows, hidden))
            for expert in expert_prefixes(structure)
            for name, rows in zip(names.gate_up, gate_up, strict=True)
        ),
        *(("mlp", f"{expert}{names.down}", (hidden, inner)) for expert in expert_prefixes(structure)),
    ]
    tensors: dict[str, tuple[int, ...]] = {}
    for part, name, (rows, columns) in matrices:
        tensors[f"{name}.weight"] = (columns, rows) if structure.is_transposed else (rows, columns)
        if part in structure.biased:
            tensors[f"{name}.bias"] = (rows,)
    return tensors


def expert_prefixes(structure: BlockStructure) -> list[str]:
    """Return the beginnings of the names of each expert's matrices in a layer, one empty without experts."""
    return [f"{structure.names.experts}.{index}." for index in range(structure.experts)] or [""]


def _router(structure: BlockStructure) -> dict[str, tuple[int, ...]]:
    name = structure.names.router
    return {f"{name}.weight": (structure.experts, structure.hidden)} if name else {}


def _layer_norms(structure: BlockStructure) -> dict[str, tuple[int, ...]]:
    names = structure.names
    tensors: dict[str, tuple[int, ...]] = {}
    for name in (names.pre_attention_norm, names.post_attention_norm, names.pre_mlp_norm, names.post_mlp_norm):
        tensors |= _norm_tensors(structure, name) if name else {}
    sizes = (structure.heads, structure.query_size), (structure.kv_heads, structure.key_size)
    for name, (heads, size) in zip(names.qk_norm, sizes, strict=True):
        match structure.qk_norm:
            case "head":
                tensors[f"{name}.weight"] = (structure.head_dim,)
            case "own_heads":
                tensors |= {f"{name}.norms.{head}.weight": (structure.head_dim,) for head in range(heads)}
            case "projection":
                tensors[f"{name}.weight"] = (size,)
    return tensors


def _norm_tensors(structure: BlockStructure, name: str) -> dict[str, tuple[int, ...]]:
    tensors: dict[str, tuple[int, ...]] = {f"{name}.weight": (structure.hidden,)}
    return tensors | ({f"{name}.bias": (structure.hidden,)} if structure.has_norm_bias else {})
