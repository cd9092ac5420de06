"""Rust tokenizers of the two kinds that GGUF files of causal models have: byte-level BPE and SentencePiece BPE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from workbench.gguf_files.tokenizers import Split, split_of

_SPACE = "\u2581"
_UNKNOWN, _CONTROL, _UNUSED, _BYTE = 2, 3, 5, 6
"""llama.cpp's types of tokens that no merge makes."""
_LONGEST_PIECE = 1024
"""Most characters of a piece that merges make. A piece is cut in all places to find them; real ones are shorter."""


def listed(fields: Mapping[str, Any], key: str, *kinds: type) -> Sequence[Any] | None:
    """Return a list in a file's header; None without one; raise ValueError unless all its elements have given types."""
    found = fields.get(key)
    if found is None:
        return None
    if not isinstance(found, list | tuple) or not all(isinstance(one, kinds) for one in found):
        raise ValueError(f"{key} is no list of {'texts' if kinds == (str,) else 'numbers'}")
    return found


def adds_bos(fields: Mapping[str, Any]) -> bool:
    """Return whether the vocabulary's texts begin with BOS where a file does not say so."""
    return split_of(fields).begins


def byte_level_tokenizer(fields: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    """Return a byte-level BPE without its added tokens; raise ValueError for a pre-tokenizer that is not known."""
    split = split_of(fields)
    merges = [tuple(merge.split(" ", 1)) for merge in listed(fields, "tokenizer.ggml.merges", str) or ()]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    try:
        model = models.BPE(vocab=vocabulary, merges=merges)
    except Exception as error:  # tokenizers raises no other type
        raise ValueError(f"its merges (tokenizer.ggml.merges) do not fit its tokens: {error}") from error
    if split.ignores_merges:
        model.ignore_merges = True
    tokenizer = Tokenizer(model)
    if split.composes:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(split)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def piece_tokenizer(
    fields: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int], *, ranks_by_place: bool
) -> tuple[list[str], Tokenizer]:
    """Return the pieces of a SentencePiece BPE, and its tokenizer without its added tokens.

    Pieces of blanks alone are spelled with U+2581, as all others are.
    """
    known = set(tokens)
    blanks = {token: _SPACE * len(token) for token in tokens if len(token) > 1 and not token.strip(" ")}
    pieces = [blanks[token] if token in blanks and blanks[token] not in known else token for token in tokens]
    scores = listed(fields, "tokenizer.ggml.scores", int, float)
    ranks = [-float(place) for place in range(len(pieces))] if ranks_by_place else scores
    if ranks is None or len(ranks) != len(pieces):
        raise ValueError("tokenizer.ggml.scores does not have one score for each token")
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    unknown = fields.get("tokenizer.ggml.unknown_token_id", 0)
    if not isinstance(unknown, int) or not 0 <= unknown < len(pieces):
        raise ValueError(f"tokenizer.ggml.unknown_token_id is {unknown!r}, which is no token; there are {len(pieces)}")
    model = models.BPE(
        vocab=vocabulary,
        merges=_merges(vocabulary, ranks, types),
        unk_token=pieces[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    prefixes = fields.get("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefixes else spaces
    decoding = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*decoding, decoders.Strip(" ", 1, 0)] if prefixes else decoding)
    return pieces, tokenizer


def _merges(vocabulary: Mapping[str, int], ranks: Sequence[float], types: Sequence[int]) -> list[tuple[str, str]]:
    """Return every pair of pieces that makes a piece; pieces of high rank first, then long left parts."""
    pieces = [piece for piece, kind in zip(vocabulary, types, strict=True) if kind not in _UNMERGED]
    if (longest := max(map(len, pieces), default=0)) > _LONGEST_PIECE:
        raise ValueError(f"one of its tokens has {longest:,} characters; at most {_LONGEST_PIECE:,} are read")
    mergeable = set(pieces)
    found = [
        (ranks[vocabulary[piece]], cut, len(piece) - cut, piece)
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in mergeable and piece[cut:] in mergeable
    ]
    found.sort(key=lambda one: one[:3], reverse=True)
    return [(piece[:cut], piece[cut:]) for _, cut, _, piece in found]


_UNMERGED = frozenset({_UNKNOWN, _CONTROL, _UNUSED, _BYTE})


def _pre_tokenizer(split: Split) -> pre_tokenizers.PreTokenizer:
    if split.pattern is not None:
        cut = pre_tokenizers.Split(Regex(split.pattern), behavior="isolated")
        return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split.digits:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return byte_level
