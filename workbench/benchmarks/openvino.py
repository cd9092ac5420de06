"""The rival OpenVINO, through the package ``openvino-genai``, which reads GGUF files itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.benchmarks.contestants import Stream
from workbench.machine import is_x86, thread_count


class OpenVinoContestant:
    """A GGUF file in OpenVINO's pipeline, with its prefix cache. It cannot report logprobs of given tokens."""

    name = "openvino"
    is_rival = True

    def __init__(self, gguf: Path) -> None:
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        self._genai = openvino_genai
        self._pipeline: Any = openvino_genai.LLMPipeline(
            str(gguf), "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=thread_count()
        )
        self.memory_bytes: int | None = gguf.stat().st_size
        self.instruction_set = _instruction_set()

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        genai = self._genai
        token_ids: list[int] = []
        arrived_s: list[float] = []

        class Reader(genai.StreamerBase):  # type: ignore[misc,name-defined]
            def write(self, written: int | list[int]) -> Any:
                for token_id in [written] if isinstance(written, int) else written:
                    arrived_s.append(time.perf_counter() - started)
                    token_ids.append(token_id)
                return genai.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        started = time.perf_counter()
        self._pipeline.generate(_inputs(genai, [prompt_ids]), self._config(tokens), Reader())
        return Stream(tuple(token_ids), arrived_s[0], arrived_s[-1])

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        started = time.perf_counter()
        self._pipeline.generate(_inputs(self._genai, prompts), self._config(tokens))
        return time.perf_counter() - started

    def close(self) -> None:
        del self._pipeline

    def _config(self, tokens: int) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        return config


def _instruction_set() -> str:
    """Return what follows from OpenVINO's capabilities: on x86, it computes in bf16 from AVX-512 on."""
    import openvino

    if not is_x86():
        return ""
    return "avx512" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "avx2"


def _inputs(genai: Any, prompts: Sequence[Sequence[int]]) -> Any:
    """Return ids and mask, each of shape (batch, longest prompt), padded on the left."""
    import openvino

    longest = max(map(len, prompts))
    ids = np.zeros((len(prompts), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    return genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(mask))
