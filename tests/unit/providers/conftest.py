"""Providers over small random models in folders: everything is real but the models' sense."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import save_model, save_sentence_model
from workbench.protocol import Provider
from workbench.providers.transformers import TransformersProvider


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("served")
    causal = {family: save_model(root / f"tiny-{family}", family) for family in ("llama", "gpt2")}
    return causal | {"bert": save_sentence_model(root / "tiny-bert")}


@pytest.fixture
def provider_of() -> Iterator[Callable[..., TransformersProvider]]:
    """Makes a provider of a config, which is closed after the test."""
    made: list[TransformersProvider] = []

    def make(*sources: Path | str, **config: Any) -> TransformersProvider:
        spec = {"models": [str(source) for source in sources]} | config
        made.append(
            TransformersProvider(Provider(provider_id="local", provider_type="inline::transformers", config=spec))
        )
        return made[-1]

    yield make
    for provider in made:
        provider.close()
