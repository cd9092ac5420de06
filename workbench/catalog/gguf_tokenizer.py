"""Conversion of a GGUF file's tokenizer to ``tokenizer.json`` and ``tokenizer_config.json``.

transformers can read it too, but for some families it ignores the file's pre-tokenizer (``tokenizer.ggml.pre``): SmolLM
splits every digit off, which changes the ids of text such as two blanks before a number. So it is built here from the
file's own fields, with the ``tokenizers`` package alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from workbench.catalog.gguf_vocabularies import adds_bos, byte_level_tokenizer, listed, piece_tokenizer
from workbench.gguf_files.tokenizers import check_tokenizer

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types: never part of text, and text that is always one token
_NAMED_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def write_tokenizer(
    fields: Mapping[str, Any], folder: Path, context_length: int, *, ranks_by_place: bool = False
) -> None:
    """Write both files into ``folder``.

    Args:
        ranks_by_place: whether pieces of a SentencePiece model are merged in the order of the file, as Gemma's are,
            whose scores have another order.

    Raises:
        ValueError: the tokenizer is neither byte-level BPE nor a SentencePiece BPE, or a part of it is not known.
    """
    check_tokenizer(fields)
    tokens = _checked_tokens(fields)
    types: list[int] = list(listed(fields, "tokenizer.ggml.token_type", int) or [1] * len(tokens))
    if len(types) != len(tokens):
        raise ValueError(f"tokenizer.ggml.token_type has {len(types)} values for {len(tokens)} tokens")
    if fields["tokenizer.ggml.model"] == "gpt2":
        tokenizer = byte_level_tokenizer(fields, tokens)
    else:
        tokens, tokenizer = piece_tokenizer(fields, tokens, types, ranks_by_place=ranks_by_place)
    kinds = list(zip(tokens, types, strict=True))
    controls = [AddedToken(token, normalized=False, special=True) for token, one in kinds if one == _CONTROL]
    tokenizer.add_special_tokens(controls)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token, one in kinds if one == _USER_DEFINED])
    config = _config(fields, tokens, types, context_length)
    _add_outer_tokens(tokenizer, fields, config)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8", newline="\n"
    )


def _checked_tokens(fields: Mapping[str, Any]) -> list[str]:
    tokens = listed(fields, "tokenizer.ggml.tokens", str)
    if not tokens:
        raise ValueError("it has no vocabulary (tokenizer.ggml.tokens)")
    if len(set(tokens)) < len(tokens):
        raise ValueError("two of the tokens in tokenizer.ggml.tokens have one text")
    return list(tokens)


def _add_outer_tokens(tokenizer: Tokenizer, fields: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Make the tokenizer begin texts with BOS and end them with EOS, as the file says or llama.cpp assumes."""
    begins = fields.get("tokenizer.ggml.add_bos_token")
    if begins is None:
        begins = fields.get("tokenizer.ggml.model") == "llama" or adds_bos(fields)
    ends = fields.get("tokenizer.ggml.add_eos_token") or False
    bos, eos = config.get("bos_token") if begins else None, config.get("eos_token") if ends else None
    if bos is None and eos is None:
        return
    named = [(token, tokenizer.token_to_id(token)) for token in (bos, eos) if token is not None]
    single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=list(dict(named).items()))


def _config(fields: Mapping[str, Any], tokens: list[str], types: list[int], context_length: int) -> dict[str, Any]:
    named = {}
    for name, key in _NAMED_TOKENS.items():
        token_id = fields.get(f"tokenizer.ggml.{key}")
        if token_id is None:
            continue
        if not isinstance(token_id, int) or not 0 <= token_id < len(tokens):
            raise ValueError(f"tokenizer.ggml.{key} is {token_id!r}, which is no token; there are {len(tokens)}")
        named[name] = tokens[token_id]
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
