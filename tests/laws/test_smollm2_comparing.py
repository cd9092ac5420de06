"""The embedded chat model beside itself: nearly the same in other bits, and of one mind under other settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench import Comparison, Workbench, expect
from workbench.protocol import SamplingParams, SamplingStrategy, UserMessage

QUESTION = "Why is the sky blue?"
MODELS = ["smollm2-135m-instruct", "rounded/smollm2-135m-instruct"]
GREEDY = SamplingParams(max_tokens=24)
WARM = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.2, top_p=0.95, seed=7, max_tokens=24)
PATIENCE_S = 200.0


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    """The model in the file's own four bits, and rounded anew to eight."""
    assert smollm2_path.is_dir()
    instances: list[dict[str, Any]] = [
        {
            "provider_id": provider_id,
            "provider_type": "inline::transformers",
            "config": {"models": MODELS[:1], "quantization": {"type": precision}},
        }
        for provider_id, precision in (("local", "int4"), ("rounded", "int8"))
    ]
    with Workbench({"image_name": "two", "providers": {"inference": instances}}) as bench:
        yield bench


def compared(bench: Workbench, *sides: tuple[str, SamplingParams]) -> Comparison:
    asked = [UserMessage(content=QUESTION)]
    runs = [bench.chat_completion([*asked], model=model, sampling_params=params) for model, params in sides]
    comparison = Comparison(runs)
    assert comparison.wait(PATIENCE_S)
    assert expect.divergence(runs[0], runs[1], position=comparison.divergence) == comparison.divergence
    return comparison


@pytest.mark.timeout(300)
def test_in_other_bits_the_distributions_lie_near_each_other_at_every_token(bench: Workbench) -> None:
    comparison = compared(bench, *((model, GREEDY) for model in MODELS))
    (pair,) = comparison.pairs
    print(f"\n{comparison}")
    assert len(pair.kl_nats) == (GREEDY.max_tokens if pair.divergence is None else pair.divergence.position + 1)
    assert all(0 < value < 0.1 for value in pair.kl_nats)
    assert pair.mean_kl_nats is not None
    assert pair.mean_kl_nats < 0.01


@pytest.mark.timeout(300)
def test_under_other_settings_only_the_choice_differs(bench: Workbench) -> None:
    comparison = compared(bench, (MODELS[0], GREEDY), (MODELS[0], WARM))
    (pair,) = comparison.pairs
    print(f"\n{comparison}")
    assert pair.divergence is not None
    assert pair.mean_kl_nats == pytest.approx(0.0, abs=1e-9)
