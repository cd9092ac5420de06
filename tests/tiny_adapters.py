"""LoRA adapters of small models, made and applied with peft: real files, and a judge of what they compute."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import Tensor

make_config: Any = peft.LoraConfig
get_peft_model: Any = peft.get_peft_model
load_adapter: Any = peft.PeftModel.from_pretrained
VISION: Any = transformers.AutoModelForImageTextToText
_CAUSAL: Any = transformers.AutoModelForCausalLM


@contextmanager
def peft_warnings_ignored() -> Iterator[None]:
    """Ignore what peft warns of in training: tied weights, embeddings that are saved, options that it corrects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save_adapter(
    folder: Path, base: Path, *, seed: int = 0, spread: float = 0.2, kind: Any = _CAUSAL, **options: Any
) -> Path:
    """Write an adapter with random weights for a model's folder, as peft writes it after training; return its folder.

    Args:
        kind: one of transformers' auto classes.
        options: arguments of ``LoraConfig``.
    """
    config = make_config(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"} | options)
    generator = torch.Generator().manual_seed(seed)
    with peft_warnings_ignored():
        model = get_peft_model(kind.from_pretrained(base, dtype=torch.float32), config)
        for name, parameter in model.named_parameters():
            noise = spread * torch.randn(parameter.shape, generator=generator)
            if "lora_magnitude_vector" in name:
                parameter.data *= 1 + noise
            elif "lora_" in name:
                parameter.data = noise
            elif parameter.requires_grad:
                parameter.data += noise
        model.save_pretrained(folder)
    return folder


def applied(base: Path, adapter: Path, kind: Any = _CAUSAL) -> Any:
    """Return peft's own model, which applies the adapter beside the weights instead of merging it."""
    with peft_warnings_ignored():
        return load_adapter(kind.from_pretrained(base, dtype=torch.float32), adapter).eval()


@torch.inference_mode()
def logits_of(model: Any, token_ids: list[int]) -> Tensor:
    """Return a model's logits at every position, float32, shape (tokens, vocab)."""
    found: Tensor = model(torch.tensor([token_ids])).logits[0].float()
    return found


@torch.inference_mode()
def greedy_ids(model: Any, token_ids: list[int], count: int) -> list[int]:
    """Return the most probable next tokens, by transformers' ``generate``."""
    prompt = torch.tensor([token_ids])
    ids = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
    )
    found: list[int] = ids[0, len(token_ids) :].tolist()
    return found
