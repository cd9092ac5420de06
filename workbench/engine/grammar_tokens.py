"""A model's vocabulary as llguidance needs it: the bytes of every token, and how a text is cut into tokens.

llguidance can read a Hugging Face tokenizer itself, but where a grammar forces a text that is spelt like a control
token, such as a property named ``<|im_end|>``, it would then write the control token. Here control tokens stand for
themselves alone, and any text is cut into tokens of text.
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


def grammar_tokenizer(tokenizer: Tokenizer, vocab_size: int, end_ids: Collection[int]) -> LLTokenizer:
    """The vocabulary for compiling grammars; takes some tenths of a second.

    Args:
        tokenizer: the Rust tokenizer behind a Hugging Face one; left as it is.
        vocab_size: width of the model's logits.
        end_ids: tokens that end a text; one of them may be chosen where the grammar allows an end.
    """
    return grammar_vocabulary(tokenizer, vocab_size, end_ids)[0]


def grammar_vocabulary(tokenizer: Tokenizer, vocab_size: int, end_ids: Collection[int]) -> tuple[LLTokenizer, Endings]:
    """The same, and the ways to an end in its grammars."""
    ends = sorted(token_id for token_id in end_ids if token_id < vocab_size)
    cutter = _Cutter(tokenizer, vocab_size, ends)
    made = LLTokenizer(TokenizerWrapper(cutter), eos_token=ends or None)
    cutter.greedy = made.greedy_tokenize
    return made, Endings(cutter.tokens, cutter.special_token_ids, ends, made.tokenize_bytes)


class _Cutter:
    """What `llguidance.TokenizerWrapper` asks for."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, ends: list[int]) -> None:
        self._tokenizer = _of_pieces(tokenizer)
        vocabulary = Vocabulary(self._tokenizer)
        self.tokens = [vocabulary.bytes(token_id) for token_id in range(vocab_size)]
        self.special_token_ids = sorted({*ends, *(one for one in vocabulary.special_ids if one < vocab_size)})
        self.eos_token_id = ends[0] if ends else None
        self.greedy: Any = None

    def __call__(self, text: str) -> list[int]:
        """The tokens that a model would expect for a text; never raises on a text, for llguidance could not go on."""
        token_ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        known = max(token_ids, default=0) < len(self.tokens)
        if known and b"".join(self.tokens[token_id] for token_id in token_ids) == text.encode():
            return token_ids
        fallback: list[int] = self.greedy(text)  # a tokenizer that normalises its input
        return fallback


def _of_pieces(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that cuts a piece of text as it would within a longer one, and takes no text for a control token."""
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
    """A component of a tokenizer, or the parts of a sequence of them."""
    if component is None:
        return []
    parts: list[dict[str, Any]] = component[key] if component["type"] == "Sequence" else [component]
    return parts
