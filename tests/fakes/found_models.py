"""A home folder with models in the layouts of Ollama, LM Studio, Hugging Face and llama.cpp, of a few kB each."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

VARIABLES = (
    *("OLLAMA_MODELS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "LLAMA_CACHE"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
)
"""Environment variables that say where models are."""


_MODULES = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
)


def write_gguf(
    path: Path,
    architecture: str = "llama",
    *,
    seed: int = 0,
    vocabulary: int = 300,
    merges: int = 0,
    layers: int = 0,
    prefix: str = "",
) -> Path:
    """Write a GGUF file of four tensors and 4,672 weights, most of them Q4_K, with the package of the format.

    Args:
        layers: number of layers beside them, of nine vectors each.
        prefix: text before the names of the four tensors, which differ in the parts of a split model.
    """
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"made-up {seed}")
    writer.add_block_count(layers + 1)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_context_length(512)
    writer.add_sliding_window(256)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{number}" for number in range(vocabulary)])
    writer.add_array("tokenizer.ggml.scores", [float(number) for number in range(vocabulary)])
    if merges:
        writer.add_token_merges([f"m{number} {number}" for number in range(merges)])
    writer.add_chat_template("{{ messages }}" * 500)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    kinds = gguf.GGMLQuantizationType
    for name, rows, row_bytes, kind in (("blk.0.ffn_up", 8, 144, kinds.Q4_K), ("output", 2, 210, kinds.Q6_K)):
        blocks = random.integers(0, 256, (rows, row_bytes), dtype=np.uint8)
        writer.add_tensor(f"{prefix}{name}.weight", blocks, raw_dtype=kind)
    writer.add_tensor(f"{prefix}token_embd.weight", random.random((32, 64), dtype=np.float32).astype(np.float16))
    writer.add_tensor(f"{prefix}output_norm.weight", np.ones(64, np.float32))
    for layer, module in itertools.product(range(1, layers + 1), _MODULES):
        writer.add_tensor(f"blk.{layer}.{module}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


WEIGHTS = 8 * 256 + 2 * 256 + 32 * 64 + 64
"""Number of weights in a file of `write_gguf`."""


def write_folder(folder: Path, architecture: str = "LlamaForCausalLM", config: Mapping[str, object] = {}) -> Path:
    """Write a model folder in Hugging Face layout with 2,112 weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"architectures": [architecture], "model_type": "llama", **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text("{}")
    tensors = {"model.embed_tokens.weight": np.ones((32, 64), np.float16), "model.norm.weight": np.ones(64, np.float16)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_ollama(models: Path, name: str, blob: bytes) -> Path:
    """Store a blob and its manifest as ``ollama pull`` does; return the blob's path."""
    digest = hashlib.sha256(blob).hexdigest()
    path = models / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blob)
    path_of_name, tag = name.split(":")
    manifest = models / "manifests" / path_of_name / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'0' * 64}", "size": 1},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(blob)},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return path


def write_snapshot(hub: Path, hub_id: str, made: Path, branch: str = "main") -> Path:
    """Move a model folder, or a file, into a cache of the hub: blobs, and a snapshot with links to them."""
    repository = hub / f"models--{hub_id.replace('/', '--')}"
    commit = hashlib.sha1(f"{hub_id}{branch}".encode(), usedforsecurity=False).hexdigest()
    snapshot = repository / "snapshots" / commit
    for part in (snapshot, repository / "blobs", repository / "refs"):
        part.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    for path in made.iterdir() if made.is_dir() else [made]:
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob.name))
    return snapshot


def empty_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder the user's home, and forget where the environment has models."""
    home.mkdir(parents=True, exist_ok=True)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    monkeypatch.setattr("workbench.found.places.OLLAMA_SERVICE", home / "no service")
    return home


def fill(home: Path) -> None:
    """Write models in all layouts into a home: ten in all, of which nine can be served."""
    ollama, made = home / ".ollama" / "models", home / "made"
    blob = write_gguf(made / "a.gguf", "llama", seed=1).read_bytes()
    write_ollama(ollama, "registry.ollama.ai/library/llama3.2:1b", blob)
    write_ollama(ollama, "registry.ollama.ai/library/llama3.2:latest", blob)
    write_ollama(ollama, "hf.co/someone/gemma-GGUF:Q4_K_M", write_gguf(made / "b.gguf", "gemma3", seed=2).read_bytes())
    studio = home / ".lmstudio"
    write_gguf(studio / "models/publisher/qwen/qwen-Q4_K_M.gguf", "qwen3", seed=3)
    write_gguf(studio / "models/publisher/qwen/mmproj-F16.gguf", "clip", seed=4)
    write_folder(studio / "models/publisher/mlx", config={"quantization": {"bits": 4, "group_size": 64}})
    elsewhere = home / "downloads of studio"
    (studio / "settings.json").write_text(json.dumps({"downloadsFolder": str(elsewhere)}))
    write_gguf(elsewhere / "someone/phi/phi-00001-of-00002.gguf", "phi3", seed=5)
    write_gguf(elsewhere / "someone/phi/phi-00002-of-00002.gguf", "phi3", seed=6, prefix="blk.1.")
    hub = home / ".cache/huggingface/hub"
    write_snapshot(hub, "org/tiny", write_folder(made / "tiny"))
    write_snapshot(hub, "org/branch-only", write_folder(made / "branch"), branch="v2")
    write_snapshot(hub, "org/tiny-GGUF", write_gguf(made / "tiny-Q4_K_M.gguf", "llama", seed=7))
    write_gguf(home / ".cache/llama.cpp/org_model_model-Q4_K_M.gguf", "granite", seed=8)
    write_folder(home / "my models/mine")
