"""Other people's servers on loopback, each in a process of its own, with a small model that writes plain ASCII."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.fakes.gguf_files import write_gguf
from tests.fakes.templates import TAGGED
from tests.tiny_models import bpe_tokenizer, llama_like, save_config

PATIENCE_S = 300.0
"""A server that is not there by then never will be; loading may take long where many tests run at once."""

_LLAMA_CPP = """
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_parallel, params.n_ctx, params.kv_unified = 4, 4096, True
params.fit_params, params.n_gpu_layers, params.cache_ram_mib = False, 0, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.use_jinja, params.verbosity, params.port = True, -1, 0
params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""

_TRANSFORMERS = """
import socket, sys, threading
from transformers.cli.serve import Serve

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
serve = Serve(force_model=sys.argv[1], device="cpu", dtype="float32", host="127.0.0.1", port=port, non_blocking=True)
print(f"http://127.0.0.1:{port}", flush=True)
sys.stdin.read()
serve.kill_server()
"""


def ascii_llama(folder: Path) -> Path:
    """A random Llama that never writes anything but printable ASCII, nor an end: no character is cut in pieces."""
    tokenizer = bpe_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), tie_word_embeddings=False, **llama_like(max_position_embeddings=4096)
    )
    save_config(folder, config, tokenizer, seed=3)
    make_model: Any = AutoModelForCausalLM.from_pretrained
    model = make_model(folder)
    with torch.no_grad():
        for token_id in range(len(tokenizer)):
            text = tokenizer.decode([token_id])
            if not (text.isascii() and text.isprintable() and text) or token_id in tokenizer.all_special_ids:
                model.lm_head.weight[token_id] = 0
    model.save_pretrained(folder)
    return folder


def ascii_gguf(folder: Path, path: Path) -> Path:
    """The same model for llama.cpp, with a chat template that knows tools."""
    return write_gguf(folder, path, TAGGED, pre="gpt-2")


@contextmanager
def llama_cpp_server(gguf: Path) -> Iterator[str]:
    """llama.cpp's own server; the address of its API."""
    with _started([sys.executable, "-c", _LLAMA_CPP, str(gguf)], "/health") as address:
        yield f"{address}/v1"


@contextmanager
def transformers_server(folder: Path) -> Iterator[str]:
    """``transformers serve``; the address of its API."""
    # Its listing fails where there is no cache of the hub to look through.
    (folder.parent / "hub").mkdir(exist_ok=True)
    command = [sys.executable, "-c", _TRANSFORMERS, str(folder)]
    with _started(command, "/health", HF_HOME=str(folder.parent)) as address:
        yield f"{address}/v1"


@contextmanager
def _started(command: Sequence[str], health_path: str, **variables: str) -> Iterator[str]:
    """A process that tells its address on its first line, ends when its input does, and is ready when it is healthy."""
    fixed = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    environment = os.environ | fixed | variables
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, "the server ended before it began"
            _wait_until_ready(f"{address}{health_path}", process)
            yield address
        finally:
            process.kill()


def _wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server never became ready")
