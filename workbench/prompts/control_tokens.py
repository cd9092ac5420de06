"""The control tokens of a prompt: those that the template wrote, and none that a user spelled out.

Two mechanisms separate them, and neither can be forged:

- A rendered template comes with the positions of the characters that it has written itself
  (`workbench.prompts.provenance`). Control tokens are searched among these alone, so a user's text cannot spell one,
  however the template cuts, joins and trims it.
- If the tokenizer would still read characters of a text as a control token, a second tokenizer encodes the prompt. It
  differs only in its control tokens: each is spelled as a secret, and so are the template's own in the text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Code points that Unicode reserves for use within a program; no normalizer changes them."""
_FILLER = _NONCHARACTERS[0]
_SECRET_LENGTH = 24


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    text: str
    token_ids: tuple[int, ...]
    is_control: tuple[bool, ...]
    """For each token, whether it is a control token written by the template or added by the tokenizer."""
    images: tuple[Any, ...] = ()
    """The images in the engine's form; the text has one placeholder for each."""


Span: TypeAlias = tuple[int, int]
"""Start and end of a run of characters."""


class ControlTokens:
    """The control tokens of one tokenizer; safe from any thread.

    These are its special tokens, and added tokens that mark structure, such as ``<tool_call>``. Added tokens of nothing
    but white space, letters and digits are ordinary text.

    Args:
        tokenizer: the Rust tokenizer behind a Hugging Face one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.ids = {token.content: i for i, token in added.items() if token.special or _marks_structure(token.content)}
        """Ids of the control tokens by their text."""
        self.special_ids = {token.content: i for i, token in added.items() if token.special}
        self._known_ids = frozenset(self.ids.values())
        self._unknown = _unknown(tokenizer)

    @cached_property
    def _secret(self) -> _SecretTokenizer:
        """The second tokenizer, which few prompts need: Gemma's takes half a second to build.

        Threads may build one each, whose secrets differ, so a prompt takes it once.
        """
        return _SecretTokenizer(self._tokenizer, self.ids)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.ids, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def encode_written(self, text: str, written: Iterable[Span]) -> EncodedPrompt:
        """Encode a text whose control tokens are those within the spans that a template has written."""
        spans = self.find(text, written)
        positions = [(start, self.ids[text[start:end]]) for start, end in spans]
        encoding = encode(self._tokenizer, text)
        found = self._found(encoding, text, self._known_ids)
        if _agree(encoding, found, positions):  # the common case
            return _prompt(text, encoding, found)
        secret = self._secret
        segments = [text[end:start] for (_, end), (start, _) in pairwise([(0, 0), *spans, (len(text), 0)])]
        names = [secret.names[text[start:end]] for start, end in spans]
        return self._secret_prompt(secret, text, "".join(map("".join, zip_longest(segments, names, fillvalue=""))))

    def find(self, text: str, written: Iterable[Span]) -> list[Span]:
        """Return the spans of control tokens that consist of nothing but these characters of the text."""
        shown, done = [], 0
        for start, end in written:
            shown += [_FILLER * (start - done), text[start:end]]
            done = end
        return [match.span() for match in self._pattern.finditer("".join(shown))]

    def encode_text(self, text: str, *, add_special_tokens: bool) -> EncodedPrompt:
        """Encode a text without control tokens; `add_special_tokens` puts the tokenizer's own around it."""
        encoding = encode(self._tokenizer, text, add_special_tokens=add_special_tokens)
        found = self._found(encoding, text, self._known_ids)
        mask = encoding.special_tokens_mask
        if all(mask[index] for index in found):
            return _prompt(text, encoding, found)
        return self._secret_prompt(self._secret, text, text, add_special_tokens=add_special_tokens)

    def _found(self, encoding: Encoding, text: str, control_ids: AbstractSet[int]) -> list[int]:
        """Return indexes of the control tokens; the unknown token counts only if its own text is in the prompt."""
        indexes = [index for index, token_id in enumerate(encoding.ids) if token_id in control_ids]
        if not indexes or self._unknown not in self.ids:
            return indexes
        ids, offsets, unknown_id = encoding.ids, encoding.offsets, self.ids[self._unknown]
        return [index for index in indexes if ids[index] != unknown_id or text[slice(*offsets[index])] == self._unknown]

    def _secret_prompt(
        self, secret: _SecretTokenizer, plain: str, text: str, *, add_special_tokens: bool = False
    ) -> EncodedPrompt:
        """Encode by the secret tokenizer; ``text`` contains the control tokens in its spelling."""
        known_ids = self._known_ids - secret.added_ids
        encoding = encode(secret.tokenizer, text, add_special_tokens=add_special_tokens)
        # A Unigram model has vocabulary entries for its control tokens and finds them in plain text: cut those in two.
        while wrong := self._false_controls(encoding, text, known_ids):
            text = _cut(text, wrong, secret.cut)
            encoding = encode(secret.tokenizer, text, add_special_tokens=add_special_tokens)
        tokens = [
            (secret.ids.get(token_id, token_id), bool(own) or token_id in secret.control_ids)
            for token_id, own in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
            if token_id != secret.cut_id
        ]
        return EncodedPrompt(plain, tuple(token_id for token_id, _ in tokens), tuple(own for _, own in tokens))

    def _false_controls(self, encoding: Encoding, text: str, known_ids: AbstractSet[int]) -> list[Span]:
        """Return spans that the secret tokenizer reads as control tokens although they are not secret names."""
        found = self._found(encoding, text, known_ids)
        mask, offsets = encoding.special_tokens_mask, encoding.offsets
        return [offsets[index] for index in found if not mask[index]]


