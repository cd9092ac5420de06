"""Chunks of any text by any tokenizer: together they are the text, none is too long, and no character is cut."""

from __future__ import annotations

import asyncio
import unicodedata
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.tiny_models import (
    UNICODE_CORPUS,
    bpe_tokenizer,
    make_bert_tokenizer,
    sentencepiece_tokenizer,
    unigram_tokenizer,
)
from workbench.errors import InvalidRequestError
from workbench.providers.memory.chunking import Chunker, TextChunk
from workbench.records import TokenSpans


def letters_tokenizer() -> Any:
    """WordPiece whose words are letters, but for a suffix that is one token within a word and several by itself."""
    letters = [chr(97 + index) for index in range(26)]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), "##able"]
    return make_bert_tokenizer(vocab={token: index for index, token in enumerate(vocab)})


MAKERS = {
    "byte-level BPE": bpe_tokenizer,
    "SentencePiece BPE": sentencepiece_tokenizer,
    "unigram": unigram_tokenizer,
    "WordPiece": letters_tokenizer,
}


@cache
def tokenizer(name: str) -> Any:
    return MAKERS[name]()


def token_count(name: str, text: str) -> int:
    return len(tokenizer(name)(text, add_special_tokens=False)["input_ids"])


def cut(name: str, text: str, size: int, overlap: int, **options: int) -> list[TextChunk]:
    async def spans_of(part: str) -> TokenSpans:
        offsets = tokenizer(name)(part, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return TokenSpans(tuple(map(tuple, offsets)), None)

    return asyncio.run(Chunker(size, overlap, spans_of).chunks(text, "text", **options))


def check(name: str, text: str, size: int, overlap: int, chunks: list[TextChunk]) -> None:
    done = 0
    for chunk in chunks:
        assert chunk.start <= done < chunk.end
        assert overlap or chunk.start == done
        part = text[chunk.start : chunk.end]
        assert chunk.token_count == token_count(name, part) <= size
        before, first = text[chunk.start - 1 : chunk.start], part[0]
        assert before + first != "\r\n"
        # A mark continues the character before it, unless that one is a control.
        is_mark = unicodedata.category(first) in {"Mn", "Me"} or first == "\u200d"
        assert not is_mark or not before or unicodedata.category(before) in {"Cc", "Cf", "Zl", "Zp"}
        done = chunk.end
    starts = [0, *(chunk.end for chunk in chunks)]
    assert "".join(text[start : chunk.end] for start, chunk in zip(starts, chunks, strict=False)) == text


PIECES = (*UNICODE_CORPUS, "e\u0301", "\r\n", " ", "  ", "\n\n", "able", "unbreakable", "👨‍👩‍👧‍👦", "a", "क्षि")
pieces = st.sampled_from(PIECES)
texts = st.lists(pieces | st.text(max_size=5), max_size=8).map("".join)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=budget(60))
@given(text=texts, size=st.integers(1, 40), share=st.floats(0, 0.99), window=st.integers(1, 80))
def test_chunks_without_their_overlaps_are_the_text_and_none_has_too_many_tokens(
    name: str, text: str, size: int, share: float, window: int
) -> None:
    overlap = int(size * share)
    if max((token_count(name, character) for character in regex.findall(r"\X", text)), default=0) <= size:
        check(name, text, size, overlap, cut(name, text, size, overlap, window=window))
        return
    with suppress(InvalidRequestError):  # in its text, a character may have fewer tokens than by itself
        check(name, text, size, overlap, cut(name, text, size, overlap, window=window))


def test_the_size_is_used_up_and_the_overlap_is_shared() -> None:
    text = " ".join("abcdefghijklmnop")
    chunks = cut("WordPiece", text, 5, 2)
    assert [text[chunk.start : chunk.end].split() for chunk in chunks] == [
        list("abcde"), list("defgh"), list("ghijk"), list("jklmn"), list("mnop"),
    ]  # fmt: skip
    assert [chunk.token_count for chunk in cut("WordPiece", text, 5, 0)] == [5, 5, 5, 1]


def test_words_stay_whole_where_they_can() -> None:
    text = "abc def ghi jkl mno"
    chunks = [text[chunk.start : chunk.end].strip() for chunk in cut("WordPiece", text, 8, 0)]
    assert chunks == ["abc def", "ghi jkl", "mno"]


def test_a_part_of_a_word_is_cut_by_the_tokens_that_it_has_by_itself() -> None:
    text = "unbreakable"
    assert token_count("WordPiece", text) == 8, "un-break are letters, and able is one token behind them"
    assert token_count("WordPiece", "able") == 4
    for size, parts in ((1, list(text)), (2, ["un", "br", "ea", "kable"])):
        assert [text[chunk.start : chunk.end] for chunk in cut("WordPiece", text, size, 0)] == parts


def test_a_character_with_more_tokens_than_a_chunk_is_refused_by_the_field() -> None:
    with pytest.raises(InvalidRequestError, match="at most 2 tokens each") as caught:
        cut("byte-level BPE", "some 🫠 text", 2, 0)
    assert caught.value.field == "text"
    assert caught.value.given == "🫠"


@pytest.mark.parametrize("window", [3, 6, 7, 11])
def test_a_character_that_a_window_cuts_is_measured_whole(window: int) -> None:
    family = "👨‍👩‍👧‍👦"
    text = f"able {family}a"
    assert token_count("byte-level BPE", family) == 6 < token_count("byte-level BPE", family[:-1])
    for start in range(6):
        check("byte-level BPE", text[start:], 6, 0, cut("byte-level BPE", text[start:], 6, 0, window=window))


def test_the_empty_text_has_no_chunk_and_a_blank_one_has_one() -> None:
    assert cut("WordPiece", "", 4, 1) == []
    assert cut("WordPiece", " \n ", 4, 1) == [TextChunk(0, 3, 0)]


def test_a_text_of_many_windows_has_as_many_chunks_as_one_would_have() -> None:
    text = "the quick brown fox jumps over the lazy dog. " * 200
    chunks = cut("byte-level BPE", text, 30, 7, window=500)
    check("byte-level BPE", text, 30, 7, chunks)
    assert len(chunks) == pytest.approx(token_count("byte-level BPE", text) / 23, rel=0.3)
