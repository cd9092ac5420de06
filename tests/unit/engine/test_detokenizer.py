"""Streamed text is the whole decode, cut in whole characters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from tests.budget import budget, some
from tests.tiny_models import UNICODE_CORPUS, bpe_tokenizer, sentencepiece_tokenizer
from workbench.engine.detokenizer import REPLACEMENT, Detokenizer, Vocabulary

KINDS = ("byte-level", "sentencepiece")


@cache
def tokenizer_of(kind: str) -> Any:
    return bpe_tokenizer() if kind == "byte-level" else sentencepiece_tokenizer()


@cache
def vocabulary_of(kind: str) -> Vocabulary:
    return Vocabulary(tokenizer_of(kind).backend_tokenizer)


def streamed(vocabulary: Vocabulary, ids: Sequence[int]) -> list[str]:
    """The pieces of every token, and the flushed rest last."""
    detokenizer = Detokenizer(vocabulary)
    return [detokenizer.decode(token_id) for token_id in ids] + [detokenizer.flush()]


def check_law(vocabulary: Vocabulary, ids: Sequence[int]) -> None:
    pieces, whole = streamed(vocabulary, ids), vocabulary.decode(ids)
    assert "".join(pieces) == whole
    assert sum(piece.count(REPLACEMENT) for piece in pieces) == whole.count(REPLACEMENT)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=budget(400))
@given(data=st.data())
def test_any_ids_stream_to_the_whole_decode(kind: str, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, len(tokenizer_of(kind)) - 1), max_size=24))
    check_law(vocabulary_of(kind), ids)


@settings(max_examples=budget(400))
@given(data=st.binary(max_size=16), prose=st.text(alphabet="a é€", max_size=3))
def test_any_bytes_of_a_byte_fallback_stream_to_the_whole_decode(data: bytes, prose: str) -> None:
    """Runs of byte tokens: whether a run is text is known only at its end, for one bad byte spoils all of it."""
    tokenizer = tokenizer_of("sentencepiece")
    ids = tokenizer.convert_tokens_to_ids([f"<0x{byte:02X}>" for byte in data])
    check_law(vocabulary_of("sentencepiece"), [*ids, *tokenizer(prose)["input_ids"], *ids[::-1]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", some(UNICODE_CORPUS, at_least=4))
def test_encoded_text_streams_back_whole(kind: str, text: str) -> None:
    ids = tokenizer_of(kind)(text)["input_ids"]
    pieces = streamed(vocabulary_of(kind), ids)
    assert "".join(pieces) == vocabulary_of(kind).decode(ids) == text
    assert "".join(pieces).count(REPLACEMENT) == text.count(REPLACEMENT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", some(UNICODE_CORPUS, at_least=4))
def test_a_text_cut_inside_a_character_ends_as_the_whole_decode_does(kind: str, text: str) -> None:
    ids = tokenizer_of(kind)(text)["input_ids"]
    for end in range(len(ids)):
        check_law(vocabulary_of(kind), ids[:end])


@pytest.mark.parametrize("text", some(UNICODE_CORPUS, at_least=4))
def test_each_byte_level_token_shows_every_character_that_it_completes(text: str) -> None:
    """Nothing waits for white space: after each token all whole characters so far are out."""
    tokenizer, vocabulary = tokenizer_of("byte-level"), vocabulary_of("byte-level")
    ids = tokenizer(text)["input_ids"]
    detokenizer = Detokenizer(vocabulary)
    shown, raw = "", b""
    for token_id in ids:
        shown += detokenizer.decode(token_id)
        raw += vocabulary.bytes(token_id)
        if not text.count(REPLACEMENT):  # a true U+FFFD looks like an unfinished character until the next token
            assert shown == raw.decode("utf-8", "ignore")


def test_each_sentencepiece_word_is_shown_at_once() -> None:
    tokenizer = tokenizer_of("sentencepiece")
    ids = tokenizer("The quick brown fox", add_special_tokens=False)["input_ids"]
    assert all(piece for piece in streamed(vocabulary_of("sentencepiece"), ids)[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_add_no_text(kind: str) -> None:
    vocabulary = vocabulary_of(kind)
    ids = tokenizer_of(kind)("a b", add_special_tokens=False)["input_ids"]
    control = min(vocabulary.special_ids)
    mixed = [control, ids[0], control, control, *ids[1:], control]
    check_law(vocabulary, mixed)
    assert "".join(streamed(vocabulary, mixed)) == "a b"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", some(UNICODE_CORPUS, at_least=4))
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(kind: str, text: str) -> None:
    vocabulary = vocabulary_of(kind)
    ids = tokenizer_of(kind)(text, add_special_tokens=False)["input_ids"]
    joined = b"".join(vocabulary.bytes(token_id) for token_id in ids)
    # SentencePiece begins every text with a space of its own, which its decoder takes off again.
    assert joined.decode() == (text if kind == "byte-level" else " " + text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_alone_has_the_text_that_its_bytes_have(kind: str) -> None:
    vocabulary = vocabulary_of(kind)
    for token_id in range(len(tokenizer_of(kind))):
        assert vocabulary.text(token_id) == vocabulary.bytes(token_id).decode("utf-8", "replace")


def test_an_id_without_a_token_has_no_text() -> None:
    vocabulary = vocabulary_of("byte-level")
    unused = len(tokenizer_of("byte-level")) + 7
    assert (vocabulary.text(unused), vocabulary.bytes(unused)) == ("", b"")
    check_law(vocabulary, [unused, *tokenizer_of("byte-level")("é")["input_ids"], unused])


def test_a_piece_outside_the_byte_alphabet_keeps_its_characters() -> None:
    """Some byte-level vocabularies hold plain text too; the decoder then takes the piece as it is."""
    tokenizer: Any = Tokenizer.from_str(tokenizer_of("byte-level").backend_tokenizer.to_str())
    tokenizer.add_tokens([AddedToken("<tool call>"), AddedToken("日本")])
    vocabulary = Vocabulary(tokenizer)
    for content in ("<tool call>", "日本"):
        token_id = tokenizer.token_to_id(content)
        assert vocabulary.bytes(token_id).decode() == content == tokenizer.decode([token_id])
        check_law(vocabulary, [token_id, 50, token_id])


class CountingVocabulary(Vocabulary):
    """Counts the ids that it was given to decode."""

    decoded = 0

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        self.decoded += len(ids)
        return super().decode(ids, skip_special_tokens)

    def bytes(self, token_id: int) -> bytes:
        self.decoded += 1
        return super().bytes(token_id)


def invalid_byte(kind: str) -> int:
    alphabet = "ÿ" if kind == "byte-level" else "<0xFF>"
    token_id = tokenizer_of(kind).convert_tokens_to_ids(alphabet)
    assert isinstance(token_id, int)
    return token_id


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["prose", "control tokens", "invalid bytes"])
def test_the_cost_of_a_token_does_not_grow_with_the_text(kind: str, what: str) -> None:
    prose = tokenizer_of(kind)("The quick brown fox jumps. ", add_special_tokens=False)["input_ids"]
    ids = {
        "prose": prose * 200,
        "control tokens": [*prose, *[min(vocabulary_of(kind).special_ids)] * 2000],
        "invalid bytes": [*prose, *[invalid_byte(kind)] * 2000],
    }[what]
    counting = CountingVocabulary(tokenizer_of(kind).backend_tokenizer)
    detokenizer = Detokenizer(counting)
    for token_id in ids:
        detokenizer.decode(token_id)
    assert counting.decoded < 20 * len(ids)
