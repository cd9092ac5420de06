"""Sentence embeddings of many texts.

The folder's sentence-transformers files define a text's prompt and truncation (`sentence_settings`), and how its token
vectors become one (`sentence_pipeline`). Texts are sorted by length and padded only to the longest of their batch. The
results are in the order of the texts, and a text's vector does not depend on its batch.

A BERT's texts are not padded at all (`unpadded`), and each thread computes batches of its own, so that none waits for
another; only the tokens of a single batch are shared. Of other models, all threads share torch's products of one batch.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from workbench.engine.compute_thread import run_on_fresh_thread
from workbench.engine.model_folder import check_folder, read_json
from workbench.engine.sentence_pipeline import Pipeline, weight_shapes
from workbench.engine.sentence_settings import read_settings
from workbench.engine.transformers_loading import format_errors, load_config, load_tokenizer, load_weights
from workbench.engine.unpadded import UNPADDED_TOKENS, fits, hidden_states, remove_padding
from workbench.engine.weight_sizes import predict
from workbench.errors import InvalidRequestError
from workbench.machine import give_back_memory, thread_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

BATCH_TOKENS = 1024
"""Padded tokens of a batch; more exceed the CPU's caches, fewer do not use it fully."""

_LEAST_TOKENS = 128
"""Tokens that are worth a batch of their own."""

_SHARES = 4
"""Least batches for each thread, if there is enough to compute: a thread that is pushed aside delays only its own."""

_MANY_TOKENS = 2048
"""Tokens of a call after which memory is given back to the system: doing so takes milliseconds."""

_UNLIMITED = 10**9
"""Greater limits are placeholders: a tokenizer without a limit has 1e30."""

Inputs = dict[str, list[int]]
"""Model inputs of one text: ``input_ids`` and, for some models, further lists of the same length."""