def _cut(text: str, spans: list[Span], mark: str) -> str:
    """Return the text with the mark behind the first character of each span."""
    cuts = [start + 1 for start, _ in spans]
    for start, end in spans:
        if end - start < 2:
            raise ValueError(f"this tokenizer cannot distinguish {text[start:end]!r} from its control token")
    return mark.join(text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True))


class _SecretTokenizer:
    """A tokenizer whose control tokens are spelled as random secrets. It shares the vocabulary of the original."""

    def __init__(self, tokenizer: Tokenizer, control_ids: Mapping[str, int]) -> None:
        from tokenizers import AddedToken
        from tokenizers import Tokenizer as RustTokenizer

        self.names = {text: _secret() for text in control_ids}
        """Secret spellings of the control tokens by their text."""
        self.cut = _secret()
        """A token without meaning: the texts before and behind it are encoded separately."""
        self.tokenizer = RustTokenizer(tokenizer.model)
        for part in ("normalizer", "pre_tokenizer", "post_processor"):
            if (own := getattr(tokenizer, part)) is not None:
                setattr(self.tokenizer, part, own)
        added = {token.content: (token_id, token) for token_id, token in tokenizer.get_added_tokens_decoder().items()}
        self.tokenizer.add_tokens(
            [AddedToken(name, normalized=False) for name in (*self._fillers(len(added) + 1), self.cut)]
            + [
                AddedToken(
                    self.names.get(text, text),
                    single_word=token.single_word and text not in self.names,
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                    normalized=token.normalized and text not in self.names,
                    special=token.special,
                )
                for text, (_, token) in added.items()
            ]
        )
        self.cut_id = self._id(self.cut)
        self.ids = {self._id(self.names.get(text, text)): token_id for text, (token_id, _) in added.items()}
        """Ids of all added tokens in the original tokenizer by their ids in this one."""
        self.added_ids = frozenset(self.tokenizer.get_added_tokens_decoder())
        self.control_ids = frozenset(map(self._id, self.names.values()))

    def _id(self, text: str) -> int:
        token_id = self.tokenizer.token_to_id(text)
        assert token_id is not None
        return token_id

    def _fillers(self, count: int) -> list[str]:
        """Return tokens that fill up ids if the next free ones would collide with ids of the vocabulary."""
        first = self.tokenizer.get_vocab_size(with_added_tokens=False)
        model: Any = self.tokenizer.model
        if all(model.id_to_token(token_id) is None for token_id in range(first, first + count)):
            return []
        highest = max(self.tokenizer.get_vocab(with_added_tokens=False).values())
        return [_secret() for _ in range(first, highest + 1)]


def encode(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool = False) -> Encoding:
    """Encode as a batch of one, which releases the interpreter to other threads."""
    return tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0]


def _agree(encoding: Encoding, found: list[int], positions: list[tuple[int, int]]) -> bool:
    """Return whether the tokenizer found exactly the control tokens at these positions."""
    if len(found) != len(positions):
        return False
    ids, offsets = encoding.ids, encoding.offsets
    return all(
        ids[index] == token_id and offsets[index][0] <= position < offsets[index][1]
        for index, (position, token_id) in zip(found, positions, strict=True)
    )


def _secret() -> str:
    return "".join(secrets.choice(_NONCHARACTERS) for _ in range(_SECRET_LENGTH))


def _prompt(text: str, encoding: Encoding, found: list[int]) -> EncodedPrompt:
    control = frozenset(found)
    ids = encoding.ids
    return EncodedPrompt(text, tuple(ids), tuple(index in control for index in range(len(ids))))


def _unknown(tokenizer: Tokenizer) -> str:
    """Return the unknown token of the vocabulary; empty if there is none."""
    model: Any = tokenizer.model
    tokens = model.tokenize(_NONCHARACTERS[0])
    return tokenizer.id_to_token(tokens[0].id) or "" if len(tokens) == 1 else ""


def _marks_structure(text: str) -> bool:
    words = text.replace("\u2581", "").replace("\u0120", "").strip()
    return bool(words) and not words.isalnum()
