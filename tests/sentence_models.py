"""Small random sentence models, saved by sentence-transformers, which also says what their vectors are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers import processors
from torch import Tensor

from tests.tiny_models import FAMILIES, bpe_tokenizer, llama_like, save_sentence_model
from workbench.engine.transformers_loading import quiet
from workbench.sentence_parts import LIST

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 42,
    "initializer_range": 0.3,
}
_BASES: dict[str, Callable[..., Any]] = {
    "roberta": lambda **sizes: transformers.RobertaConfig(**sizes, pad_token_id=1, type_vocab_size=1),
    "mpnet": lambda **sizes: transformers.MPNetConfig(**sizes, pad_token_id=1),
    "fnet": lambda **sizes: transformers.FNetConfig(**sizes, tpu_short_seq_length=42),
    "gemma3": lambda vocab_size, **_: transformers.Gemma3TextConfig(
        **FAMILIES["gemma3"](vocab_size).to_dict() | {"use_bidirectional_attention": True}
    ),
    "qwen3": lambda vocab_size, **_: FAMILIES["qwen3"](vocab_size),
    "llama": lambda vocab_size, **_: transformers.LlamaConfig(vocab_size=vocab_size, **llama_like(pad_token_id=1)),
    "gpt2": lambda vocab_size, **_: FAMILIES["gpt2"](vocab_size),
}
make_base: Any = transformers.AutoModel.from_config


def save_base(folder: Path, family: str, *, padding_side: str = "right", ends: bool = True) -> Path:
    """Write a random model of a family with its tokenizer, and return the folder; it is no sentence model yet.

    Args:
        ends: whether the tokenizer puts an end token behind each text.
    """
    if family == "bert":
        (save_sentence_model(folder) / LIST).unlink()
        (folder / "sentence_bert_config.json").unlink()
        return folder
    tokenizer = bpe_tokenizer()
    tokenizer.chat_template, tokenizer.padding_side, tokenizer.pad_token = None, padding_side, "<|im_start|>"
    if ends:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
        )
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(sum(family.encode()))
        make_base(_BASES[family](vocab_size=len(tokenizer), **_SMALL)).save_pretrained(folder)
    finally:
        torch.random.set_rng_state(state)
    tokenizer.save_pretrained(folder)
    return folder


def save_pipeline(folder: Path, base: Path, *modules: Any, options: dict[str, Any] | None = None, **more: Any) -> Path:
    """Write a sentence model of a base and the modules behind it, and return its folder.

    Args:
        options: for the Transformer.
        more: for the whole model, such as prompts.
    """
    with quiet():
        transformer = Transformer(str(base), **(options or {}))
        model: Any = SentenceTransformer(modules=[transformer, *modules], device="cpu", local_files_only=True, **more)
        model.save(str(folder), create_model_card=False)
    return folder


class Judge:
    """sentence-transformers' own vectors of the texts of a folder."""

    def __init__(self, folder: Path) -> None:
        with quiet():
            self.model: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def __call__(self, texts: Sequence[str], *, batch: int = 32) -> Tensor:
        vectors: Tensor = self.model.encode(
            list(texts), batch_size=batch, convert_to_tensor=True, show_progress_bar=False
        )
        return vectors
