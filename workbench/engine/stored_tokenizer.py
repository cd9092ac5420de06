"""Rust tokenizers as tensors, in a form that is read faster than their JSON.

The ``tokenizers`` package reads a large BPE model slowly from JSON, and takes it faster as Python objects. So tokens
and merges are stored apart, the merges as pairs of ids. A tokenizer whose JSON would not be the same again is stored as
its JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models
from torch import Tensor

from workbench.garbage import paused_collections

_JSON, _TOKENS, _MERGES = "tokenizer", "tokenizer tokens", "tokenizer merges"


def tokenizer_tensors(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Return the tensors from which `stored_tokenizer` makes an equal tokenizer, by name."""
    whole = tokenizer.to_str()
    split = _split(json.loads(whole))
    if split is not None and stored_tokenizer(split).to_str() == whole:
        return split
    return {_JSON: _text_tensor(whole)}


def stored_tokenizer(tensors: Mapping[str, Tensor]) -> Tokenizer:
    """Return a tokenizer from the tensors of `tokenizer_tensors`, which may be among others."""
    if _MERGES not in tensors:
        return Tokenizer.from_buffer(tensors[_JSON].numpy().tobytes())
    described, tokens = _value(tensors[_JSON]), _value(tensors[_TOKENS])
    tokenizer = Tokenizer.from_str(json.dumps(described["frame"]))
    with paused_collections():
        vocabulary = dict(zip(tokens, range(len(tokens)), strict=True))
        left, right = (map(tokens.__getitem__, part.tolist()) for part in tensors[_MERGES])
        merges = list(zip(left, right, strict=True))
        tokenizer.model = models.BPE(vocab=vocabulary, merges=merges, **described["model"])
        del merges
    tokenizer.add_tokens([AddedToken(**token) for token in described["added_tokens"]])
    return tokenizer


def _split(content: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return the tensors of a BPE tokenizer whose ids have no gaps; None for any other one."""
    model, added = content["model"], content["added_tokens"]
    if model.pop("type") != "BPE":
        return None
    vocabulary, merges = model.pop("vocab"), model.pop("merges")
    if list(vocabulary.values()) != list(range(len(vocabulary))):
        return None
    frame = content | {"added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    for token in added:
        del token["id"]
    options = {name: value for name, value in model.items() if value is not None}
    described = {"frame": frame, "model": options, "added_tokens": added}
    return {
        _JSON: _text_tensor(json.dumps(described)),
        _TOKENS: _text_tensor(json.dumps(list(vocabulary), ensure_ascii=False)),
        _MERGES: torch.tensor([[vocabulary[pair[side]] for pair in merges] for side in (0, 1)], dtype=torch.int32),
    }


def _text_tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _value(text: Tensor) -> Any:
    return json.loads(text.numpy().tobytes())
