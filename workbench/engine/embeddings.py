"""Sentence embeddings: texts to vectors, many at a time.

The model's folder says how, in the files of sentence-transformers: which pooling, whether to normalise, and at how
many tokens a text is cut off. Texts are sorted by length and padded only to the longest of their batch, so that little
is computed for padding; the order of the answers is that of the texts.

Where the processor has matrix tiles, a BERT's texts are not padded at all (`unpadded`), and each thread computes
batches of its own. Elsewhere all threads share in torch's products of one batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from workbench.engine.compute_thread import compute_apart
from workbench.engine.loading import context_length, damage_named, load_config, load_tokenizer, load_weights
from workbench.engine.machine import thread_count
from workbench.engine.memory import predict, tensor_shapes
from workbench.engine.model_folder import check_folder, read_json, read_json_list
from workbench.engine.unpadded import fits, hidden_states, remove_padding
from workbench.errors import ModelFormatError

BATCH_TOKENS = 1024
"""Padded tokens computed together; more would leave the processor's caches, fewer would not fill its units."""

UNPADDED_TOKENS = 512
"""The same for one thread, without padding."""


class EmbeddingModel:
    """A sentence model in float32; `embed` may be called from any thread.

    Args:
        fast: compute without padding where the model and the processor allow it; False always takes torch's products.

    Raises:
        ModelFormatError: the folder is damaged, or asks for a pooling other than mean or first token.
    """

    def __init__(self, folder: Path, *, name: str | None = None, fast: bool = True) -> None:
        check_folder(folder)
        self.name = name or folder.name
        self.tokenizer = load_tokenizer(folder)
        config = load_config(folder)
        self._pooling = _pooling(folder)
        self._normalises = any("Normalize" in module["type"] for module in _modules(folder))
        with damage_named(folder, "a sentence model"):
            # The pooler is made for another task than embedding; some files leave it out.
            self._model = load_weights(AutoModel, folder, torch.float32, unused="pooler").eval()
        self.max_tokens = min(text_limit(folder), context_length(config))
        """Longer texts are cut off here."""
        self.dimensions = int(config.hidden_size)
        self.parameters = self._model.num_parameters()
        # Vectors that are not of unit length are asked for their numbers, and not for their direction alone.
        self._unpadded = fast and self._normalises and fits(config)
        if self._unpadded:
            compute_apart(partial(remove_padding, self._model))
        self.memory_bytes = int(self._model.get_memory_footprint())
        self.predicted_memory_bytes = predict(tensor_shapes(folder), "float32", packed=False)
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in order; of unit length where the model normalises.

        The empty text has a vector too: that of the model's begin and end tokens alone.
        """
        return self.embed_ids(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens that are read of each text, cut off where it is too long."""
        if not texts:
            return []
        with self._lock:
            encoded = self.tokenizer(
                list(texts), truncation=True, max_length=self.max_tokens, padding=False, return_attention_mask=False
            )
        return cast("list[list[int]]", encoded["input_ids"])

    def embed_ids(self, token_ids: Sequence[list[int]]) -> list[list[float]]:
        """One vector per text that was encoded."""
        with self._lock:
            return compute_apart(partial(self._embed, token_ids))

    def _embed(self, token_ids: Sequence[list[int]]) -> list[list[float]]:
        batches = list(_batches(token_ids, UNPADDED_TOKENS if self._unpadded else BATCH_TOKENS))
        vectors = torch.empty(len(token_ids), self.dimensions)
        computed = self._computed([[token_ids[index] for index in batch] for batch in batches])
        for batch, rows in zip(batches, computed, strict=True):
            vectors[batch] = rows
        return cast("list[list[float]]", vectors.tolist())

    def _computed(self, batches: list[list[list[int]]]) -> list[Tensor]:
        """Vectors of each batch, shape (rows, dimensions)."""
        if not self._unpadded:
            return list(map(self._forward, batches))
        try:
            with ThreadPoolExecutor(thread_count(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
                return list(threads.map(self._forward_unpadded, batches))
        finally:
            torch.set_num_threads(thread_count())  # a thread that has not computed yet begins with the last number set

    @torch.inference_mode()
    def _forward_unpadded(self, rows: list[list[int]]) -> Tensor:
        states = hidden_states(self._model, rows)
        return self._scaled(torch.stack([one[0] if self._pooling == "first" else one.mean(0) for one in states]))

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]]) -> Tensor:
        longest = max(map(len, rows))
        input_ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # (rows, tokens)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(longest) < lengths.unsqueeze(1)  # (rows, tokens)
        # Without padding there is nothing to mask, and attention takes its fast way.
        padded = len(set(map(len, rows))) > 1
        hidden = self._model(input_ids=input_ids, attention_mask=mask.long() if padded else None).last_hidden_state
        if self._pooling == "first":
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)
        return self._scaled(pooled)

    def _scaled(self, pooled: Tensor) -> Tensor:
        return F.normalize(pooled, dim=-1) if self._normalises else pooled


def is_sentence_model(folder: Path) -> bool:
    """Whether a folder was written by sentence-transformers; such a model embeds and cannot generate."""
    return (folder / "modules.json").exists()


def text_limit(folder: Path) -> int:
    """Tokens at which the folder's own settings cut a text off."""
    path = folder / "sentence_bert_config.json"
    limit = read_json(path).get("max_seq_length") if path.exists() else None
    return int(limit or 512)


def _batches(token_ids: Sequence[list[int]], most_tokens: int) -> Iterator[list[int]]:
    """Indices of texts of similar length, longest first, so that padding is rare."""
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(token_ids)), key=lambda index: -len(token_ids[index])):
        if batch and (len(batch) + 1) * longest > most_tokens:
            yield batch
            batch = []
        longest = longest if batch else len(token_ids[index])
        batch.append(index)
    if batch:
        yield batch


def _pooling(folder: Path) -> Literal["mean", "first"]:
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        return "mean"
    config = read_json(path)
    if config.get("pooling_mode_mean_tokens"):
        return "mean"
    if config.get("pooling_mode_cls_token"):
        return "first"
    raise ModelFormatError(f"{path} asks for a pooling that is not supported; mean and first token are")


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    if not path.exists():
        return []
    modules = read_json_list(path)
    if not all(isinstance(module, dict) and isinstance(module.get("type"), str) for module in modules):
        raise ModelFormatError(f"{path} must hold a list of modules, each with a type")
    return modules
