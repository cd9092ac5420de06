"""Lenses and parts of logits in every decoder: the last layer says what the model says, and parts sum to a logit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.inside_judges import GENERAL, RECURRENT, TOLERANCE, captured
from tests.tiny_models import FAMILIES
from tests.zoo_models import VOCAB, small_model
from workbench.engine.decoders import GeneralDecoder
from workbench.engine.insides.contributions import contributions
from workbench.engine.insides.lens import LensReader
from workbench.engine.loading import load
from workbench.engine.logprobs import TokenStats
from workbench.insides import Point

IDS = [(11 * index + 5) % VOCAB for index in range(18)]


def check(decoder: Any) -> None:
    points = decoder.points
    numbers = captured(decoder, IDS, parts=(9,))
    logits = numbers[Point("lm_head")]
    layers = points.layers
    last = numbers[Point("resid_post", layers - 1)]
    with torch.inference_mode():
        assert close(decoder.unembed(last).logits.cpu(), logits)
        middle = ("resid_mid", "resid_post") if "resid_mid" in points.sizes else ("resid_post",)
        kinds = [Point("resid_pre", 0), *(Point(kind, layer) for layer in range(layers) for kind in middle)]
        for position in (2, 17):
            stream = torch.stack([numbers[point][position].double() for point in kinds])
            found = contributions(decoder.unembedding, torch.cat([stream[:1], stream.diff(dim=0)]), 33)
            assert found.logit == pytest.approx(
                float(logits[position, 33]), abs=1e-4 * max(1.0, float(logits.abs().max()))
            )
        reader = LensReader(decoder, IDS[:9], alternatives=2)
        columns: dict[int, list[TokenStats]] = {}
        while reader.length < len(IDS) - 1:
            columns |= reader.advance(IDS, 9)
        expected = logits.double().log_softmax(-1)
        for index in range(9, len(IDS)):
            assert columns[index][-1].logprob == pytest.approx(float(expected[index - 1, IDS[index]]), abs=1e-3)
            assert len(columns[index]) == layers


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("kind", [*GENERAL, *RECURRENT])
def test_lens_and_parts_of_models_of_transformers(kind: str) -> None:
    check(GeneralDecoder(small_model(kind)))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("how", ["fused", "general", "device"])
def test_lens_and_parts_of_families(family_folder: Callable[[str], Path], family: str, how: str, device: str) -> None:
    place = ("torch:cpu" if device == "cpu" else device) if how == "device" else "cpu"
    check(load(family_folder(family), fast=how != "general", device=place).decoder)
