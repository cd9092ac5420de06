"""Where a sentence model's tokens are in a text, and how many it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.modules import Pooling

from tests.budget import budget
from tests.sentence_models import save_base, save_pipeline
from workbench.errors import InvalidRequestError, ModelNotFoundError, NotRecordedError
from workbench.protocol import Provider
from workbench.providers.trace import TraceProvider
from workbench.providers.trace.recording import RecordedProvider, Recorder
from workbench.providers.transformers import TransformersProvider
from workbench.records import TokenSpans

Make = Callable[..., TransformersProvider]
Folders = dict[str, Path]


async def test_the_spans_are_the_characters_of_each_token(provider_of: Make, tiny_folders: Folders) -> None:
    provider = provider_of(tiny_folders["bert"])
    assert await provider.token_spans("tiny-bert", "fox 7é") == TokenSpans(((0, 1), (1, 2), (2, 3), (4, 6)), 10)
    assert await provider.token_spans("tiny-bert", "") == TokenSpans((), 10)


@settings(max_examples=budget(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("abcxyz é.7\n[]"), max_size=30))
async def test_a_text_with_more_tokens_than_the_limit_is_truncated_and_no_other(
    provider_of: Make, tiny_folders: Folders, text: str
) -> None:
    provider = provider_of(tiny_folders["bert"])
    found = await provider.token_spans("tiny-bert", text)
    read = (await provider.embed("tiny-bert", [text])).usage.prompt_tokens
    assert found.max_tokens == 10
    assert read == min(len(found.spans), 10) + 2


async def test_a_models_own_prompt_leaves_less_room(provider_of: Make, tmp_path: Path) -> None:
    options: dict[str, Any] = {"prompts": {"query": "a b c "}, "default_prompt_name": "query"}
    base = save_base(tmp_path / "base", "bert")
    folder = save_pipeline(tmp_path / "mine", base, Pooling(32, "mean"), options={"max_seq_length": 12}, **options)
    provider = provider_of(folder)
    found = await provider.token_spans("mine", "d e f")
    assert found == TokenSpans(((0, 1), (2, 3), (4, 5)), 7)
    (spaced,) = (await provider.embed("mine", ["d e f g h i j"])).vectors
    (longer,) = (await provider.embed("mine", ["d e f g h i j k l"])).vectors
    assert spaced == longer, "the seventh token is the last that is read"


async def test_a_causal_model_is_refused_before_and_after_it_is_loaded(
    provider_of: Make, tiny_folders: Folders
) -> None:
    provider, model = provider_of(tiny_folders["gpt2"]), "tiny-gpt2"
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="a sentence model") as caught:
            await provider.token_spans(model, "text")
        assert caught.value.field == "model"
        if not provider.card(model).loaded:
            await provider.embed(model, ["text"])


async def test_other_requests_are_refused_by_the_field(provider_of: Make, tiny_folders: Folders) -> None:
    provider = provider_of(tiny_folders["bert"])
    with pytest.raises(ModelNotFoundError):
        await provider.token_spans("missing", "text")
    for text in (None, 5, ["text"], "half a \ud800 pair"):
        with pytest.raises(InvalidRequestError) as caught:
            await provider.token_spans("tiny-bert", text)  # type: ignore[arg-type]
        assert caught.value.field == "text"
    assert not provider.card("tiny-bert").loaded


async def test_they_are_recorded_and_played(provider_of: Make, tiny_folders: Folders, tmp_path: Path) -> None:
    provider = provider_of(tiny_folders["bert"])
    with Recorder(tmp_path / "a.trace.jsonl") as recorder:
        recorded = RecordedProvider(provider, recorder, str)
        found = await recorded.token_spans("tiny-bert", "fox")
        with pytest.raises(InvalidRequestError):
            await recorded.token_spans("tiny-bert", "\ud800")
    spec = {"path": str(tmp_path / "a.trace.jsonl"), "timing": "skipped"}
    played = TraceProvider(Provider(provider_id="local", provider_type="inline::trace", config=spec))
    assert played.capabilities.token_spans
    assert await played.token_spans("tiny-bert", "fox") == found
    with pytest.raises(InvalidRequestError, match="valid Unicode"):
        await played.token_spans("tiny-bert", "\ud800")
    with pytest.raises(NotRecordedError):
        await played.token_spans("tiny-bert", "dog")
