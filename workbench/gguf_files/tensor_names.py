"""Names of a GGUF file's tensors in transformers, and what llama.cpp does to their rows and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EXPERT = re.compile(r"(?<=experts)\.\d+\.")
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")

_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

_MATRICES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_POST_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
_SANDWICH = {"attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm", **_POST_NORMS}


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """How llama.cpp stores the tensors of an architecture."""

    layers: Mapping[str, str]
    """Names in transformers of a layer's modules, by their names in the file; ``{}`` stands for the index of an expert,
    all of which are one tensor in the file."""
    outer: Mapping[str, str] = field(default_factory=lambda: _OUTER)
    """Names of the modules outside the layers."""
    prefix: str = "model.layers"
    has_pairs: bool = False
    """Whether the two rows that are rotated together are neighbors in query and key projections; in transformers they
    are half a head apart."""
    norm_offset: float = 0.0
    """Number that llama.cpp has added to the weights of norms."""

    def name_in_transformers(self, name: str) -> str:
        """Return the name of a tensor in transformers; the given one for a tensor that this architecture lacks."""
        module, _, kind = name.rpartition(".")
        if module in self.outer:
            return f"{self.outer[module]}.{kind}"
        match = _LAYER.fullmatch(name)
        if match is None or match[2] not in self.layers:
            return name
        return f"{self.prefix}.{match[1]}.{self.layers[match[2]]}.{match[3]}"

    def name_in_file(self, name: str) -> str:
        """Return the name in a file of a tensor with a name in transformers; the given one if it has none."""
        module, _, kind = name.rpartition(".")
        outer = {theirs: ours for ours, theirs in self.outer.items()}
        if module in outer:
            return f"{outer[module]}.{kind}"
        layer, _, part = module.removeprefix(f"{self.prefix}.").partition(".")
        layers = {theirs: ours for ours, theirs in self.layers.items()}
        part = _EXPERT.sub(".{}.", part)
        return f"blk.{layer}.{layers[part]}.{kind}" if part in layers else name


_ATTENTION = {name: module for name, module in _MATRICES.items() if name.startswith("attn")}
_EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}
_LLAMA = TensorLayout(_MATRICES | _PRE_NORMS, has_pairs=True)

MIXTRAL = TensorLayout(
    _ATTENTION
    | _PRE_NORMS
    | {
        "ffn_gate_inp": "block_sparse_moe.gate",
        "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
        "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
        "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
    },
    has_pairs=True,
)
"""Layout of a Llama with experts, which is a Mixtral in transformers."""

_GPT2 = TensorLayout(
    {
        "attn_norm": "ln_1",
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    },
    outer={
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
    },
    prefix="transformer.h",
)

LAYOUTS: Mapping[str, TensorLayout] = {
    "gemma": TensorLayout(_MATRICES | _PRE_NORMS, norm_offset=1.0),
    "gemma2": TensorLayout(_MATRICES | _SANDWICH, norm_offset=1.0),
    "gemma3": TensorLayout(_MATRICES | _SANDWICH | _QK_NORMS, norm_offset=1.0),
    "gpt2": _GPT2,
    "granite": _LLAMA,
    "llama": _LLAMA,
    "olmo2": TensorLayout(_MATRICES | _POST_NORMS | _QK_NORMS),
    "phi3": TensorLayout(_MATRICES | _PRE_NORMS | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}),
    "qwen2": TensorLayout(_MATRICES | _PRE_NORMS),
    "qwen3": TensorLayout(_MATRICES | _PRE_NORMS | _QK_NORMS),
    "qwen3moe": TensorLayout(_ATTENTION | _PRE_NORMS | _QK_NORMS | _EXPERTS),
    "smollm3": _LLAMA,
    "stablelm": TensorLayout(_MATRICES | _PRE_NORMS),
    "starcoder2": TensorLayout(_MATRICES | _PRE_NORMS | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}),
}
"""Layouts by ``general.architecture``: the architectures whose files are served."""


def row_order(rows: int, heads: int) -> NDArray[np.intp]:
    """Return where the rows of a query or key projection that `has_pairs` are, in the order of transformers.

    Raises:
        ValueError: the rows cannot be divided so.
    """
    import numpy as np  # lists of models need it for nothing else

    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


ROTARY_TENSORS = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
"""Tensors that belong to the config in transformers."""
