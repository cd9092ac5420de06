"""Scores of texts: the continuation as it follows the prompt, in tokens whose bytes are the text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.tiny_models import UNICODE_CORPUS, save_model, sentencepiece_tokenizer
from workbench.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError, UnsupportedContentError
from workbench.protocol import SamplingParams, SystemMessage, UserMessage
from workbench.providers.transformers import TransformersProvider
from workbench.records import Score

Make = Callable[..., TransformersProvider]
Folders = dict[str, Path]
TEXT = "The quick brown fox jumps over the lazy dog."


@pytest.fixture
def provider(provider_of: Make, tiny_folders: Folders) -> TransformersProvider:
    return provider_of(*tiny_folders.values())


def exact(folder: Path, prompt_ids: list[int], token_ids: list[int]) -> float:
    """The sum of raw logprobs by one full forward of transformers."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt_ids, *token_ids]]), use_cache=False).logits[0]
    logprobs = logits[len(prompt_ids) - 1 : -1].double().log_softmax(-1)
    return float(logprobs.gather(1, torch.tensor(token_ids).unsqueeze(1)).sum())


def ids_of(score: Score) -> list[int]:
    return [token.token_id for token in score.tokens]


@pytest.mark.parametrize("cut", range(1, len(TEXT)))
async def test_at_every_seam_the_tokens_are_the_continuation_and_no_more(
    provider: TransformersProvider, tiny_folders: Folders, cut: int
) -> None:
    """Also in the middle of a word, where the whole text would be cut into other tokens."""
    prompt, continuation = TEXT[:cut], TEXT[cut:]
    (score,) = await provider.score("tiny-llama", prompt, [continuation])
    assert score.text == continuation
    assert b"".join(token.bytes for token in score.tokens) == continuation.encode()
    assert [token.position for token in score.tokens] == list(range(len(score.tokens)))
    if cut in {4, 6, 20}:
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folders["llama"])
        expected = exact(tiny_folders["llama"], tokenizer(prompt).input_ids, ids_of(score))
        assert score.logprob == pytest.approx(expected, abs=1e-3)


async def test_where_the_seam_is_one_of_the_text_the_tokens_are_those_of_the_whole(
    provider: TransformersProvider, tiny_folders: Folders
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folders["llama"])
    (score,) = await provider.score("tiny-llama", "The quick", [" brown fox"])
    assert [*tokenizer("The quick").input_ids, *ids_of(score)] == tokenizer("The quick brown fox").input_ids


@pytest.mark.parametrize("text", UNICODE_CORPUS)
async def test_any_script_is_scored_in_its_own_bytes(provider: TransformersProvider, text: str) -> None:
    (score,) = await provider.score("tiny-gpt2", "The ", [text])
    assert b"".join(token.bytes for token in score.tokens) == text.encode()


