"""A tokenizer made from its tensors is the one that they were made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from tests.tiny_models import SPECIALS, UNICODE_CORPUS, bpe_tokenizer, sentencepiece_tokenizer, unigram_tokenizer
from workbench.engine.stored_tokenizer import stored_tokenizer, tokenizer_tensors


def with_added_tokens() -> Tokenizer:
    """Byte-level BPE with every kind of added token, some of which are in the vocabulary, and cut to a length."""
    tokenizer: Tokenizer = bpe_tokenizer().backend_tokenizer
    tokenizer.add_tokens(["the", AddedToken("<tool>", lstrip=True), AddedToken("word", single_word=True)])
    tokenizer.add_special_tokens([AddedToken("<|turn|>", rstrip=True)])
    tokenizer.add_tokens([AddedToken("last", normalized=True)])
    tokenizer.enable_truncation(40)
    return tokenizer


def with_prefixes() -> Tokenizer:
    """BPE whose pieces inside words have a prefix and at their end a suffix, with one merge of each kind."""
    pieces = ["a", "##a", "##a</w>", "a</w>", "a##a", "aa", "##aa</w>"]
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    merges = [("a", "##a"), ("##a", "##a</w>")]
    options = {"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}
    return Tokenizer(models.BPE(vocab=vocabulary, merges=merges, dropout=0.5, **options))


def with_a_gap() -> Tokenizer:
    return Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 3}, merges=[("a", "b")], ignore_merges=True))


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": lambda: bpe_tokenizer().backend_tokenizer,
    "sentencepiece": lambda: sentencepiece_tokenizer().backend_tokenizer,
    "added tokens": with_added_tokens,
    "prefixes": with_prefixes,
    "gap": with_a_gap,
    "unigram": lambda: unigram_tokenizer().backend_tokenizer,
    "empty": lambda: Tokenizer(models.BPE()),
}
STORED_AS_JSON = {"gap", "unigram"}


@cache
def original_and_copy(kind: str) -> tuple[Tokenizer, Tokenizer]:
    tokenizer = KINDS[kind]()
    return tokenizer, stored_tokenizer(tokenizer_tensors(tokenizer))


@pytest.mark.parametrize("kind", KINDS)
def test_the_json_is_the_same_again(kind: str) -> None:
    original, copy = original_and_copy(kind)
    assert copy.to_str() == original.to_str()
    assert len(tokenizer_tensors(original)) == (1 if kind in STORED_AS_JSON else 3)


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece", "added tokens", "unigram"])
@given(parts=st.lists(st.sampled_from([*UNICODE_CORPUS, *SPECIALS, " the", "<tool>", "<|turn|> ", "<s>"]) | st.text()))
def test_texts_have_the_same_ids_and_ids_the_same_text(kind: str, parts: list[str]) -> None:
    original, copy = original_and_copy(kind)
    text = "".join(parts)
    expected, found = original.encode(text), copy.encode(text)
    assert found.ids == expected.ids
    assert found.offsets == expected.offsets
    assert found.special_tokens_mask == expected.special_tokens_mask
    for skip in (True, False):
        assert copy.decode(found.ids, skip_special_tokens=skip) == original.decode(found.ids, skip_special_tokens=skip)
