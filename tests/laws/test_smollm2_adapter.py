"""The embedded chat model with a LoRA adapter writes what peft writes with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny_adapters import applied, greedy_ids, logits_of, save_adapter
from workbench.engine.loading import LoadedModel, load
from workbench.engine.scheduler import Engine

PROMPT = "The lighthouse keeper"
MODULES = ["q_proj", "v_proj", "o_proj", "down_proj"]


@pytest.fixture(scope="module")
def adapter(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes what the model says."""
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    return save_adapter(folder, smollm2_path, r=8, lora_alpha=16, spread=0.02, target_modules=MODULES)


def logits(model: LoadedModel, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        return model.decoder.prefill(ids, model.decoder.new_cache(), every_position=True)


def test_ids_and_logits_are_those_of_peft(smollm2_path: Path, adapter: Path, smollm2_engine: Engine) -> None:
    model = load(smollm2_path, adapter=adapter)
    prompt = model.tokenizer.backend_tokenizer.encode(PROMPT).ids
    judge = applied(smollm2_path, adapter)
    ids = greedy_ids(judge, prompt, 16)
    expected = logits_of(judge, [*prompt, *ids])
    found = logits(model, [*prompt, *ids])
    assert found[len(prompt) - 1 : -1].argmax(-1).tolist() == ids
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    unchanged = logits(smollm2_engine.model, [*prompt, *ids])
    assert unchanged[len(prompt) - 1 : -1].argmax(-1).tolist() != ids
