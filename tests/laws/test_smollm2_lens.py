"""The Jacobian lens of the embedded model names the chosen token at an earlier layer than the logit lens.

Residual streams, norm and head are those of transformers; no text below was one that the lens was fitted to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.laws.test_smollm2 import reference
from workbench import catalog
from workbench.catalog.lenses import lens_path
from workbench.engine.insides.jacobian_lens import JacobianLens, read_lens

NAME = "smollm2-135m-instruct"

TEXTS = (
    "The capital of France is the city of", "The opposite of hot is", "Two plus two equals",
    "The largest planet of the solar system is called", "Romeo and Juliet was written by William",
    "Monday, Tuesday, Wednesday,", "The chemical symbol of water is", "He opened his umbrella because it started to",
    "import numpy as", "for i in range(10):\n    print(", "The cow jumped over the", "To be or not to be, that is the",
    "The Eiffel Tower stands in", "A dog barks, and a cat", "In the morning the sun rises in the",
    "The first president of the United States was George", "Ice is frozen", "She took a cup of tea and began to",
    "10, 20, 30, 40,", "The Great Wall is one of the wonders of",
)  # fmt: skip
QUESTIONS = (
    "What color is the sky?", "Name three fruits.", "How many legs does a spider have?",
    "What is the capital of Japan?", "Which animal is the king of the jungle?", "How do I boil an egg?",
)  # fmt: skip
TOKENS = 12
"""Tokens of each answer, all of which are read."""


class Reading(NamedTuple):
    """Streams at the positions that chose tokens, (layers, positions, hidden), and the chosen tokens, (positions,)."""

    streams: Tensor
    chosen: Tensor


@cache
def lens() -> JacobianLens:
    path = lens_path(NAME)
    assert path is not None
    return read_lens(path)


@cache
def readings(folder: Path) -> list[Reading]:
    import transformers

    model, tokenizer = reference(folder), transformers.AutoTokenizer.from_pretrained(folder)
    chats = (
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in QUESTIONS
    )
    return [_reading(model, tokenizer(text, add_special_tokens=False).input_ids) for text in (*TEXTS, *chats)]


@torch.inference_mode()
def _reading(model: Any, prompt: list[int]) -> Reading:
    """Read a prompt and its greedy answer."""
    ids = torch.tensor([prompt])
    whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
    output = model(whole[:, :-1], output_hidden_states=True, use_cache=False)
    first = len(prompt) - 1
    streams = torch.stack(output.hidden_states[1:-1])[:, 0, first:]  # the last of them is normed already
    return Reading(streams, output.logits[0, first:].argmax(-1))


def ranks(folder: Path, reading: Reading, transport: Callable[[int, Tensor], Tensor]) -> Tensor:
    """How many tokens are before the chosen one, shape (layers - 1, positions)."""
    model = reference(folder)
    rows = []
    with torch.inference_mode():
        for layer, states in enumerate(reading.streams):
            logits = model.lm_head(model.model.norm(transport(layer, states)))
            rows.append((logits > logits.gather(1, reading.chosen.unsqueeze(1))).sum(1))
    return torch.stack(rows)


def first_layers(folder: Path, transport: Callable[[int, Tensor], Tensor], within: int) -> list[int]:
    """The first layer at which each chosen token is among the top ``within``; the last if at no other."""
    found = []
    for reading in readings(folder):
        is_within = ranks(folder, reading, transport) < within
        last = torch.ones(1, is_within.shape[1], dtype=torch.bool)
        found += torch.cat([is_within, last]).int().argmax(0).tolist()
    return found


@pytest.mark.parametrize("within", [1, 10])
def test_the_jacobian_lens_reads_the_chosen_token_earlier_than_the_logit_lens(within: int, smollm2_path: Path) -> None:
    jacobian = first_layers(smollm2_path, lens().transport, within)
    logit = first_layers(smollm2_path, lambda _, states: states, within)
    print(
        f"\ntop {within}: first layer, median (mean) of {len(logit)} tokens: Jacobian lens {median(jacobian)} "
        f"({mean(jacobian):.1f}), logit lens {median(logit)} ({mean(logit):.1f})"
    )
    assert median(jacobian) < median(logit)
    assert mean(jacobian) < mean(logit)


def test_the_lens_belongs_to_the_embedded_model(smollm2_path: Path) -> None:
    config = reference(smollm2_path).config
    lens().check_model(config.num_hidden_layers, config.hidden_size)
    assert lens().facts.model == NAME
    assert lens().facts.weights_sha256 == catalog.weights_digest(smollm2_path)
    assert lens().facts.positions > 0
