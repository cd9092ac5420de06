"""Small random text classifiers in Hugging Face layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.tiny_models import bpe_tokenizer

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "initializer_range": 0.3,
}

CONFIGS = {
    "bert": transformers.BertConfig,
    "deberta": transformers.DebertaV2Config,
    "roberta": transformers.RobertaConfig,
}

PROMPT_GUARD = ("BENIGN", "INJECTION", "JAILBREAK")


def save_classifier(folder: Path, family: str = "bert", labels: tuple[str, ...] = PROMPT_GUARD, **more: Any) -> Path:
    """Write a random classifier with these labels and a byte-level tokenizer, and return the folder."""
    tokenizer = bpe_tokenizer()
    names = dict(enumerate(labels))
    config = CONFIGS[family](
        vocab_size=len(tokenizer),
        id2label=names,
        label2id={name: index for index, name in names.items()},
        **_SIZES,
        **more,
    )
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(sum(family.encode()))
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    finally:
        torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