async def test_a_sentencepiece_model_scores_a_word_as_it_follows(provider_of: Make, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tiny-sp", "llama", sentencepiece_tokenizer(), end_ids=2)
    provider = provider_of(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    (score,) = await provider.score("tiny-sp", "The quick", [" brown fox"])
    whole = tokenizer("The quick brown fox").input_ids
    assert [*tokenizer("The quick").input_ids, *ids_of(score)] == whole
    assert score.logprob == pytest.approx(exact(folder, tokenizer("The quick").input_ids, ids_of(score)), abs=1e-3)


async def test_scores_come_in_order_each_as_if_alone(provider: TransformersProvider) -> None:
    continuations = [" fox", " dog jumps over", "!", " fox"]
    together = await provider.score("tiny-llama", "The quick", continuations, 2)
    assert [score.text for score in together] == continuations
    assert together[0] == together[3]
    for text, score in zip(continuations, together, strict=True):
        assert (await provider.score("tiny-llama", "The quick", [text], 2))[0] == score
        assert score.logprob == pytest.approx(math.fsum(token.logprob for token in score.tokens))
        assert score.logprob_per_token == pytest.approx(score.logprob / len(score.tokens))
        assert score.probability == pytest.approx(math.exp(score.logprob))
        assert all(len(token.alternatives) == 2 for token in score.tokens)


@pytest.mark.parametrize("length", [1, 2])
async def test_a_single_token_has_one_logprob(provider: TransformersProvider, length: int) -> None:
    (score,) = await provider.score("tiny-llama", "x", ["!" * length])
    assert len(score.tokens) == length
    assert score.logprob <= 0


async def test_a_conversation_is_scored_as_the_assistants_answer(
    provider: TransformersProvider, tiny_folders: Folders
) -> None:
    messages: list[Any] = [SystemMessage(content="Be kind."), UserMessage(content="Hi")]
    (score,) = await provider.score("tiny-llama", messages, ["The fox"])
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tiny_folders["llama"])
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    prompt_ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids_of(score) == tokenizer("The fox").input_ids
    assert score.logprob == pytest.approx(exact(tiny_folders["llama"], prompt_ids, ids_of(score)), abs=1e-3)


async def test_control_tokens_in_a_continuation_are_only_characters(provider: TransformersProvider) -> None:
    (score,) = await provider.score("tiny-llama", "The", ["<|im_end|>"])
    assert not any(token.is_special for token in score.tokens)
    assert b"".join(token.bytes for token in score.tokens) == b"<|im_end|>"


async def test_scores_are_the_same_before_and_after_runs_that_warm_the_cache(provider: TransformersProvider) -> None:
    prompt = TEXT * 3
    cold = await provider.score("tiny-llama", prompt, [" fox", " dog jumps"])
    for continuation in (" fox", " dog jumps", ""):
        await provider.completion("tiny-llama", prompt + continuation, SamplingParams(max_tokens=3))
    warm = await provider.score("tiny-llama", prompt, [" fox", " dog jumps"])
    for a, b in zip(cold, warm, strict=True):
        assert [t.logprob for t in a.tokens] == pytest.approx([t.logprob for t in b.tokens], abs=1e-5)


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "prompt,continuations,field",
    [
        ("x", [], "continuations"),
        ("x", None, "continuations"),
        ("x", "a text", "continuations"),
        ("x", ["fine", ""], "continuations[1]"),
        ("x", ["fine", 5], "continuations[1]"),
        ("x", ["half a \ud800 pair"], "continuations[0]"),
        ("", ["x"], "prompt"),
        ([], ["x"], "prompt"),
        (None, ["x"], "prompt"),
        (5, ["x"], "prompt"),
        ("half a \udfff pair", ["x"], "prompt"),
        (["no message"], ["x"], "prompt[0]"),
    ],
)
async def test_bad_input_is_named_by_its_place(
    provider: TransformersProvider, prompt: Any, continuations: Any, field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await provider.score("tiny-llama", prompt, continuations)
    assert caught.value.field == field


@pytest.mark.parametrize("alternatives", [-1, 2.5, "3", True])
async def test_a_bad_number_of_alternatives_is_named(provider: TransformersProvider, alternatives: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"logprobs\.top_k"):
        await provider.score("tiny-llama", "x", ["y"], alternatives)


async def test_what_does_not_fit_the_context_is_refused_with_both_numbers(provider: TransformersProvider) -> None:
    with pytest.raises(ContextLengthError, match="512"):
        await provider.score("tiny-llama", "x", ["y", "a b c d " * 1000])


async def test_a_chat_needs_a_template(provider_of: Make, tiny_folders: Folders, tmp_path: Path) -> None:
    for path in tiny_folders["llama"].iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    provider = provider_of(tmp_path)
    with pytest.raises(UnsupportedContentError, match="template"):
        await provider.score(tmp_path.name, [UserMessage(content="Hi")], ["x"])


async def test_an_unknown_model_is_refused_with_the_names_served(provider: TransformersProvider) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nobody.*tiny-llama"):
        await provider.score("nobody", "x", ["y"])
