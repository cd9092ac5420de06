"""The rival llama.cpp, through the server that the package ``xllamacpp`` runs in this process."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from workbench.benchmarks.contestants import Stream
from workbench.benchmarks.processors import widest
from workbench.benchmarks.tasks import TOGETHER
from workbench.errors import GenerationError
from workbench.machine import thread_count

WHOLE_VOCABULARY = 2**20
"""Number of logprobs to request, more than any vocabulary has."""


class LlamaCppContestant:
    """A GGUF file in llama.cpp, with its prompt cache, and without logprobs while speed is measured.

    Each sequence has its own slot, so that a single request is not slowed by the remains of others.
    """

    name = "llama.cpp"
    is_rival = True

    def __init__(self, gguf: Path, context_length: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_parallel = TOGETHER
        params.n_ctx = TOGETHER * -(-context_length // 256) * 256
        params.kv_unified = False
        params.cache_ram_mib = 0  # copies of finished sequences would only cost time
        params.swa_full = True  # a cache of the window alone cannot be reused, so each text would be read again
        params.fit_params = False
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = thread_count()
        params.verbosity = -1
        self._server = xllamacpp.Server(params)
        self._address = urlsplit(self._server.listening_address)
        self.memory_bytes: int | None = gguf.stat().st_size
        reported = xllamacpp.get_system_info().split("|")  # "CPU : SSE3 = 1 | AVX2 = 1 | ..."
        self.instruction_set = widest(" ".join(name for name in reported if name.strip().endswith("= 1")))

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        token_ids: list[int] = []
        arrived_s: list[float] = []
        started = time.perf_counter()
        for event in self._events(prompt_ids, tokens, slot=0):
            if found := event.get("tokens"):
                arrived_s.append(time.perf_counter() - started)
                token_ids += found
        return Stream(tuple(token_ids), arrived_s[0], arrived_s[-1])

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        def read(slot: int) -> None:
            for _ in self._events(prompts[slot], tokens, slot):
                pass

        started = time.perf_counter()
        with ThreadPoolExecutor(len(prompts)) as readers:
            list(readers.map(read, range(len(prompts))))
        return time.perf_counter() - started

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        """Send one request per position; all but its last token are in the prompt cache, so one token is decoded."""
        for position in range(len(token_ids)):
            read = [*prompt_ids, *token_ids[:position]]
            with closing(self._post(_body(read, 1, slot=0) | {"n_probs": WHOLE_VOCABULARY})) as connection:
                answer = json.loads(connection.getresponse().read())
            try:
                listed = answer["completion_probabilities"][0]["top_logprobs"]
                reused = answer["timings"]["cache_n"]
            except (KeyError, IndexError) as error:
                raise GenerationError(f"llama.cpp's response has no {error}") from error
            if position and reused != len(read) - 1:
                raise GenerationError(f"llama.cpp prefilled {len(read) - reused} tokens again instead of decoding one")
            logprobs = torch.empty(len(listed))  # (vocab,)
            logprobs[[one["id"] for one in listed]] = torch.tensor([one["logprob"] for one in listed])
            yield logprobs

    def close(self) -> None:
        del self._server

    def _events(self, prompt_ids: Sequence[int], tokens: int, slot: int) -> Iterator[dict[str, Any]]:
        with closing(self._post(_body(prompt_ids, tokens, slot) | {"stream": True})) as connection:
            for line in connection.getresponse():
                if line.startswith(b"data: {"):
                    yield json.loads(line[len(b"data: ") :])
                elif line.startswith(b"error"):
                    raise GenerationError(f"llama.cpp returned an error: {line.decode(errors='replace')}")

    def _post(self, body: dict[str, Any]) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(str(self._address.hostname), self._address.port)
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        return connection


def _body(prompt_ids: Sequence[int], tokens: int, slot: int) -> dict[str, Any]:
    return {
        "prompt": list(prompt_ids),
        "n_predict": tokens,
        "temperature": 0,
        "top_k": 1,
        "samplers": ["top_k"],
        "ignore_eos": True,
        "cache_prompt": True,
        "return_tokens": True,
        "id_slot": slot,
    }
