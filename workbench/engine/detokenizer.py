"""Incremental decoding of token ids to text, in whole characters.

For every way of splitting a list of ids into steps, the joined texts of the steps equal one decode of the whole list,
and contain U+FFFD only where that does. Three things make this hard: one character can span many byte tokens,
SentencePiece decoders treat the first token of a text differently, and a run may end inside a character.
"""

from __future__ import annotations

import builtins
import codecs
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"


class Detokenizer:
    """Incremental decoder of one sequence: `decode` every token, then `flush` once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._special_ids = vocabulary.special_ids
        self._decoder = _Bytes(vocabulary) if vocabulary.is_byte_level else _Window(vocabulary)

    def decode(self, token_id: int) -> str:
        """Append one token; return the whole characters that it completes, which may be none."""
        return "" if token_id in self._special_ids else self._decoder.decode(token_id)

    def flush(self) -> str:
        """Return the rest of the text; bytes of an incomplete character become U+FFFD, once."""
        return self._decoder.flush()


class _Bytes:
    """Decoder of byte-level vocabularies, whose text is the UTF-8 of the tokens' bytes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, token_id: int) -> str:
        return self._utf8.decode(self._vocabulary.bytes(token_id))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class _Window:
    """Decoder of other vocabularies: a token's text is what it adds to the decoded text of a few tokens before it.

    The tokens before it are needed for SentencePiece's leading spaces. A run of byte tokens is buffered until another
    token ends it, because one invalid byte makes U+FFFD of every byte in the run. ``tokenizers.DecodeStream`` uses a
    window too, but decodes such runs early and raises if they turn out to be invalid.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._ids: list[int] = []
        self._text_length = 0
        self._window_start = 0
        self._window_end = 0
        self._window_text = ""

    def decode(self, token_id: int) -> str:
        self._ids.append(token_id)
        if self._vocabulary.is_fallback_byte(token_id):
            return ""
        text = self._vocabulary.decode(self._ids[self._window_start :])
        if text.endswith(REPLACEMENT) or not text.startswith(self._window_text):
            return ""
        delta = text[len(self._window_text) :]
        if not delta:
            return ""
        self._text_length += len(delta)
        # The tokens just decoded are the context of the next ones.
        self._window_start = self._window_end
        self._window_end = len(self._ids)
        self._window_text = self._vocabulary.decode(self._ids[self._window_start :])
        return delta

    def flush(self) -> str:
        whole = self._vocabulary.decode(self._ids)
        rest = whole[self._text_length :]
        self._text_length = len(whole)
        return rest


class Vocabulary:
    """Text and bytes of single tokens, and which are control tokens.

    Args:
        tokenizer: the Rust tokenizer of a Hugging Face one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        decoder = "" if tokenizer.decoder is None else tokenizer.decoder.__getstate__().decode()
        self.is_byte_level = bool(decoder) and json.loads(decoder)["type"] == "ByteLevel"
        self._falls_back = '"ByteFallback"' in decoder
        self._entries: dict[int, tuple[str, builtins.bytes]] = {}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def is_fallback_byte(self, token_id: int) -> bool:
        """Whether the token is a single byte of a character that the vocabulary lacks, such as ``<0xE2>``."""
        return self._falls_back and _BYTE_FALLBACK.fullmatch(self._tokenizer.id_to_token(token_id) or "") is not None

    def text(self, token_id: int) -> str:
        """Return the token decoded alone; bytes of an incomplete character become U+FFFD."""
        return self._entry(token_id)[0]

    def bytes(self, token_id: int) -> builtins.bytes:
        """Return the bytes that the token adds to a text, which may be a part of a character."""
        return self._entry(token_id)[1]

    def _entry(self, token_id: int) -> tuple[str, builtins.bytes]:
        entry = self._entries.get(token_id)
        if entry is None:
            raw = self._bytes_of(token_id)
            entry = self._entries[token_id] = (raw.decode("utf-8", "replace"), raw)
        return entry

    def _bytes_of(self, token_id: int) -> builtins.bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None:  # an id without a token, which pads the embedding matrix
            return b""
        if token_id in self.special_ids:
            return token.encode()
        if self.is_byte_level:  # like the decoder, use a token with other characters as it is
            whole = all(character in _BYTE_OF for character in token)
            return bytes(_BYTE_OF[character] for character in token) if whole else token.encode()
        if self._falls_back and (match := _BYTE_FALLBACK.fullmatch(token)):
            return bytes([int(match[1], 16)])
        return token.replace("\u2581", " ").encode()


_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_of_character() -> dict[str, int]:
    """Return the inverse of the byte-level alphabet: printable Latin-1 is itself, the rest is shifted to U+0100 on.

    Source: the GPT-2 tokenizer, whose vocabulary has no white space or control characters.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(0x100) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(0x100 + i): byte for i, byte in enumerate(shifted)}


_BYTE_OF = _byte_of_character()
