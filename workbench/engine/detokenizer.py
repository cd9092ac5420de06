"""Token ids to text, one token at a time, in whole characters.

The law: for every way of cutting a list of ids into steps, the pieces joined are what one decode of the whole list
gives, and a piece holds U+FFFD only where the whole decode does. Three things make that hard: one character can span
many byte tokens, SentencePiece decoders treat the first token of a text differently, and a run may end inside a
character.
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
        """Append one token; return the whole characters that it completes, often one word, sometimes nothing."""
        return "" if token_id in self._special_ids else self._decoder.decode(token_id)

    def flush(self) -> str:
        """The rest of the whole decode: bytes that never became a character come out as U+FFFD, once."""
        return self._decoder.flush()


class _Bytes:
    """For byte-level vocabularies: their text is the UTF-8 of the tokens' bytes, whatever stands before or after."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, token_id: int) -> str:
        return self._utf8.decode(self._vocabulary.bytes(token_id))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class _Window:
    """For all others: the text of a token is what it adds to the decode of the few tokens before it.

    Keeping some tokens before the new one is what gets SentencePiece's leading spaces right. A run of byte tokens is
    held until another token ends it, because one wrong byte makes U+FFFD of every byte in the run.
    ``tokenizers.DecodeStream`` works on a window too, but lets such runs go early and raises where they turn out wrong.
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
        # The tokens just finished become the context of the next ones.
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
    """What single ids stand for: their text alone, their bytes, and whether they are control tokens.

    ``tokenizer`` is the Rust tokenizer behind a Hugging Face one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        decoder = json.loads(tokenizer.to_str()).get("decoder") or {}
        self.is_byte_level = decoder.get("type") == "ByteLevel"
        self._falls_back = '"ByteFallback"' in json.dumps(decoder)
        self._known: dict[int, tuple[str, builtins.bytes]] = {}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def is_fallback_byte(self, token_id: int) -> bool:
        """Whether the token stands for one byte of a character that the vocabulary lacks, as in ``<0xE2>``."""
        return self._falls_back and _BYTE_FALLBACK.fullmatch(self._tokenizer.id_to_token(token_id) or "") is not None

    def text(self, token_id: int) -> str:
        """The token decoded alone; bytes that are no whole character show as U+FFFD."""
        return self._entry(token_id)[0]

    def bytes(self, token_id: int) -> builtins.bytes:
        """The bytes that the token adds to a text, also where they are only a part of a character."""
        return self._entry(token_id)[1]

    def _entry(self, token_id: int) -> tuple[str, builtins.bytes]:
        entry = self._known.get(token_id)
        if entry is None:
            raw = self._bytes_of(token_id)
            entry = self._known[token_id] = (raw.decode("utf-8", "replace"), raw)
        return entry

    def _bytes_of(self, token_id: int) -> builtins.bytes:
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:  # padding of the embedding matrix: an id without a token
            return b""
        if token_id in self.special_ids:
            return piece.encode()
        if self.is_byte_level:  # a piece that is not wholly of the alphabet is taken as it is, as the decoder does
            whole = all(character in _BYTE_OF for character in piece)
            return bytes(_BYTE_OF[character] for character in piece) if whole else piece.encode()
        if self._falls_back and (match := _BYTE_FALLBACK.fullmatch(piece)):
            return bytes([int(match[1], 16)])
        return piece.replace("\u2581", " ").encode()


_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_of_character() -> dict[str, int]:
    """The inverse of the byte-level alphabet: printable Latin-1 stands for itself, the rest is shifted to U+0100 on.

    Source: the GPT-2 tokenizer, where no vocabulary entry may hold white space or control characters.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(0x100) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(0x100 + i): byte for i, byte in enumerate(shifted)}


_BYTE_OF = _byte_of_character()
