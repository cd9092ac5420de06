"""Sentence embeddings: texts to vectors, many at a time.

The model's folder says how, in the files of sentence-transformers: what stands before a text and where it is cut off
(`sentence_settings`), and what is made of its tokens' vectors (`sentence_pipeline`). Texts are sorted by length and
padded only to the longest of their batch, so that little is computed for padding; the order of the answers is that of
the texts, and a text has one vector whatever stands beside it.

Where the processor has matrix tiles, a BERT's texts are not padded at all (`unpadded`), and each thread computes
batches of its own. Elsewhere all threads share in torch's products of one batch.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, PreTrainedTokenizerFast

from workbench.engine.compute_thread import run_on_fresh_thread
from workbench.engine.loading import damage_named, load_config, load_tokenizer, load_weights
from workbench.engine.memory import predict
from workbench.engine.model_folder import check_folder, read_json
from workbench.engine.sentence_pipeline import Pipeline, weight_shapes
from workbench.engine.sentence_settings import read_settings
from workbench.engine.unpadded import fits, hidden_states, remove_padding
from workbench.errors import InvalidRequestError
from workbench.machine import thread_count
from workbench.sentence_parts import LIST

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_TOKENS = 1024
"""Padded tokens computed together; more would leave the processor's caches, fewer would not fill its units."""

UNPADDED_TOKENS = 512
"""The same for one thread, without padding."""

_UNLIMITED = 10**9
"""A tokenizer without a limit has a placeholder of 1e30."""

Inputs = dict[str, list[int]]
"""One text as the model is given it: ``input_ids`` and, for some models, a list as long of something else."""


