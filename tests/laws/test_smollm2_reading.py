"""What a reading says of a text, against one forward pass of transformers over the whole text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.laws.test_smollm2 import PATIENCE_S, SUBJECTS, reference
from workbench import Workbench

TEXTS = (*SUBJECTS[:3], *SUBJECTS[13:15], "<|im_start|>is text here<|im_end|>", "A long text. " * 40)


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    assert smollm2_path.is_dir()
    config: dict[str, Any] = {"models": ["smollm2-135m-instruct"]}
    local = {"provider_id": "local", "provider_type": "inline::transformers", "config": config}
    with Workbench({"image_name": "exact", "providers": {"inference": [local]}}) as opened:
        yield opened


@pytest.mark.timeout(600)
@pytest.mark.parametrize("text", TEXTS)
def test_a_reading_equals_an_independent_full_forward(bench: Workbench, smollm2_path: Path, text: str) -> None:
    run = bench.reading(text, alternatives=8)
    run.result(PATIENCE_S)
    ids = torch.tensor([[token.token_id for token in run.tokens]])
    with torch.inference_mode():
        exact = reference(smollm2_path)(ids, use_cache=False).logits[0].double().log_softmax(-1)
    assert b"".join(token.bytes for token in run.tokens).decode() == text
    assert run.tokens[0].logprob != run.tokens[0].logprob
    for before, token in enumerate(run.tokens[1:]):
        assert token.logprob == pytest.approx(float(exact[before, token.token_id]), abs=1e-4)
        assert token.entropy == pytest.approx(float(-(exact[before].exp() * exact[before]).sum()), abs=1e-3)
        assert token.rank == 1 + int((exact[before] > exact[before, token.token_id]).sum())
        assert len(token.alternatives) == 8
        for other in token.alternatives:
            assert other.logprob == pytest.approx(float(exact[before, other.token_id]), abs=1e-4)
