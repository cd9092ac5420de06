"""The Jacobian lens of the embedded model names the chosen word at an earlier layer than the logit lens.

Residual streams, norm and head are those of transformers; no text below was one that the lens was fitted to. Tokens
that are frequent in any text, such as commas and articles, are left out: the logit lens of most layers has them at its
top wherever it looks, and is often right about them without having read anything.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
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
"""Tokens of each answer."""

FREQUENT = 1000
"""Ids below it are frequent tokens: a tokenizer's merges are in the order of their frequency."""


Transport = Callable[[int, Tensor], Tensor]


class Reading(NamedTuple):
    """Streams at the positions that chose words, (layers - 1, positions, hidden), and these tokens, (positions,)."""

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
    chosen = output.logits[0, first:].argmax(-1)
    return Reading(streams[:, chosen >= FREQUENT], chosen[chosen >= FREQUENT])


@cache
def ranks(folder: Path, transport: Transport) -> Tensor:
    """How many tokens are before the chosen one, shape (layers - 1, positions of all readings)."""
    model = reference(folder)
    found = []
    with torch.inference_mode():
        for streams, chosen in readings(folder):
            moved = torch.stack([transport(layer, states) for layer, states in enumerate(streams)])
            logits = model.lm_head(model.model.norm(moved))  # (layers - 1, positions, vocab)
            own = logits.gather(2, chosen.expand(len(logits), -1).unsqueeze(2))
            found.append((logits > own).sum(2))
    return torch.cat(found, 1)


def first_layers(folder: Path, transport: Transport, within: int) -> Tensor:
    """The first layer at which each chosen token is among the top ``within``; the last if at no other."""
    is_within = ranks(folder, transport) < within
    last = torch.ones(1, is_within.shape[1], dtype=torch.bool)
    return torch.cat([is_within, last]).int().argmax(0)


def middle(layers: Tensor) -> str:
    return f"{layers.median()} ({layers.float().mean():.1f})"


def jacobian_lens(layer: int, states: Tensor) -> Tensor:
    return lens().transport(layer, states)


def reversed_lens(layer: int, states: Tensor) -> Tensor:
    return lens().transport(lens().layers - 2 - layer, states)


def logit_lens(_layer: int, states: Tensor) -> Tensor:
    return states


@pytest.mark.timeout(600)
@pytest.mark.parametrize("within", [1, 10])
def test_the_jacobian_lens_reads_the_chosen_word_earlier_than_the_logit_lens(within: int, smollm2_path: Path) -> None:
    jacobian, logit = (first_layers(smollm2_path, one, within) for one in (jacobian_lens, logit_lens))
    figures = f"Jacobian lens {middle(jacobian)}, logit lens {middle(logit)}"
    print(f"\n{len(logit)} words, first layer in the top {within}, median (mean): {figures}")
    assert len(logit) > 50
    assert jacobian.median() < logit.median()
    assert (jacobian < logit).sum() > 2 * (jacobian > logit).sum()


@pytest.mark.timeout(600)
def test_matrices_of_other_layers_read_it_later(smollm2_path: Path) -> None:
    """A lens whose matrices are in the wrong order is noticed by the law above."""
    right, wrong = (first_layers(smollm2_path, one, 10) for one in (jacobian_lens, reversed_lens))
    assert right.median() < wrong.median()


def test_the_lens_belongs_to_the_embedded_model(smollm2_path: Path) -> None:
    config = reference(smollm2_path).config
    lens().check_model(config.num_hidden_layers, config.hidden_size)
    assert lens().facts.model == NAME
    assert lens().facts.weights_sha256 == catalog.weights_digest(smollm2_path)
    assert lens().facts.positions > 0