class EmbeddingModel:
    """A sentence model in float32; `embed` may be called from any thread.

    Args:
        fast: compute without padding where the model and the processor allow it; False always takes torch's products.

    Raises:
        ModelFormatError: the folder is damaged, or asks for what is not supported; the message names the part.
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
        with damage_named(folder, "a sentence model"):
            # The pooler is made for another task than embedding; some files leave it out.
            self._model = load_weights(AutoModel, folder, torch.float32, unused="pooler").eval()
            self._vocab_size = self._model.get_input_embeddings().weight.shape[0]
        self._model.config.use_cache = False
        self._pad_id = self.tokenizer.pad_token_id or 0
        names, known = self.tokenizer.model_input_names, inspect.signature(self._model.forward).parameters
        self._inputs = [name for name in names if name in known and name != "attention_mask"]
        self.max_tokens = _smallest(text_limit(folder), _positions(self._model))
        """Longer texts are cut off here; None where nothing limits them."""
        self._lock = threading.Lock()
        self._prompt = settings.prompt
        self._prompt_tokens = self._length_of_prompt()
        # The kernels give a direction in full, and each number to 16 bits.
        self._unpadded = fast and self._pipeline.is_plain and fits(config)
        if self._unpadded:
            run_on_fresh_thread(partial(remove_padding, self._model))
        with damage_named(folder, "a sentence model"):
            width, self._pads = run_on_fresh_thread(self._try)
        self._cut = settings.dimensions
        self.dimensions = len(range(self._pipeline.dimensions(width))[: self._cut])
        self.parameters = self._model.num_parameters() + self._pipeline.parameters
        self.memory_bytes = int(self._model.get_memory_footprint()) + self._pipeline.nbytes
        self.predicted_memory_bytes = predict(weight_shapes(folder), "float32", packed=False)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in order; of unit length where the model normalises.

        The empty text has a vector too: that of the model's prompt, begin and end tokens alone.
        """
        return self.embed_encoded(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> list[Inputs]:
        """The tokens that are read of each text, its prompt before it, cut off where they are too many.

        Raises:
            InvalidRequestError: a text has no token, or one that the model does not know; named by its place.
        """
        inputs = self._encoded([self._prompt + text for text in texts])
        for index, (text, one) in enumerate(zip(texts, inputs, strict=True)):
            if not one["input_ids"]:
                raise InvalidRequestError(f"contents[{index}]", text, "at least one token of text")
            if (most := max(one["input_ids"])) >= self._vocab_size:
                allowed = f"token ids from 0 to {self._vocab_size - 1}"
                raise InvalidRequestError(f"contents[{index}]", f"token id {most}", allowed)
        return inputs

    def embed_encoded(self, inputs: Sequence[Inputs]) -> list[list[float]]:
        """One vector per text that was encoded."""
        with self._lock:
            return run_on_fresh_thread(partial(self._embed, inputs))

    def _encoded(self, texts: list[str]) -> list[Inputs]:
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

    def _length_of_prompt(self) -> int:
        """So many tokens of a text are its prompt's: those of the prompt alone, but for an end token."""
        if not self._prompt:
            return 0
        (prompt,) = self._encoded([self._prompt])
        token_ids = prompt["input_ids"]
        return len(token_ids) - (token_ids[-1:] != [] and token_ids[-1] in self.tokenizer.all_special_ids)

    def _embed(self, inputs: Sequence[Inputs]) -> list[list[float]]:
        lengths = [len(one["input_ids"]) for one in inputs]
        most = UNPADDED_TOKENS if self._unpadded else BATCH_TOKENS
        batches = list(_batches(lengths, most, mixed=self._unpadded or self._pads))
        vectors = torch.empty(len(inputs), self.dimensions)
        computed = self._computed([[inputs[index] for index in batch] for batch in batches])
        for batch, rows in zip(batches, computed, strict=True):
            vectors[batch] = rows
        return cast("list[list[float]]", vectors.tolist())

    def _computed(self, batches: list[list[Inputs]]) -> list[Tensor]:
        """Vectors of each batch, shape (rows, dimensions)."""
        if not self._unpadded:
            return list(map(self._forward, batches))
        try:
            with ThreadPoolExecutor(thread_count(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
                return list(threads.map(self._forward, batches))
        finally:
            torch.set_num_threads(thread_count())  # a thread that has not computed yet begins with the last number set

    @torch.inference_mode()
    def _forward(self, rows: list[Inputs]) -> Tensor:
        vectors = self._unpadded_states(rows) if self._unpadded else self._padded_states(rows)
        return self._pipeline(vectors, _mask(rows), self._prompt_tokens)[:, : self._cut]

    def _unpadded_states(self, rows: list[Inputs]) -> Tensor:
        """The vectors of tokens, shape (rows, tokens, hidden); padded when there is nothing left to compute."""
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

    def _try(self) -> tuple[int, bool]:
        """How wide the model's vectors are, and whether a text's stay the same beside a longer one.

        There are models that mix padding into a text; theirs are computed beside texts of the same length alone.
        """
        torch.set_num_threads(1)  # there is too little to compute for a team
        try:
            return self._tried()
        except (AttributeError, IndexError, TypeError) as error:
            raise ValueError(f"it needs other input than token ids: {error}") from error
        finally:
            torch.set_num_threads(thread_count())

    @torch.inference_mode()
    def _tried(self) -> tuple[int, bool]:
        most = min(7, self.max_tokens or 7)
        long: Inputs = {name: [0] * most for name in self._inputs}
        long["input_ids"] = [one % self._vocab_size for one in range(most)]
        short = {name: values[: most // 2 + 1] for name, values in long.items()}
        if self._unpadded:
            return self._unpadded_states([short]).shape[-1], True
        (alone,), (_, among) = self._padded_states([short]), self._padded_states([long, short])
        return alone.shape[-1], torch.allclose(alone, among[: len(alone)], atol=1e-4, rtol=1e-3)


def is_sentence_model(folder: Path) -> bool:
    """Whether a folder was written by sentence-transformers; such a model embeds and cannot generate."""
    return (folder / LIST).exists()


def check_sentence_model(folder: Path) -> None:
    """Refuse a sentence model whose parts or settings are not supported, or whose parts do not fit together.

    Raises:
        ModelFormatError: which part or setting it is.
    """
    read_settings(folder)
    width = load_config(folder).get_text_config().hidden_size
    run_on_fresh_thread(partial(Pipeline(folder).dimensions, width))


def text_limit(folder: Path) -> int | None:
    """Tokens at which the folder's own settings cut a text off: max_seq_length, else what tokenizer and model read."""
    if asked := read_settings(folder).max_tokens:
        return asked
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.exists() else {}
    of_tokenizer = config.get("model_max_length", config.get("max_len"))
    return _smallest(of_tokenizer, getattr(load_config(folder), "max_position_embeddings", None))


def _smallest(*limits: float | None) -> int | None:
    return min((int(limit) for limit in limits if limit and 0 < limit < _UNLIMITED), default=None)


def _positions(model: PreTrainedModel) -> int | None:
    """As many tokens as a model has a vector of its own for each place; RoBERTa's kin begin behind the padding's id."""
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and name.rpartition(".")[2] in ("position_embeddings", "embed_positions", "positions_embed", "wpe")
    ]
    made_for = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    starts = [0 if table.padding_idx is None else table.padding_idx + 1 for table in tables]
    return _smallest(
        *(min(table.num_embeddings, made_for) - start for table, start in zip(tables, starts, strict=True))
    )


def _lower_case(tokenizer: PreTrainedTokenizerFast) -> None:
    """Put lower case before whatever else is done to a text, unless it is among that already."""
    backend = tokenizer.backend_tokenizer
    first: Any = backend.normalizer
    steps = list(first) if isinstance(backend.normalizer, Normalizers) else [first] if first else []
    if not any(isinstance(step, Lowercase) for step in steps):
        backend.normalizer = Normalizers([Lowercase(), *steps])


def _mask(rows: list[Inputs]) -> Tensor:
    """Which places of a padded batch are tokens, shape (rows, tokens)."""
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return torch.arange(int(lengths.max())) < lengths.unsqueeze(1)


def _batches(lengths: Sequence[int], most_tokens: int, *, mixed: bool) -> Iterator[list[int]]:
    """Indices of texts of similar length, longest first, so that padding is rare; of one length unless mixed."""
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        full = (len(batch) + 1) * longest > most_tokens
        if batch and (full or not (mixed or lengths[index] == longest)):
            yield batch
            batch = []
        longest = longest if batch else lengths[index]
        batch.append(index)
    if batch:
        yield batch
