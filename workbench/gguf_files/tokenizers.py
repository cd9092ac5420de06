"""Tokenizers that GGUF files name and that can be built: their kinds, and how byte-level ones cut texts.

Nothing here needs the package ``tokenizers``, so that the list of models on this machine refuses what opening refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from workbench.errors import shortened

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"
_SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class Split(NamedTuple):
    """How a byte-level vocabulary cuts texts before it merges."""

    pattern: str | None = None
    """Regular expression; None is GPT-2's."""
    digits: bool = False
    """Whether each digit is cut off first."""
    ignores_merges: bool = False
    """Whether a part that is a token is taken as it is."""
    begins: bool = False
    """Whether texts begin with BOS, unless the file says otherwise."""
    composes: bool = False
    """Whether texts are normalized to NFC."""


_GPT2 = Split()
_DIGITS = Split(digits=True)
_LLAMA3 = Split(rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}", ignores_merges=True, begins=True)
_DBRX = Split(rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}")
_QWEN2 = Split(rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}", composes=True)
_STABLELM2 = Split(rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}")
_TEKKEN = Split(
    rf"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*|\p{{N}}|{_SLASHES}", ignores_merges=True, begins=True
)

_SPLITS: Mapping[str, Split] = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "olmo": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "dbrx": _DBRX,
    "smaug-bpe": _DBRX,
    "qwen2": _QWEN2,
    "stablelm2": _STABLELM2,
    "tekken": _TEKKEN,
}
"""Splits by ``tokenizer.ggml.pre``."""

_KINDS = ("gpt2", "llama")
_TOKENS = "tokenizer.ggml.tokens"


def check_tokenizer(fields: Mapping[str, object]) -> None:
    """Raise ValueError unless a header's tokenizer is of a kind that can be built, as far as its names show."""
    if _TOKENS not in fields:
        raise ValueError(f"it has no vocabulary ({_TOKENS})")
    kind = fields.get("tokenizer.ggml.model")
    if kind not in _KINDS:
        raise ValueError(
            f"tokenizer of kind {shortened(kind)}; byte-level BPE (gpt2) and SentencePiece BPE (llama) are read"
        )
    if kind == "gpt2":
        split_of(fields)


def split_of(fields: Mapping[str, object]) -> Split:
    """Return how a byte-level vocabulary cuts texts; raise ValueError for a pre-tokenizer that is not known."""
    name = fields.get("tokenizer.ggml.pre", "default")
    if not isinstance(name, str) or name not in _SPLITS:
        raise ValueError(f"pre-tokenizer {shortened(name)} (tokenizer.ggml.pre); those read are {', '.join(_SPLITS)}")
    return _SPLITS[name]
