"""Architectures of many kinds, as small random models: answers are those of transformers, or a refusal says why.

`python -m scripts.zoo` asks the same of every causal architecture that transformers has; WORKBENCH_FULL_LAWS=1 here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.tiny_models import bpe_tokenizer, llama_like, save_config
from tests.tiny_structures import LONG_ROPE
from tests.zoo import Found, check, check_folder, kinds

DOZEN: dict[str, str] = {
    "bert": "",
    "bloom": "",
    "gemma": "",
    "gpt2": "",
    "gpt_oss": "",
    "jamba": "chunks, crop",
    "llama4_text": "",
    "mamba": "chunks, crop",
    "opt": "",
    "phimoe": "",
    "recurrent_gemma": "keep",
}
"""With what is switched off for each."""


@pytest.mark.parametrize("kind", sorted(DOZEN))
def test_a_dozen_of_diverse_architectures_is_right(tmp_path: Path, kind: str) -> None:
    found = check(kind, tmp_path)
    assert found.verdict == "clean", found.why
    assert found.why == DOZEN[kind]


FUSED = ("gemma2", "gemma3_text", "gpt_neox", "mixtral", "olmo2", "stablelm")
"""Structures that differ most from each other."""

ALSO_FUSED = (
    *("cohere", "cohere2", "gemma", "gpt2", "granite", "llama", "mistral", "olmo3", "phi", "phi3", "qwen2", "qwen3"),
    *("qwen3_moe", "smollm3", "starcoder2"),
)
"""The others that the fused step computes."""


@pytest.mark.parametrize("kind", FUSED)
def test_the_fused_step_is_right_for_diverse_structures(tmp_path: Path, kind: str) -> None:
    assert check(kind, tmp_path, fast=True) == Found("clean")


@pytest.mark.skipif(not os.environ.get("WORKBENCH_FULL_LAWS"), reason="takes minutes: WORKBENCH_FULL_LAWS=1")
@pytest.mark.parametrize("kind", ALSO_FUSED)
def test_the_fused_step_is_right_for_all_its_structures(tmp_path: Path, kind: str) -> None:
    assert check(kind, tmp_path, fast=True) == Found("clean")


@pytest.mark.parametrize("fast", [True, False])
def test_phi3_with_longrope_is_right(tmp_path: Path, *, fast: bool) -> None:
    rope = LONG_ROPE | {"original_max_position_embeddings": 128}
    make: Any = transformers.Phi3Config
    config = make(
        vocab_size=384, **llama_like(rope_parameters=rope, original_max_position_embeddings=128), sliding_window=None
    )
    found = check_folder(save_config(tmp_path, config, bpe_tokenizer()), fast=fast)
    assert (found.verdict, found.why) == ("clean", "")


@pytest.mark.skipif(not os.environ.get("WORKBENCH_FULL_LAWS"), reason="takes minutes: WORKBENCH_FULL_LAWS=1")
@pytest.mark.parametrize("kind", kinds())
def test_every_architecture_is_right_or_refused_by_name(tmp_path: Path, kind: str) -> None:
    found = check(kind, tmp_path)
    assert found.verdict in {"clean", "refused", "not made"}, found.why
