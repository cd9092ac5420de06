"""Judges of a decoder: transformers' own logits, and how near to them a decoder's are in float32."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from tests.tiny_models import bpe_tokenizer, save_config
from tests.tiny_structures import LONG_ROPE, VOCAB, Llama, shaped
from workbench.engine.decoders import Decoder

TOLERANCE = 1e-5
"""Of the largest logit, which is between 5 and 40 here: float32 cannot do better by more than a few of its steps."""


def some_ids(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(VOCAB) for _ in range(count)]


def check_equal(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert float((found.cpu() - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


def transformers_model(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits_by(model: Any, token_ids: list[int]) -> Tensor:
    """The logits of every position by one forward pass of a model of transformers, shape (tokens, vocab)."""
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([token_ids]), use_cache=False).logits[0]
    return logits


def check_rows_on_both_sides_of_longropes_border(folder: Path, decoder_of: Callable[[Path], Decoder]) -> None:
    """Texts that decode together have the angles of their own lengths."""
    config = shaped(Llama, rope_parameters=LONG_ROPE | {"original_max_position_embeddings": 24})
    decoder = decoder_of(save_config(folder, config, bpe_tokenizer(VOCAB), vectors=0.3))
    texts, model = [some_ids(count, count) for count in (10, 24, 25, 60)], transformers_model(folder)
    with torch.inference_mode():
        caches = [decoder.new_cache() for _ in texts]
        for text, cache in zip(texts, caches, strict=True):
            decoder.prefill(text[:-1], cache)
        together = decoder.decode([text[-1] for text in texts], caches).logits
    for row, text in enumerate(texts):
        check_equal(together[row : row + 1], logits_by(model, text)[-1:])
