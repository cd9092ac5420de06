"""Headers of models of usual sizes in a made-up home; their files are sparse, so they take no room on the disk."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from math import prod
from pathlib import Path
from unittest.mock import patch

import gguf
import numpy as np

from tests.fakes.found_models import write_ollama
from workbench.found import find_models
from workbench.records import FoundModel

_COMMIT = "0123456789abcdef" * 2 + "01234567"
_Kind = gguf.GGMLQuantizationType


def models_of_a_made_up_home() -> list[FoundModel]:
    """Return what is found in the home of somebody who has used Ollama, LM Studio and the Hugging Face hub."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"HOME": folder}):
        home = Path(folder)
        blob = _write_gguf(home / "blob", "llama", layers=16, width=2048, inner=8192, vocabulary=128_256)
        blob.replace(write_ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2:1b", b""))
        studio = home / ".lmstudio/models/lmstudio-community"
        _write_gguf(studio / "Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf", "qwen3", layers=36, width=2560, inner=9728)
        _write_gguf(studio / "mamba-130m-GGUF/mamba-130m-Q4_K_M.gguf", "mamba", layers=4, width=768, inner=1536)
        repository = home / ".cache/huggingface/hub/models--Qwen--Qwen3-0.6B"
        _write_folder(repository / "snapshots" / _COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(_COMMIT)
        return find_models()


def _write_gguf(
    path: Path, architecture: str, *, layers: int, width: int, inner: int, vocabulary: int = 151_936
) -> Path:
    """Write the header of a Q4_K_M file, and make the file as long as its tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    nbytes = 0
    for name, shape, kind in [
        ("token_embd", (vocabulary, width), _Kind.Q6_K),
        *(
            (f"blk.{layer}.{part}", shape, kind)
            for layer in range(layers)
            for part, shape, kind in (
                ("attn_q", (width, width), _Kind.Q4_K),
                ("attn_k", (width // 4, width), _Kind.Q4_K),
                ("attn_v", (width // 4, width), _Kind.Q6_K),
                ("attn_output", (width, width), _Kind.Q4_K),
                ("ffn_gate", (inner, width), _Kind.Q4_K),
                ("ffn_up", (inner, width), _Kind.Q4_K),
                ("ffn_down", (width, inner), _Kind.Q4_K),
            )
        ),
    ]:
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        size = prod(shape) // block * block_bytes
        writer.add_tensor_info(f"{name}.weight", shape, np.dtype(np.float16), size, raw_dtype=kind)
        nbytes += size + -size % 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, path.stat().st_size + 32 + nbytes)
    return path


def _write_folder(folder: Path) -> None:
    """Write the config of Qwen3-0.6B, and the header of its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}))
    (folder / "tokenizer.json").write_text("{}")
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (151_936, 1024)}
    for layer in range(28):
        parts = {"self_attn.q_proj": (2048, 1024), "self_attn.k_proj": (1024, 1024), "self_attn.v_proj": (1024, 1024)}
        parts |= {"self_attn.o_proj": (1024, 2048), "mlp.gate_proj": (3072, 1024), "mlp.up_proj": (3072, 1024)}
        parts |= {"mlp.down_proj": (1024, 3072)}
        shapes |= {f"model.layers.{layer}.{part}.weight": shape for part, shape in parts.items()}
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + 2 * prod(shape)]}
        end += 2 * prod(shape)
    text = json.dumps(header).encode()
    weights = folder / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(weights, 8 + len(text) + end)
