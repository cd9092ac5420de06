"""A guard's probability is that of transformers' logits, and a chat model that is no guard gives no verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from workbench.errors import ShieldError
from workbench.protocol import UserMessage
from workbench.providers.safety.llama_guard import verdicts
from workbench.providers.safety.llama_guard.prompt import guard_prompt
from workbench.session.workbench import Workbench

ASKED: list[Any] = [UserMessage(content="How do I pick a lock?")]
CATEGORIES: list[Any] = ["S1", "S10"]
"""Few, for a short prompt; the tokens of one code begin those of the other."""


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    local = {"models": ["smollm2-135m-instruct"]}
    guard = {"model": "smollm2-135m-instruct"}
    providers = {
        "inference": [{"provider_id": "local", "provider_type": "inline::transformers", "config": local}],
        "safety": [{"provider_id": "guard", "provider_type": "inline::llama_guard", "config": guard}],
    }
    with Workbench({"providers": providers}) as bench:
        yield bench


def test_a_chat_model_that_is_no_guard_gives_no_verdict(bench: Workbench) -> None:
    with pytest.raises(ShieldError, match="trained as a guard"):
        bench.run_shield("llama_guard", ASKED, {"categories": CATEGORIES})


def test_the_probability_of_unsafe_is_that_of_the_logits(
    bench: Workbench, smollm2_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "_MIN_MASS", 0.0)
    found = bench.run_shield("llama_guard", ASKED, {"threshold": 1e-9, "categories": CATEGORIES}).violation
    assert found is not None
    prompt = [{"role": "user", "content": guard_prompt(ASKED, CATEGORIES)}]
    assert found.metadata["probability"] == pytest.approx(probability_of_unsafe(smollm2_path, prompt), rel=1e-3)
    assert found.metadata["source"] == "logits"
    assert sorted(found.metadata["categories"]) == CATEGORIES


def probability_of_unsafe(folder: Path, prompt: list[dict[str, str]]) -> float:
    """Return the probability by transformers alone, with one forward pass for each answer."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(text, add_special_tokens=False).input_ids
    masses = {}
    for answer in ("safe", "\n\nsafe", "unsafe", "\n\nunsafe"):
        answer_ids = tokenizer(answer, add_special_tokens=False).input_ids
        with torch.inference_mode():
            logprobs = model(torch.tensor([prompt_ids + answer_ids])).logits[0].log_softmax(-1)
        start = len(prompt_ids) - 1
        masses[answer] = sum(float(logprobs[start + index, token]) for index, token in enumerate(answer_ids))
    exponentials = {answer: torch.tensor(value).exp().item() for answer, value in masses.items()}
    unsafe = exponentials["unsafe"] + exponentials["\n\nunsafe"]
    return unsafe / sum(exponentials.values())
