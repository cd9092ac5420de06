"""The rivals in transformers: `generate` with its streamer, and a plain loop over a sentence model."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    GgufConfig,
    PreTrainedModel,
    TextIteratorStreamer,
)

from workbench.benchmarks.contestants import Stream
from workbench.benchmarks.processors import widest
from workbench.engine.embeddings import EmbeddingModel
from workbench.engine.gguf_weights import gguf_files, is_gguf
from workbench.engine.transformers_loading import load_tokenizer, quiet
from workbench.machine import thread_count

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


class TransformersContestant:
    """`generate` on a thread, with its text read from a `TextIteratorStreamer`; no cache is kept between calls."""

    is_rival = True

    def __init__(self, folder: Path, precision: Literal["float32", "bf16"]) -> None:
        self.name = f"transformers {precision}"
        self._tokenizer = load_tokenizer(folder)
        # The thread that generates also loads: the OpenMP teams of two would slow each other, see `isolated_process`.
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(thread_count(),))
        self._model: Any = self._thread.submit(_load, folder, _DTYPES[precision]).result()
        self.memory_bytes: int | None = int(self._model.get_memory_footprint())
        self.instruction_set = widest(torch.backends.cpu.get_cpu_capability())
        generation = self._model.generation_config
        ends = generation.eos_token_id
        self._eos_ids = frozenset(ends if isinstance(ends, list) else [ends])
        # Without an end token all contestants generate equally many tokens; a logits processor would cost time.
        generation.eos_token_id = None
        generation.pad_token_id = 0

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        streamer = _TimedStreamer(self._tokenizer)
        started = time.perf_counter()
        done = self._thread.submit(self._generate, [prompt_ids], tokens, streamer)
        for _ in streamer:  # read the text as a user would
            pass
        done.result()
        first, last = streamer.arrived[0] - started, streamer.arrived[-1] - started
        return Stream(tuple(streamer.token_ids), first, last)

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        started = time.perf_counter()
        self._thread.submit(self._generate, prompts, tokens, None).result()
        return time.perf_counter() - started

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        cache = DynamicCache(config=self._model.config)
        yield self._step(prompt_ids, cache)
        for token_id in token_ids[:-1]:
            yield self._step([token_id], cache)

    def sample(self, prompt_ids: Sequence[int], tokens: int, seed: int) -> tuple[list[int], Tensor]:
        """Sample tokens at temperature 1 up to the first end token; also return logprobs, shape (tokens, vocab)."""
        random = torch.Generator().manual_seed(seed)
        cache = DynamicCache(config=self._model.config)
        token_ids: list[int] = []
        rows: list[Tensor] = []
        while len(token_ids) < tokens and not (token_ids and token_ids[-1] in self._eos_ids):
            rows.append(self._step(token_ids[-1:] or prompt_ids, cache))
            token_ids.append(int(torch.multinomial(rows[-1].exp(), 1, generator=random)))
        return token_ids, torch.stack(rows)

    def close(self) -> None:
        self._thread.shutdown()
        del self._model

    def _generate(self, prompts: Sequence[Sequence[int]], tokens: int, streamer: Any) -> None:
        longest = max(map(len, prompts))
        rows = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        try:
            self._model.generate(
                torch.tensor(rows),  # (batch, longest), padded on the left
                attention_mask=torch.tensor(mask),
                do_sample=False,
                max_new_tokens=tokens,
                streamer=streamer,
            )
        except BaseException:
            if streamer is not None:  # otherwise its reader would wait for ever
                streamer.end()
            raise

    def _step(self, token_ids: Sequence[int], cache: DynamicCache) -> Tensor:
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor([list(token_ids)]), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        logits: Tensor = output.logits[0, -1]  # (vocab,)
        return logits.float().log_softmax(-1)


def _load(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    if is_gguf(folder):
        return load_gguf(gguf_files(folder)[0], dtype)
    with quiet():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).eval()
    return model


def load_gguf(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Return the model of a GGUF file as transformers itself reads it, with dequantized weights."""
    with quiet(), redirect_stderr(io.StringIO()):  # its bar over the tensors ignores every setting
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            local_files_only=True,
        ).eval()
    return model


class _TimedStreamer(TextIteratorStreamer):
    """A streamer that records when each token arrives; the text arrives word by word, later than its first token."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=True)
        self.arrived: list[float] = []
        self.token_ids: list[int] = []

    def put(self, value: Tensor) -> None:
        if not self.next_tokens_are_prompt:
            self.arrived.append(time.perf_counter())
            self.token_ids += value.flatten().tolist()
        super().put(value)  # type: ignore[no-untyped-call]


class LoopEmbedder:
    """A sentence model as in its model card: tokenize, forward, mean over the tokens, one text at a time."""

    name = "plain loop"
    is_rival = True

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer(folder)
        with quiet():
            self._model: PreTrainedModel = AutoModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
            ).eval()
        self._max_tokens = EmbeddingModel(folder).max_tokens
        self.memory_bytes: int | None = int(self._model.get_memory_footprint())
        self.instruction_set = widest(torch.backends.cpu.get_cpu_capability())

    def embed(self, texts: Sequence[str]) -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for text in texts:
                encoded = self._tokenizer(text, truncation=True, max_length=self._max_tokens, return_tensors="pt")
                hidden = self._model(**encoded).last_hidden_state[0]  # (tokens, hidden)
                F.normalize(hidden.mean(0), dim=0).tolist()
        return time.perf_counter() - started

    def close(self) -> None:
        del self._model
