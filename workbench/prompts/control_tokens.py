"""Which tokens of a prompt are control tokens: those that the template wrote, and none that a user spelled out.

Two things keep them apart, and neither can be forged:

- A rendered template comes with the places of the characters that it has written itself
  (`workbench.prompts.provenance`). Control tokens are looked for among these alone, so a text cannot make one up,
  however the template cuts, joins and trims it, and whatever it stands next to.
- Where the tokenizer would still take characters of a text for a control token, the prompt is encoded by a second
  tokenizer, the same but for its control tokens: each of those is spelled as a secret there, and the template's own are
  spelled like that too.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Reserved by Unicode for use within a program; no normalizer knows them."""
_FILLER = _NONCHARACTERS[0]
_SECRET_LENGTH = 24


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt's text and tokens."""

    text: str
    token_ids: tuple[int, ...]
    is_control: tuple[bool, ...]
    """Of each token, whether it is a control token that the template or the tokenizer itself has placed."""
    images: tuple[Any, ...] = ()
    """As the engine takes them; the text has one place-holder for each."""


Span: TypeAlias = tuple[int, int]
"""Start and end of some characters of a text."""


class ControlTokens:
    """The control tokens of one tokenizer; safe from any thread.

    These are its special tokens, and added ones that mark structure, such as ``<tool_call>``. Added tokens that are
    only white space, letters or digits are text like any other.

    Args:
        tokenizer: the Rust tokenizer behind a Hugging Face one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.ids = {token.content: i for i, token in added.items() if token.special or _marks_structure(token.content)}
        """By its text, the id of each control token."""
        self.special_ids = {token.content: i for i, token in added.items() if token.special}
        self._known_ids = frozenset(self.ids.values())
        self._unknown = _unknown(tokenizer)
        self._secret = _SecretTokenizer(tokenizer, self.ids)
        longest_first = sorted(self.ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def encode_written(self, text: str, written: Iterable[Span]) -> EncodedPrompt:
        """A text whose control tokens are those that stand in what a template has written of it."""
        spans = self.find(text, written)
        positions = [(start, self.ids[text[start:end]]) for start, end in spans]
        encoding = encode(self._tokenizer, text)
        found = self._found(encoding, text, self._known_ids)
        if _agree(encoding, found, positions):  # nearly always
            return _prompt(text, encoding, found)
        names = self._secret.names
        segments = [text[end:start] for (_, end), (start, _) in pairwise([(0, 0), *spans, (len(text), 0)])]
        secret = [names[text[start:end]] for start, end in spans]
        return self._secret_prompt(text, "".join(map("".join, zip_longest(segments, secret, fillvalue=""))))

    def find(self, text: str, written: Iterable[Span]) -> list[Span]:
        """Where control tokens stand that are made of nothing but these characters of the text."""
        shown, done = [], 0
        for start, end in written:
            shown += [_FILLER * (start - done), text[start:end]]
            done = end
        return [match.span() for match in self._pattern.finditer("".join(shown))]

    def encode_text(self, text: str, *, add_special_tokens: bool) -> EncodedPrompt:
        """A text in which nothing is a control token, with the tokenizer's own around it if asked for."""
        encoding = encode(self._tokenizer, text, add_special_tokens=add_special_tokens)
        found = self._found(encoding, text, self._known_ids)
        mask = encoding.special_tokens_mask
        if all(mask[index] for index in found):
            return _prompt(text, encoding, found)
        return self._secret_prompt(text, text, add_special_tokens=add_special_tokens)

    def _found(self, encoding: Encoding, text: str, control_ids: AbstractSet[int]) -> list[int]:
        """Indexes of the control tokens. That for the unknown is one only where its own text stands."""
        indexes = [index for index, token_id in enumerate(encoding.ids) if token_id in control_ids]
        if not indexes or self._unknown not in self.ids:
            return indexes
        ids, offsets, unknown_id = encoding.ids, encoding.offsets, self.ids[self._unknown]
        return [index for index in indexes if ids[index] != unknown_id or text[slice(*offsets[index])] == self._unknown]

    def _secret_prompt(self, plain: str, text: str, *, add_special_tokens: bool = False) -> EncodedPrompt:
        """The prompt by the secret tokenizer; ``text`` spells the control tokens as that one has them."""
        secret = self._secret
        encoding = encode(secret.tokenizer, text, add_special_tokens=add_special_tokens)
        # A Unigram model has pieces for its control tokens and finds them in plain text: those are cut in two.
        while wrong := self._false_controls(encoding, text):
            text = _cut(text, wrong, secret.cut)
            encoding = encode(secret.tokenizer, text, add_special_tokens=add_special_tokens)
        tokens = [
            (secret.ids.get(token_id, token_id), bool(own) or token_id in secret.control_ids)
            for token_id, own in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
            if token_id != secret.cut_id
        ]
        return EncodedPrompt(plain, tuple(token_id for token_id, _ in tokens), tuple(own for _, own in tokens))

    def _false_controls(self, encoding: Encoding, text: str) -> list[Span]:
        """Where the secret tokenizer found control tokens that it does not know by their secret names."""
        found = self._found(encoding, text, self._known_ids - self._secret.added_ids)
        mask, offsets = encoding.special_tokens_mask, encoding.offsets
        return [offsets[index] for index in found if not mask[index]]


