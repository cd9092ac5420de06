"""A model without weights: bytes are its tokens, and what it says next follows from all that stands in the cache.

A cache here is the list of ids that it stands for, so a row that reads another one's cache, or one that is a token too
long, says something else and the test sees it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.engine.decoders import Decoded
from workbench.engine.detokenizer import Vocabulary
from workbench.engine.insides.contributions import Unembedding
from workbench.engine.loading import LoadedModel
from workbench.insides import ModelPoints

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eom_id|>")
EOS, IM_START, IM_END, EOM = range(256, 260)
VOCAB = 260
# Typed as Any, for the class is only partly typed.
make_tokenizer: Any = PreTrainedTokenizerFast
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def byte_alphabet() -> dict[str, int]:
    """The byte-level alphabet's characters, each with the byte that it stands for."""
    characters = set(pre_tokenizers.ByteLevel.alphabet())
    alphabet = {chr(byte): byte for byte in range(0x100) if chr(byte) in characters}  # printable: its own character
    shifted = (byte for byte in range(0x100) if chr(byte) not in characters)
    alphabet |= {chr(0x100 + index): byte for index, byte in enumerate(shifted)}
    assert set(alphabet) == characters
    return alphabet


def byte_tokenizer(template: str | None = TEMPLATE) -> Any:
    """Every byte is a token and its own id; four control tokens follow."""
    tokenizer = Tokenizer(models.BPE(vocab=dict(byte_alphabet()), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in SPECIALS])
    return make_tokenizer(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", chat_template=template
    )


class FakeCache:
    """The ids themselves stand for their keys and values."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.ids = list(ids)
        self.state = 0
        for token_id in self.ids:
            self.advance(token_id)

    def advance(self, token_id: int) -> None:
        self.state = (self.state * 1_000_003 + token_id + 1) % 2**61

    def append(self, token_ids: Sequence[int]) -> None:
        self.ids.extend(token_ids)
        for token_id in token_ids:
            self.advance(token_id)

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return 100 * len(self.ids)

    def fork(self, length: int) -> Self | None:
        return type(self)(self.ids[:length])


Speech = Callable[[FakeCache], Tensor]


def random_speech(vocab: int = VOCAB) -> Speech:
    """Logits drawn afresh for every sequence of ids, the same for the same ids."""

    def speak(cache: FakeCache) -> Tensor:
        generator = torch.Generator().manual_seed(cache.state)
        logits = torch.randn(vocab, generator=generator) * 3
        logits[EOS] -= 6  # seldom enough for runs of some length
        return logits

    return speak


def scripted_speech(text: str | bytes | Sequence[int], end: int = EOS, vocab: int = VOCAB) -> Speech:
    """Says the text after the prompt's last NUL byte, then the end token for ever."""
    script = list(text.encode() if isinstance(text, str) else text)

    def speak(cache: FakeCache) -> Tensor:
        said = len(cache.ids) - 1 - max(index for index, token_id in enumerate(cache.ids) if token_id == 0)
        logits = torch.zeros(vocab)
        logits[script[said] if said < len(script) else end] = 20.0
        return logits

    return speak


def endless_speech(cache: FakeCache) -> Tensor:
    """Letters in the order of the alphabet, and never an end."""
    logits = torch.zeros(VOCAB)
    logits[ord("a") + cache.length % 26] = 20.0
    return logits


_ASSISTANT = [IM_START, *b"assistant\n"]


def answering(*answers: str, vocab: int = VOCAB) -> Speech:
    """In a chat of `TEMPLATE`, says the first answer in the first turn of the assistant, and so on."""
    scripts = [list(answer.encode()) for answer in answers]

    def speak(cache: FakeCache) -> Tensor:
        ids = cache.ids
        begun = [at for at in range(len(ids)) if ids[at] == IM_START and ids[at : at + len(_ASSISTANT)] == _ASSISTANT]
        logits = torch.zeros(vocab)
        if begun:  # a prompt that is still being read has no turn of the assistant yet
            script, said = scripts[len(begun) - 1], len(ids) - begun[-1] - len(_ASSISTANT)
            logits[script[said] if said < len(script) else IM_END] = 20.0
        return logits

    return speak


