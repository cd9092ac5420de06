"""A Llama's folder in Hugging Face layout written as a GGUF file, for servers that read nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

_LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_CONTROL, _NORMAL = 3, 1


def write_gguf(folder: Path, path: Path, template: str, *, pre: str = "smollm") -> Path:
    """Write the folder's weights in float32, with another chat template; returns ``path``.

    Args:
        pre: llama.cpp's name for how the tokenizer cuts text before merging.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    _write_facts(writer, config)
    _write_tokenizer(writer, folder, config, template, pre)
    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        for name in weights.keys():  # noqa: SIM118 - it is no mapping
            tensor = weights.get_tensor(name).astype(np.float32)
            writer.add_tensor(_gguf_name(name), _in_llama_cpp_order(name, tensor, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_facts(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(writer: Any, folder: Path, config: dict[str, Any], template: str, pre: str) -> None:
    write_vocabulary(writer, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), pre)
    writer.add_bos_token_id(config.get("bos_token_id") or 0)
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)


def write_vocabulary(writer: Any, tokenizer: dict[str, Any], pre: str) -> None:
    """Write the tokens and merges of a byte-level BPE, given as a ``tokenizer.json`` has it."""
    vocabulary = tokenizer["model"]["vocab"] | {one["content"]: one["id"] for one in tokenizer["added_tokens"]}
    control = {one["content"] for one in tokenizer["added_tokens"] if one["special"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in control else _NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _OUTER_NAMES:
        return f"{_OUTER_NAMES[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[part]}.weight"


def _in_llama_cpp_order(name: str, tensor: Any, config: dict[str, Any]) -> Any:
    """llama.cpp turns neighbouring rows of a query or key projection together, transformers a head's two halves."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, -1)
    return np.ascontiguousarray(halves.transpose(0, 2, 1, 3).reshape(tensor.shape))
