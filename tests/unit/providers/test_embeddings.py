"""Embeddings through the provider: either kind of model, and a refusal by name for what neither can read."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling

from tests.sentence_models import Judge, save_base, save_pipeline
from workbench.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    NumericalError,
    UnsupportedContentError,
)
from workbench.protocol import URL, ImageMedia, UserMessage
from workbench.providers.transformers import TransformersProvider

Make = Callable[..., TransformersProvider]
Folders = dict[str, Path]
TEXTS: list[Any] = ["fox", "", "a quick brown dog", "fox", ["two ", "parts"], "two parts", "z " * 120]


@pytest.fixture
def provider(provider_of: Make, tiny_folders: Folders) -> TransformersProvider:
    return provider_of(*tiny_folders.values())


async def test_a_sentence_model_gives_one_unit_vector_per_content_in_order(provider: TransformersProvider) -> None:
    vectors = (await provider.embeddings("tiny-bert", TEXTS)).embeddings
    assert [len(vector) for vector in vectors] == [32] * len(TEXTS)
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1] * len(TEXTS), abs=1e-6)
    assert vectors[0] == pytest.approx(vectors[3], abs=1e-6)
    assert vectors[4] == pytest.approx(vectors[5], abs=1e-6)
    assert vectors[0] != pytest.approx(vectors[2], abs=1e-3)
    for text, vector in zip(TEXTS, vectors, strict=True):
        (alone,) = (await provider.embeddings("tiny-bert", [text])).embeddings
        assert vector == pytest.approx(alone, abs=1e-6)


async def test_a_sentence_models_own_pipeline_is_applied(provider_of: Make, tmp_path: Path) -> None:
    modules = [Pooling(32, ("mean", "max")), Dense(64, 12), Normalize()]
    prompts: dict[str, Any] = {"prompts": {"query": "quick "}, "default_prompt_name": "query"}
    folder = save_pipeline(tmp_path / "mine", save_base(tmp_path / "base", "roberta"), *modules, **prompts)
    provider = provider_of(folder)
    texts: list[Any] = ["fox", "", "a quick brown dog", "z " * 120]
    assert provider.card("mine").context_length == 42
    vectors = torch.tensor((await provider.embeddings("mine", texts)).embeddings)
    judge = Judge(folder)
    judge.model.max_seq_length = 40
    torch.testing.assert_close(vectors, judge(texts), atol=1e-5, rtol=0)
    card = provider.card("mine")
    assert card.context_length == 40, "what RoBERTa has places for"
    assert card.parameters is not None
    assert card.parameters > 64 * 12


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-gpt2"])
async def test_a_causal_model_gives_unit_vectors_that_do_not_depend_on_the_others(
    provider: TransformersProvider, model: str
) -> None:
    texts: list[Any] = [text for text in TEXTS if text]
    vectors = (await provider.embeddings(model, texts)).embeddings
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1] * len(texts), abs=1e-6)
    assert (await provider.embeddings(model, texts[::-1])).embeddings == vectors[::-1]
    assert vectors[0] == vectors[2]


@pytest.mark.parametrize("model", ["tiny-bert", "tiny-llama"])
async def test_the_tokens_that_were_read_are_counted(provider: TransformersProvider, model: str) -> None:
    async def read(*texts: str) -> int:
        return (await provider.embed(model, list(texts))).usage.prompt_tokens

    assert await read("a quick", "brown dog") == await read("a quick") + await read("brown dog")
    assert 0 < await read("a") < await read("a quick brown dog")


async def test_both_kinds_write_finite_numbers_as_json(provider: TransformersProvider) -> None:
    response = await provider.embeddings("tiny-bert", TEXTS)
    json.dumps(response.model_dump(), allow_nan=False)


async def test_a_text_beyond_a_causal_models_context_is_refused_by_its_place(provider: TransformersProvider) -> None:
    with pytest.raises(ContextLengthError, match="512") as caught:
        await provider.embeddings("tiny-llama", ["fine", "a b c d " * 2000])
    assert caught.value.field == "contents[1]"


@pytest.mark.parametrize("model", ["tiny-bert", "tiny-llama"])
@pytest.mark.parametrize(
    "contents,error,field",
    [
        ([], InvalidRequestError, "contents"),
        (None, InvalidRequestError, "contents"),
        ("a text", InvalidRequestError, "contents"),
        (["x", 5], InvalidRequestError, "contents[1]"),
        (["x", None], InvalidRequestError, "contents[1]"),
        (["x", UserMessage(content="x")], InvalidRequestError, "contents[1]"),
        (["half a \ud800 pair"], InvalidRequestError, "contents[0]"),
    ],
)
async def test_bad_contents_are_refused_by_place_before_the_model_is_loaded(
    provider: TransformersProvider, model: str, contents: Any, error: type[InvalidRequestError], field: str
) -> None:
    with pytest.raises(error) as caught:
        await provider.embeddings(model, contents)
    assert caught.value.field == field
    assert not provider.card(model).loaded


@pytest.mark.parametrize("content", [lambda image: image, lambda image: ["see: ", image]])
async def test_images_are_refused_and_never_dropped(
    provider: TransformersProvider, content: Callable[[Any], Any]
) -> None:
    image = ImageMedia(image=URL(uri="data:image/png;base64,AAAA"))
    with pytest.raises(UnsupportedContentError, match=r"contents\[1\].*image"):
        await provider.embeddings("tiny-bert", ["fine", content(image)])


async def test_a_causal_model_refuses_the_empty_text(provider: TransformersProvider) -> None:
    with pytest.raises(InvalidRequestError, match=r"contents\[1\]"):
        await provider.embeddings("tiny-llama", ["x", ""])


async def test_an_unknown_model_is_refused_with_the_names_served(provider: TransformersProvider) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nobody.*tiny-bert"):
        await provider.embeddings("nobody", ["x"])


@pytest.mark.parametrize(
    "call",
    [
        lambda provider: provider.completion("tiny-bert", "x"),
        lambda provider: provider.chat_completion("tiny-bert", [UserMessage(content="x")]),
        lambda provider: provider.batch_completion("tiny-bert", ["x"]),
        lambda provider: provider.score("tiny-bert", "x", ["y"]),
        lambda provider: anext(provider.completion("tiny-bert", "x", stream=True)),
    ],
    ids=["completion", "chat", "batch", "score", "stream"],
)
async def test_a_sentence_model_that_is_asked_for_text_says_what_it_is(
    provider: TransformersProvider, call: Callable[[Any], Any]
) -> None:
    for _ in range(2):  # before and after it is loaded
        with pytest.raises(InvalidRequestError, match="tiny-bert") as caught:
            await call(provider)
        assert caught.value.field == "model"
        assert "embeddings" in str(caught.value)
        assert len((await provider.embeddings("tiny-bert", ["x"])).embeddings) == 1


@pytest.mark.parametrize("kind", ["bert", "llama"])
async def test_a_damaged_model_gives_an_error_and_no_vector_of_nan(
    provider_of: Make, tiny_folders: Folders, tmp_path: Path, kind: str
) -> None:
    shutil.copytree(tiny_folders[kind], tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(
        name
        for name in sorted(tensors)
        if "layer" in name and name.endswith(("down_proj.weight", "output.dense.weight"))
    )
    tensors[name][3, 3] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    provider = provider_of(tmp_path)
    with pytest.raises(NumericalError):
        await provider.embeddings(tmp_path.name, ["fox", "dog"])
