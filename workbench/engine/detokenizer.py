"""Token ids to text, one token at a time, in whole characters.

The law: for every way of cutting a list of ids into steps, the pieces joined are what one decode of the whole list
gives, and a piece holds U+FFFD only where the whole decode does. Three things make that hard: one character can span
many byte tokens, SentencePiece decoders treat the first token of a text differently, and a run may end inside a
character.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"


class Decodes(Protocol):
    """Anything that turns token ids into text."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


class Detokenizer:
    """Incremental decoder of one sequence: `decode` every token, then `flush` once.

    Works on a sliding window: the text of a token is what it adds to the decode of the few tokens before it. Keeping
    some tokens before the new one is what gets SentencePiece's leading spaces right. ``tokenizers.DecodeStream`` does
    the same in Rust, but raises on ids that are no valid text and exists for Rust tokenizers only.
    """

    def __init__(self, tokenizer: Decodes) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._text_length = 0
        self._window_start = 0
        self._window_end = 0
        self._window_text = ""

    def decode(self, token_id: int) -> str:
        """Append one token; return the whole characters that it completes, often one word, sometimes nothing."""
        self._ids.append(token_id)
        text = self._tokenizer.decode(self._ids[self._window_start :], skip_special_tokens=True)
        if text.endswith(REPLACEMENT) or not text.startswith(self._window_text):
            return ""
        delta = text[len(self._window_text) :]
        if not delta:
            return ""
        self._text_length += len(delta)
        # The tokens just finished become the context of the next ones.
        self._window_start = self._window_end
        self._window_end = len(self._ids)
        self._window_text = self._tokenizer.decode(self._ids[self._window_start :], skip_special_tokens=True)
        return delta

    def flush(self) -> str:
        """The rest of the whole decode: bytes that never became a character come out as U+FFFD, once."""
        whole = self._tokenizer.decode(self._ids, skip_special_tokens=True)
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
        self._added = {token_id: token.content for token_id, token in added.items()}
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self._byte_level = '"ByteLevel"' in json.dumps(json.loads(tokenizer.to_str()).get("decoder"))
        self._known: dict[int, tuple[str, bytes]] = {}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def text(self, token_id: int) -> str:
        """The token decoded alone; bytes that are no whole character show as U+FFFD."""
        return self._entry(token_id)[0]

    def bytes(self, token_id: int) -> bytes:
        """The bytes that the token adds to a text, also where they are only a part of a character."""
        return self._entry(token_id)[1]

    def _entry(self, token_id: int) -> tuple[str, bytes]:
        entry = self._known.get(token_id)
        if entry is None:
            raw = self._bytes_of(token_id)
            entry = self._known[token_id] = (raw.decode("utf-8", "replace"), raw)
        return entry

    def _bytes_of(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:  # padding of the embedding matrix: an id without a token
            return b""
        if self._byte_level:
            return bytes(_BYTE_OF[character] for character in piece if character in _BYTE_OF)
        if match := _BYTE_FALLBACK.fullmatch(piece):
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
