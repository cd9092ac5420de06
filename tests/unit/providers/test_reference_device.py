"""A provider whose models are computed as a device computes them answers as the CPU's own decoders do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_models import bpe_tokenizer, save_config
from tests.tiny_structures import VOCAB, Llama, shaped
from workbench.engine import loading
from workbench.engine.devices import DeviceChoice
from workbench.engine.on_device.forward import Forward
from workbench.protocol import SamplingParams, SamplingStrategy
from workbench.providers.transformers import TransformersProvider, cards

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


def test_the_card_of_a_model_that_auto_computes_elsewhere_says_why(
    provider_of: Make, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = provider_of(tiny_folders["llama"], quantization={"type": "int4"})
    found = [DeviceChoice("torch:cpu", "the first"), DeviceChoice("cpu", "the last")]
    monkeypatch.setattr(loading, "candidates", lambda _: found)
    monkeypatch.setattr(cards, "choose", lambda *_: found[0])
    before = provider.card("tiny-llama")
    assert (before.device, before.device_why, before.precision, before.decoder) == (
        "torch:cpu", "the first", "bf16", "device",
    )  # fmt: skip
    monkeypatch.setattr(Forward, "logits", lambda forward, hidden: torch.randn(*hidden.shape[:-1], 384))
    provider.load("tiny-llama")
    card = provider.card("tiny-llama")
    assert (card.device, card.precision, card.decoder, card.device_proof) == ("cpu", "int4", "fused", None)
    assert card.device_why is not None
    assert card.device_why.startswith("cpu computes other logits in bfloat16 than the CPU in float32: ")


def test_an_odd_width_is_computed_by_the_decoder_of_devices(provider_of: Make, tmp_path: Path) -> None:
    folder = save_config(tmp_path / "odd", shaped(Llama, intermediate_size=45), bpe_tokenizer(VOCAB))
    for device, decoder in (("cpu", "general"), ("torch:cpu", "device")):
        provider = provider_of(folder, device=device)
        assert provider.card("odd").decoder == decoder
        provider.load("odd")
        assert provider.card("odd").decoder == decoder