PROMPT = (0,)
"""Where a scripted model starts to speak."""


class FakeDecoder:
    """A `Decoder` that speaks without weights, counts what it computes, and breaks where a test wants it to."""

    supports_chunked_prefill = True
    reads_as_it_decodes = True
    prompt_arithmetic: str | None = None

    def __init__(self, speech: Speech | None = None, *, rows_per_step: int = 1, vocab_size: int = VOCAB) -> None:
        self.speech = speech or random_speech(vocab_size)
        self.vocab_size = vocab_size
        self.rows_per_step = rows_per_step
        self.prefills: list[int] = []
        """Tokens of each prefill."""
        self.decodes: list[int] = []
        """Rows of each decode."""
        self.before_prefill: Callable[[Sequence[int], FakeCache], None] = lambda *_: None
        self.before_decode: Callable[[Sequence[FakeCache]], None] = lambda *_: None

    def new_cache(self) -> FakeCache:
        return FakeCache()

    def prefill(self, token_ids: Sequence[int], cache: FakeCache, *, every_position: bool = False) -> Tensor:
        self.before_prefill(token_ids, cache)
        self.prefills.append(len(token_ids))
        rows = []
        for token_id in token_ids:
            cache.append([token_id])
            if every_position:
                rows.append(self.speech(cache))
        return torch.stack(rows) if every_position else self.speech(cache).unsqueeze(0)

    def read(self, token_ids: Sequence[int], cache: FakeCache) -> None:
        self.prefill(token_ids, cache)

    def decode(self, token_ids: Sequence[int], caches: Sequence[FakeCache]) -> Decoded:
        assert len(caches) <= self.rows_per_step, "the loop asked for more rows than a step takes"
        self.before_decode(caches)
        self.decodes.append(len(caches))
        for token_id, one in zip(token_ids, caches, strict=True):
            one.append([token_id])
        return Decoded(torch.stack([self.speech(one) for one in caches]), [None] * len(caches))

    def decode_known(self, token_ids: Sequence[int], cache: FakeCache) -> Tensor:
        return self.prefill(token_ids, cache, every_position=True)

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        return torch.eye(self.vocab_size)[list(token_ids)]

    def memory_bytes(self) -> int:
        return 0

    @property
    def points(self) -> ModelPoints:
        return ModelPoints(0, {})

    def unembed(self, hidden: Tensor) -> Decoded:
        raise NotImplementedError

    @property
    def unembedding(self) -> Unembedding:
        raise NotImplementedError


class Gate:
    """Lets a decoder take so many steps and then holds it, so that a test decides what happens meanwhile."""

    def __init__(self) -> None:
        self._allowed = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)
        self._opened = False

    def __call__(self, *_: object) -> None:
        self.reached.release()
        if not self._opened:
            assert self._allowed.acquire(timeout=30), "the test never opened the gate"

    def step(self, times: int = 1) -> None:
        self._allowed.release(times)

    def wait(self) -> None:
        """Until the decoder stands at the gate."""
        assert self.reached.acquire(timeout=30), "the decoder never came to the gate"

    def open(self) -> None:
        self._opened = True
        self._allowed.release(1000)


def fake_model(
    decoder: FakeDecoder | None = None,
    *,
    context_length: int = 4096,
    name: str = "fake",
    tokenizer: Any | None = None,
    eos_ids: frozenset[int] = frozenset({EOS, IM_END, EOM}),
) -> LoadedModel:
    """A `LoadedModel` around a fake decoder and the byte tokenizer."""
    tokenizer = tokenizer or byte_tokenizer()
    needed = [field.name for field in fields(LoadedModel) if field.default is MISSING]
    facts: dict[str, Any] = dict.fromkeys(needed, 0)  # counts and sizes that nobody asks for
    facts |= {"precision": "float32", "architecture": "Fake", "folder": Path("/nowhere"), "name": name}
    facts |= {"tokenizer": tokenizer, "vocabulary": Vocabulary(tokenizer.backend_tokenizer), "eos_ids": eos_ids}
    return LoadedModel(**facts | {"decoder": decoder or FakeDecoder(), "context_length": context_length})