def _cut(text: str, spans: list[Span], mark: str) -> str:
    """The text with the mark behind the first character of each piece."""
    cuts = [start + 1 for start, _ in spans]
    for start, end in spans:
        if end - start < 2:
            raise ValueError(f"this tokenizer cannot distinguish {text[start:end]!r} from its control token")
    return mark.join(text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True))


class _SecretTokenizer:
    """The same tokenizer, its control tokens spelled as nobody can guess. Its vocabulary is shared, not copied."""

    def __init__(self, tokenizer: Tokenizer, control_ids: Mapping[str, int]) -> None:
        from tokenizers import AddedToken
        from tokenizers import Tokenizer as RustTokenizer

        self.names = {text: _secret() for text in control_ids}
        """By its text, how each control token is spelled."""
        self.cut = _secret()
        """A token that stands for nothing: what is before it and what is behind it are encoded each for itself."""
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
        """By their ids here, the tokenizer's own ids of all its added tokens."""
        self.added_ids = frozenset(self.tokenizer.get_added_tokens_decoder())
        self.control_ids = frozenset(map(self._id, self.names.values()))

    def _id(self, text: str) -> int:
        token_id = self.tokenizer.token_to_id(text)
        assert token_id is not None
        return token_id

    def _fillers(self, count: int) -> list[str]:
        """Tokens that take up ids, where the next free ones would run into ids that the vocabulary has already."""
        first = self.tokenizer.get_vocab_size(with_added_tokens=False)
        model: Any = self.tokenizer.model
        if all(model.id_to_token(token_id) is None for token_id in range(first, first + count)):
            return []
        highest = max(self.tokenizer.get_vocab(with_added_tokens=False).values())
        return [_secret() for _ in range(first, highest + 1)]


def encode(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool = False) -> Encoding:
    """Encode as a batch of one, which lets other threads go on meanwhile."""
    return tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0]


def _agree(encoding: Encoding, found: list[int], positions: list[tuple[int, int]]) -> bool:
    """Whether the tokenizer found exactly the control tokens that stand in those places."""
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
    """The token for what the vocabulary lacks; empty where there is none."""
    model: Any = tokenizer.model
    tokens = model.tokenize(_NONCHARACTERS[0])
    return tokenizer.id_to_token(tokens[0].id) or "" if len(tokens) == 1 else ""


def _marks_structure(text: str) -> bool:
    words = text.replace("\u2581", "").replace("\u0120", "").strip()
    return bool(words) and not words.isalnum()
