"""Conversion of a GGUF file's tokenizer to ``tokenizer.json`` and ``tokenizer_config.json``.

transformers can read it too, but for this family it ignores the file's pre-tokenizer (``tokenizer.ggml.pre``): SmolLM
splits every digit off, which changes the ids of text such as two blanks before a number. So it is built here from the
file's own fields, with the ``tokenizers`` package alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types: never part of text, and text that is always one token
_NAMED_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def write_tokenizer(fields: Mapping[str, Any], folder: Path, context_length: int) -> None:
    """Write both files into ``folder``; raise ValueError unless the tokenizer is byte-level BPE."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    if fields.get("tokenizer.ggml.model") != "gpt2":
        raise ValueError(
            f"tokenizer of kind {fields.get('tokenizer.ggml.model')!r}; only byte-level BPE (gpt2) is supported"
        )
    if fields.get("tokenizer.ggml.add_bos_token") or fields.get("tokenizer.ggml.add_eos_token"):
        raise ValueError("a tokenizer that adds BOS or EOS by itself is not supported")
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = _pre_tokenizer(fields.get("tokenizer.ggml.pre", "default"))
    tokenizer.decoder = decoders.ByteLevel()
    types: list[int] = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    for token, kind in zip(tokens, types, strict=True):
        if kind == _CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = _config(fields, tokens, types, context_length)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8", newline="\n"
    )


def _pre_tokenizer(name: str) -> PreTokenizer:
    from tokenizers import pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name in ("default", "gpt-2"):
        return byte_level
    raise ValueError(f"pre-tokenizer {name!r}; only smollm, gpt-2 and default are supported")


def _config(fields: Mapping[str, Any], tokens: list[str], types: list[int], context_length: int) -> dict[str, Any]:
    named = {
        name: tokens[fields[f"tokenizer.ggml.{key}"]]
        for name, key in _NAMED_TOKENS.items()
        if f"tokenizer.ggml.{key}" in fields
    }
    rest = [t for t, kind in zip(tokens, types, strict=True) if kind == _CONTROL and t not in named.values()]
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": rest,
        **named,
    }
    if template := fields.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return config