class EmbeddingModel:
    """A sentence model in float32; `embed` may be called from any thread.

    Args:
        fast: compute without padding if the model allows it; False always computes as transformers does.

    Raises:
        ModelFormatError: the folder is damaged, or has an unsupported part, which the message names.
    """

    def __init__(self, folder: Path, *, name: str | None = None, fast: bool = True) -> None:
        self._pipeline = Pipeline(folder)
        settings = read_settings(folder)
        check_folder(folder)
        self.name = name or folder.name
        self.tokenizer = load_tokenizer(folder)
        if settings.lower_case:
            _lower_case(self.tokenizer)
        config = load_config(folder)
        from transformers import AutoModel  # slow to import, and models that generate text do not need it

        with format_errors(folder, "a sentence model"):
            # The pooler is not used for embeddings; some files lack it.
            self._model = load_weights(AutoModel, folder, torch.float32, unused="pooler").eval()
            self._vocab_size = self._model.get_input_embeddings().weight.shape[0]
        self._model.config.use_cache = False
        self._pad_id = self.tokenizer.pad_token_id or 0
        names, parameters = self.tokenizer.model_input_names, inspect.signature(self._model.forward).parameters
        self._inputs = [name for name in names if name in parameters and name != "attention_mask"]
        self.max_tokens = _smallest(text_limit(folder), _positions(self._model))
        """Longer texts are truncated here; None without a limit."""
        self._lock = threading.Lock()
        self._prompt = settings.prompt
        self._prompt_tokens = self._prompt_length()
        self.parameters = self._model.num_parameters() + self._pipeline.parameters
        # In tiles, 16 bits of each number are computed, enough for a vector of unit length.
        self._unpadded = fast and self._pipeline.is_plain and fits(config)
        if self._unpadded:
            run_on_fresh_thread(partial(remove_padding, self._model))
        with format_errors(folder, "a sentence model"):
            width, self._pads = run_on_fresh_thread(self._check)
        self._truncate_dim = settings.dimensions
        self.dimensions = len(range(self._pipeline.dimensions(width))[: self._truncate_dim])
        self.memory_bytes = int(self._model.get_memory_footprint()) + self._pipeline.nbytes
        self.predicted_memory_bytes = predict(weight_shapes(folder), "float32", packed=False)
        give_back_memory()  # what loading and repacking the weights took

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector per text, in order, of unit length if the model normalizes.

        The vector of an empty text is that of the model's prompt and special tokens.
        """
        return self.embed_encoded(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> list[Inputs]:
        """Return the tokens of each text with its prompt, truncated to `max_tokens`.

        Raises:
            InvalidRequestError: a text has no token, or one beyond the vocabulary; the message has its index.
        """
        inputs = self._tokenize([self._prompt + text for text in texts])
        for index, (text, one) in enumerate(zip(texts, inputs, strict=True)):
            if not one["input_ids"]:
                raise InvalidRequestError(f"contents[{index}]", text, "at least one token of text")
            if (most := max(one["input_ids"])) >= self._vocab_size:
                allowed = f"token ids from 0 to {self._vocab_size - 1}"
                raise InvalidRequestError(f"contents[{index}]", f"token id {most}", allowed)
        return inputs

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return first character and end of each token of a text, in order; without the prompt and special tokens."""
        with self._lock:
            # The default would log a warning for each text beyond the limit.
            encoded = self.tokenizer(
                text,
                add_special_tokens=False,
                truncation=False,
                padding=False,
                return_offsets_mapping=True,
                verbose=False,
            )
        return [(start, end) for start, end in encoded["offset_mapping"]]

    @cached_property
    def max_text_tokens(self) -> int | None:
        """Most tokens of a text that are not truncated, without the prompt and special tokens; None without a limit."""
        if self.max_tokens is None:
            return None
        (around,) = self._tokenize([self._prompt])
        return max(0, self.max_tokens - len(around["input_ids"]))

    def embed_encoded(self, inputs: Sequence[Inputs]) -> list[list[float]]:
        """Return one vector per encoded text."""
        with self._lock:
            vectors = run_on_fresh_thread(partial(self._embed, inputs))
        if sum(len(one["input_ids"]) for one in inputs) > _MANY_TOKENS:
            give_back_memory()  # threads that have ended leave what they freed to the allocator
        return vectors

    def _tokenize(self, texts: list[str]) -> list[Inputs]:
        if not texts:
            return []
        with self._lock:
            encoded = self.tokenizer(
                texts,
                truncation=self.max_tokens is not None,
                max_length=self.max_tokens,
                padding=False,
                return_attention_mask=False,
            )
        columns = {name: encoded[name] for name in self._inputs if name in encoded}
        return [dict(zip(columns, rows, strict=True)) for rows in zip(*columns.values(), strict=True)]

    def _prompt_length(self) -> int:
        """Return how many tokens of a text are its prompt's: those of the prompt alone, without an end token."""
        if not self._prompt:
            return 0
        (prompt,) = self._tokenize([self._prompt])
        token_ids = prompt["input_ids"]
        return len(token_ids) - (token_ids[-1:] != [] and token_ids[-1] in self.tokenizer.all_special_ids)

    def _embed(self, inputs: Sequence[Inputs]) -> list[list[float]]:
        lengths = [len(one["input_ids"]) for one in inputs]
        batches = list(_batches(lengths, self._batch_tokens(sum(lengths)), mixed=self._unpadded or self._pads))
        vectors = torch.empty(len(inputs), self.dimensions)
        computed = self._compute([[inputs[index] for index in batch] for batch in batches])
        for batch, rows in zip(batches, computed, strict=True):
            vectors[batch] = rows
        return cast("list[list[float]]", vectors.tolist())

    def _batch_tokens(self, total: int) -> int:
        """Return the most tokens of a batch, for ``total`` tokens in all."""
        if not self._unpadded:
            return BATCH_TOKENS
        return max(_LEAST_TOKENS, min(UNPADDED_TOKENS, total // (_SHARES * thread_count())))

    def _compute(self, batches: list[list[Inputs]]) -> list[Tensor]:
        """Return the vectors of each batch, shape (rows, dimensions)."""
        if not self._unpadded or len(batches) == 1:
            return list(map(self._forward, batches))
        try:
            with ThreadPoolExecutor(thread_count(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
                return list(threads.map(self._forward, batches))
        finally:
            torch.set_num_threads(thread_count())  # the default of threads that have not computed yet

    @torch.inference_mode()
    def _forward(self, rows: list[Inputs]) -> Tensor:
        vectors = self._unpadded_states(rows) if self._unpadded else self._padded_states(rows)
        return self._pipeline(vectors, _mask(rows), self._prompt_tokens)[:, : self._truncate_dim]

    def _unpadded_states(self, rows: list[Inputs]) -> Tensor:
        """Return token vectors, shape (rows, tokens, hidden), padded after the computation."""
        return pad_sequence(hidden_states(self._model, rows), batch_first=True)

    def _padded_states(self, rows: list[Inputs]) -> Tensor:
        longest = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self._pad_id}
        inputs = {
            name: torch.tensor([row[name] + [fill.get(name, 0)] * (longest - len(row[name])) for row in rows])
            for name in rows[0]
        }  # (rows, tokens) each
        hidden: Tensor = self._model(**inputs, attention_mask=_mask(rows).long()).last_hidden_state
        return hidden

    def _check(self) -> tuple[int, bool]:
        """Return the hidden size, and whether texts may be padded without changing their vectors.

        Models that mix padding into a text get batches of equal lengths.
        """
        torch.set_num_threads(1)  # too small a computation for several
        try:
            return self._check_padding()
        except (AttributeError, IndexError, TypeError) as error:
            raise ValueError(f"it needs other input than token ids: {error}") from error
        finally:
            torch.set_num_threads(thread_count())

    @torch.inference_mode()
    def _check_padding(self) -> tuple[int, bool]:
        count = min(7, self.max_tokens or 7)
        long: Inputs = {name: [0] * count for name in self._inputs}
        long["input_ids"] = [one % self._vocab_size for one in range(count)]
        short = {name: values[: count // 2 + 1] for name, values in long.items()}
        if self._unpadded:
            return self._unpadded_states([short]).shape[-1], True
        (alone,), (_, padded) = self._padded_states([short]), self._padded_states([long, short])
        return alone.shape[-1], torch.allclose(alone, padded[: len(alone)], atol=1e-4, rtol=1e-3)


def check_sentence_model(folder: Path) -> None:
    """Refuse a sentence model with unsupported parts or settings, or with parts that do not fit together.

    Raises:
        ModelFormatError: the message names the part or setting.
    """
    read_settings(folder)
    width = load_config(folder).get_text_config().hidden_size
    run_on_fresh_thread(partial(Pipeline(folder).dimensions, width))


def text_limit(folder: Path) -> int | None:
    """Return the length at which texts are truncated: max_seq_length, or the limit of tokenizer and model."""
    if max_tokens := read_settings(folder).max_tokens:
        return max_tokens
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.exists() else {}
    tokenizer_limit = config.get("model_max_length", config.get("max_len"))
    return _smallest(tokenizer_limit, getattr(load_config(folder), "max_position_embeddings", None))


def _smallest(*limits: float | None) -> int | None:
    return min((int(limit) for limit in limits if limit and 0 < limit < _UNLIMITED), default=None)


def _positions(model: PreTrainedModel) -> int | None:
    """Return the number of learned positions; RoBERTa's and related ones start after the padding id."""
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and name.rpartition(".")[2] in ("position_embeddings", "embed_positions", "positions_embed", "wpe")
    ]
    max_positions = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    starts = [0 if table.padding_idx is None else table.padding_idx + 1 for table in tables]
    return _smallest(
        *(min(table.num_embeddings, max_positions) - start for table, start in zip(tables, starts, strict=True))
    )


def _lower_case(tokenizer: PreTrainedTokenizerFast) -> None:
    """Add lower-casing as the first normalizer, unless the tokenizer has it already."""
    backend = tokenizer.backend_tokenizer
    first: Any = backend.normalizer
    steps = list(first) if isinstance(backend.normalizer, Normalizers) else [first] if first else []
    if not any(isinstance(step, Lowercase) for step in steps):
        backend.normalizer = Normalizers([Lowercase(), *steps])


def _mask(rows: list[Inputs]) -> Tensor:
    """Return which positions of a padded batch are tokens, bool, shape (rows, tokens)."""
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return torch.arange(int(lengths.max())) < lengths.unsqueeze(1)


def _batches(lengths: Sequence[int], max_tokens: int, *, mixed: bool) -> Iterator[list[int]]:
    """Yield indices of texts of similar length, longest first; of equal length unless ``mixed``."""
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        full = (len(batch) + 1) * longest > max_tokens
        if batch and (full or not (mixed or lengths[index] == longest)):
            yield batch
            batch = []
        longest = longest if batch else lengths[index]
        batch.append(index)
    if batch:
        yield batch
