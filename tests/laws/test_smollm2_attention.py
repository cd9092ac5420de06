"""The attention of the embedded model: one row and the numbers of all heads, against transformers' own weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.exact_logits import transformers_model
from tests.unit.widgets.recorded_page import recorded_page
from workbench import SamplingParams, Workbench
from workbench.widgets import AttentionView

TEXT = "The cat sat on the mat. The dog lay on the rug. The cat sat on the"
LAYERS, HEADS = 30, 9
LOCAL = {"models": ["smollm2-135m-instruct"]}
CONFIG = {
    "providers": {"inference": [{"provider_id": "local", "provider_type": "inline::transformers", "config": LOCAL}]}
}


@pytest.fixture(scope="module")
def run(smollm2_path: Path) -> Iterator[Any]:
    assert smollm2_path.exists()
    with Workbench(CONFIG) as bench:
        yield bench.completion(TEXT, sampling_params=SamplingParams(max_tokens=6))


@pytest.fixture(scope="module")
def weights(smollm2_path: Path, run: Any) -> Any:
    """The attention weights of transformers, shape (layers, heads, tokens, keys)."""
    run.result()
    model = transformers_model(smollm2_path)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        found = model(torch.tensor([list(run.insides.token_ids)]), output_attentions=True).attentions
    return torch.cat(found).numpy()


@pytest.mark.parametrize("layer, head, position", [(0, 0, 0), (4, 2, 7), (17, 8, 19), (29, 5, 23)])
def test_a_row_is_that_of_transformers(run: Any, weights: Any, layer: int, head: int, position: int) -> None:
    row = run.attention_row(layer, head, position)
    assert len(row) == position + 1
    assert np.allclose(row, weights[layer, head, position, : position + 1], atol=1e-4)
    assert np.allclose(row, run.attention(layer, head).iloc[position, : position + 1], atol=1e-5)


def test_the_numbers_of_all_heads_are_those_of_transformers(run: Any, weights: Any) -> None:
    frame = run.attention_heads()
    assert frame.shape == (LAYERS * HEADS, 5)
    assert np.allclose(frame.on_first, weights[:, :, 1:, 0].mean(-1).ravel(), atol=1e-4)
    at = np.arange(1, weights.shape[-1])
    assert np.allclose(frame.on_previous, weights[:, :, at, at - 1].mean(-1).ravel(), atol=1e-4)
    entropy = -(weights * np.log(np.maximum(weights, 1e-30))).sum(-1)[:, :, 1:].mean(-1)
    assert np.allclose(frame.entropy, entropy.ravel(), atol=1e-3)
    some = run.attention_heads([3, 17], [2, 5, 9])
    assert list(some.layer.unique()) == [3, 17]
    assert np.allclose(some.on_first, weights[[3, 17]][:, :, [2, 5, 9], 0].mean(-1).ravel(), atol=1e-4)


def test_the_view_shows_these_numbers(run: Any, weights: Any) -> None:
    with recorded_page():
        view = AttentionView(run)
        view.layer, view.head, view.position = 4, 2, 12
        assert view.wait(100)
        assert view.message == ""
        assert np.allclose(view.row["weights"], weights[4, 2, 12, :13], atol=1e-4)
        shown = np.array(view.heads, np.float64)
        assert shown.shape == (LAYERS, HEADS, 3)
        assert np.allclose(shown[..., 0], weights[:, :, 1:, 0].mean(-1), atol=1e-4)
