"""Tokenizers from GGUF files give the ids of the tokenizers that the files were made from."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

from tests.budget import budget
from tests.tiny_models import CORPUS, UNICODE_CORPUS, bpe_tokenizer
from workbench.catalog.gguf_tokenizer import write_tokenizer

any_transformers: Any = transformers

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.lists(
        st.sampled_from(["the", " ", "  ", "3", "41", "\n", "don't", "I'M", "é", "e\u0301", "日本", ",", "/", "\t"])
    )
    .map("".join)
    .filter(bool),
)


def byte_level_fields(pre: str) -> dict[str, Any]:
    content = json.loads(bpe_tokenizer().backend_tokenizer.to_str())
    vocabulary: dict[str, int] = content["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token.startswith("<|") else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in content["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
    }


def made(fields: dict[str, Any], folder: Path, **options: Any) -> Tokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(fields, folder, 128, **options)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def judge_of(pre: str, fields: dict[str, Any]) -> Tokenizer:
    """The tokenizer that transformers makes of the same facts, or has for the family."""
    tokens, merges = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"]
    judge: Tokenizer
    if pre == "gpt-2":
        judge = bpe_tokenizer().backend_tokenizer
        return judge
    if pre == "qwen2":
        vocabulary = {token: index for index, token in enumerate(tokens)}
        pairs = [tuple(merge.split(" ")) for merge in merges]
        judge = any_transformers.Qwen2Tokenizer(vocab=vocabulary, merges=pairs).backend_tokenizer
        return judge
    facts = {
        "tokenizer_type": "gpt2",
        "pre_tokenizer_type": pre,
        "tokens": tokens,
        "merges": merges,
        "token_type": fields["tokenizer.ggml.token_type"],
    }
    judge = convert_gguf_tokenizer("llama", facts)[0]
    return judge


@pytest.mark.parametrize("pre", ["gpt-2", "qwen2", "llama-bpe", "dbrx", "tekken"])
def test_byte_level_ids_are_those_of_the_family(tmp_path: Path, pre: str) -> None:
    fields = byte_level_fields(pre)
    ours, judge = made(fields, tmp_path), judge_of(pre, fields)

    @settings(max_examples=budget(200))
    @given(TEXTS)
    def check(text: str) -> None:
        ids = ours.encode(text).ids
        assert ids == judge.encode(text, add_special_tokens=False).ids
        if pre != "qwen2":  # which composes characters
            assert ours.decode(ids, skip_special_tokens=False) == text

    check()
    for text in (*CORPUS, *UNICODE_CORPUS):
        assert ours.encode(text).ids == judge.encode(text, add_special_tokens=False).ids


def trained_pieces(*, prefixes: bool) -> sentencepiece.SentencePieceProcessor:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in CORPUS * 4 for line in text.splitlines()),
        model_writer=model,
        vocab_size=420,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefixes,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.mark.parametrize("prefixes", [True, False])
@pytest.mark.parametrize("ranks_by_place", [True, False])
def test_pieces_are_those_of_sentencepiece(tmp_path: Path, prefixes: bool, ranks_by_place: bool) -> None:
    judge = trained_pieces(prefixes=prefixes)
    count = judge.get_piece_size()
    types = [
        2 if judge.is_unknown(one) else 3 if judge.is_control(one) else 6 if judge.is_byte(one) else 1
        for one in range(count)
    ]
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [judge.id_to_piece(one) for one in range(count)],
        "tokenizer.ggml.scores": [judge.get_score(one) for one in range(count)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": prefixes,
    }
    ours = made(fields, tmp_path, ranks_by_place=ranks_by_place)

    @settings(max_examples=budget(200))
    @given(TEXTS.filter(lambda text: "\u2581" not in text and "\0" not in text))
    def check(text: str) -> None:
        ids = ours.encode(text).ids
        assert ids == [1, *judge.encode(text)]
        assert ours.decode(ids) == text

    check()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tokenizer.ggml.model": "bert"}, "tokenizer of kind 'bert'"),
        ({"tokenizer.ggml.pre": "unheard-of"}, r"pre-tokenizer 'unheard-of' \(tokenizer.ggml.pre\)"),
        ({"tokenizer.ggml.tokens": None}, "it has no vocabulary"),
        ({"tokenizer.ggml.tokens": ["a", "a"], "tokenizer.ggml.token_type": None}, "have one text"),
        ({"tokenizer.ggml.token_type": [1]}, "tokenizer.ggml.token_type has 1 values for 384 tokens"),
        ({"tokenizer.ggml.merges": ["nonsense more"]}, "do not fit its tokens"),
        ({"tokenizer.ggml.merges": ["alone"]}, "do not fit its tokens"),
        ({"tokenizer.ggml.eos_token_id": 384}, "tokenizer.ggml.eos_token_id is 384, which is no token"),
        ({"tokenizer.ggml.model": "llama"}, "does not have one score for each token"),
        ({"tokenizer.ggml.tokens": "text"}, "tokenizer.ggml.tokens is no list of texts"),
        ({"tokenizer.ggml.token_type": 5}, "tokenizer.ggml.token_type is no list of numbers"),
        ({"tokenizer.ggml.merges": (1, 2)}, "tokenizer.ggml.merges is no list of texts"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": 5}, "tokenizer.ggml.scores is no list of numbers"),
        (
            {
                "tokenizer.ggml.model": "llama",
                "tokenizer.ggml.tokens": ["a", "b" * 10**6],
                "tokenizer.ggml.token_type": None,
                "tokenizer.ggml.scores": [0.0, 0.0],
            },
            "one of its tokens has 1,000,000 characters; at most 1,024 are read",
        ),
    ],
)
def test_a_tokenizer_that_is_not_known_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        made(byte_level_fields("gpt-2") | changes, tmp_path)
