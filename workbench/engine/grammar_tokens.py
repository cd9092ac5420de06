"""A model's vocabulary for llguidance: the bytes of every token, and the tokenization of a text.

llguidance can read a Hugging Face tokenizer itself, but if a grammar forces a text that is spelled like a control
token, such as a property named ``<|im_end|>``, it would choose the control token. Here text never encodes to one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llguidance import LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer

from workbench.engine.detokenizer import Vocabulary
from workbench.engine.grammar_endings import Endings

if TYPE_CHECKING:
    from collections.abc import Collection


def grammar_vocabulary(tokenizer: Tokenizer, vocab_size: int, end_ids: Collection[int]) -> tuple[LLTokenizer, Endings]:
    """Return the vocabulary for compiling grammars, in some tenths of a second, and the search for their endings.

    Args:
        tokenizer: the Rust tokenizer of a Hugging Face one; it is not changed.
        vocab_size: width of the model's logits.
        end_ids: tokens that end a text, allowed when the grammar allows the end.
    """
    ends = sorted(token_id for token_id in end_ids if token_id < vocab_size)
    wrapped = _TextTokenizer(tokenizer, vocab_size, ends)
    llg_tokenizer = LLTokenizer(TokenizerWrapper(wrapped), eos_token=ends or None)
    wrapped.greedy = llg_tokenizer.greedy_tokenize
    return llg_tokenizer, Endings(wrapped.tokens, wrapped.special_token_ids, ends, llg_tokenizer.tokenize_bytes)


class _TextTokenizer:
    """Tokenizer for `llguidance.TokenizerWrapper`."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, ends: list[int]) -> None:
        self._tokenizer = _text_tokenizer(tokenizer)
        vocabulary = Vocabulary(self._tokenizer)
        self.tokens = [vocabulary.bytes(token_id) for token_id in range(vocab_size)]
        self.special_token_ids = sorted({*ends, *(one for one in vocabulary.special_ids if one < vocab_size)})
        self.eos_token_id = ends[0] if ends else None
        self.greedy: Any = None

    def __call__(self, text: str) -> list[int]:
        """Return the tokens that a model would expect for a text. Never raises, which llguidance could not handle."""
        token_ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        in_vocabulary = max(token_ids, default=0) < len(self.tokens)
        if in_vocabulary and b"".join(self.tokens[token_id] for token_id in token_ids) == text.encode():
            return token_ids
        fallback: list[int] = self.greedy(text)  # a tokenizer that normalizes its input
        return fallback


def _text_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that encodes text as within a longer text, and never to control tokens."""
    state = json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None, "post_processor": None}
    for part in _parts(state["normalizer"], "normalizers") + _parts(state["pre_tokenizer"], "pretokenizers"):
        match part["type"]:
            case "Prepend":
                part["prepend"] = ""
            case "Metaspace":
                part["prepend_scheme"] = "never"
            case "ByteLevel":
                part["add_prefix_space"] = False
    copy = Tokenizer.from_str(json.dumps(state))
    copy.encode_special_tokens = True
    return copy


def _parts(component: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """Return the parts of a tokenizer component, which may be a sequence."""
    if component is None:
        return []
    parts: list[dict[str, Any]] = component[key] if component["type"] == "Sequence" else [component]
    return parts
