"""A provider whose models are computed as a device computes them answers as the CPU's own decoders do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.protocol import SamplingParams, SamplingStrategy
from workbench.providers.transformers import TransformersProvider

Make = Callable[..., TransformersProvider]


async def test_answers_and_embeddings_are_those_of_the_cpu(provider_of: Make, tiny_folders: dict[str, Path]) -> None:
    folder = tiny_folders["llama"]
    plain, device = (provider_of(folder, device=name) for name in ("cpu", "torch:cpu"))
    for params in (
        SamplingParams(max_tokens=16),
        SamplingParams(max_tokens=16, strategy=SamplingStrategy.top_p, temperature=0.8, top_p=0.9),
        SamplingParams(max_tokens=16, repetition_penalty=1.3),
    ):
        answers: list[Any] = [
            await provider.completion("tiny-llama", "The quick", params.model_copy(update={"seed": 5}))
            for provider in (plain, device)
        ]
        assert answers[0] == answers[1]
    found, expected = [
        (await provider.embeddings("tiny-llama", ["The quick brown fox"])).embeddings[0] for provider in (device, plain)
    ]
    assert found == pytest.approx(expected, abs=1e-5)
    card = device.card("tiny-llama")
    assert (card.decoder, card.precision) == ("device", "float32")
    assert plain.card("tiny-llama").decoder == "fused"
