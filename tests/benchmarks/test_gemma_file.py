"""Gemma 3 270M from its GGUF file of Q4_K_M: exactly its numbers, and nearer to them than llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fakes.listening import submit
from workbench import catalog
from workbench.benchmarks.exactness import divergence
from workbench.benchmarks.gemma import install_gemma_file
from workbench.benchmarks.llama_cpp import LlamaCppContestant
from workbench.benchmarks.transformers_generate import TransformersContestant
from workbench.engine.loading import load
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine

PROMPTS, TOKENS = 20, 32
COMPARED, COMPARED_TOKENS = 4, 12
"""Texts whose distributions are compared; llama.cpp needs seconds for those of each token."""

PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def file() -> Path:
    return install_gemma_file(print)


@pytest.fixture(scope="module")
def reference(file: Path) -> Iterator[TransformersContestant]:
    """The file's dequantized weights in transformers, which reads the file by itself."""
    contestant = TransformersContestant(catalog.resolve(str(file)), "float32")
    yield contestant
    contestant.close()


def prompts(folder: Path) -> list[list[int]]:
    from workbench.engine.transformers_loading import load_tokenizer

    tokenizer = load_tokenizer(folder)
    subjects = ["rain", "bread", "the moon", "a kernel", "trade", "maps", "winter", "glass", "bees", "a train"]
    texts = [text.format(subject) for subject in subjects for text in ("Once upon a time, {}", "The history of {} is")]
    return [list(tokenizer(text)["input_ids"]) for text in texts[:PROMPTS]]


def most_probable(reference: TransformersContestant, ids: list[int]) -> list[int]:
    """Return the most probable token after each of ``ids``, from one forward pass."""
    with torch.inference_mode():
        logits: Tensor = reference._model(torch.tensor([ids]), use_cache=False).logits[0]
    return logits.argmax(-1).tolist()


@pytest.mark.timeout(1200)
def test_the_ids_are_those_of_transformers_over_the_dequantized_weights(
    file: Path, reference: TransformersContestant
) -> None:
    folder = catalog.resolve(str(file))
    engine = Engine(load(folder, precision="float32"))
    texts = prompts(folder)
    running = [
        submit(engine, GenerationRequest(prompt_ids=tuple(text), max_tokens=TOKENS, stop_ids=frozenset()))[1]
        for text in texts
    ]
    for text, heard in zip(texts, running, strict=True):
        ids = heard.wait(PATIENCE_S).ids
        assert len(ids) == TOKENS
        assert ids == most_probable(reference, [*text, *ids[:-1]])[len(text) - 1 :]
    engine.close()


@pytest.mark.timeout(1200)
def test_the_files_own_precision_is_nearer_to_them_than_llama_cpp(
    file: Path, reference: TransformersContestant
) -> None:
    folder = catalog.resolve(str(file))
    decoder = load(folder, precision="file").decoder
    rival = LlamaCppContestant(file, 256) if find_spec("xllamacpp") else None
    ours: list[float] = []
    theirs: list[float] = []
    for seed, text in enumerate(prompts(folder)[:COMPARED]):
        ids, expected = reference.sample(text, COMPARED_TOKENS, seed)
        cache = decoder.new_cache()
        with torch.inference_mode():
            rows = [decoder.prefill(text, cache)[0], *(decoder.decode([one], [cache]).logits[0] for one in ids[:-1])]
        ours += [divergence(row, found) for row, found in zip(expected, rows, strict=True)]
        if rival is not None:
            theirs += [divergence(row, found) for row, found in zip(expected, rival.forced(text, ids), strict=True)]
    kl = sum(ours) / len(ours)
    print(f"\nKL from the dequantized weights, {len(ours)} tokens: {kl:.2e} nat")
    assert kl <= 1e-4
    if rival is not None:
        print(f"llama.cpp: {sum(theirs) / len(theirs):.2e} nat")
        assert kl < sum(theirs) / len(theirs)
        rival.close()
