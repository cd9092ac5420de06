"""Engines of fakes and of small random models, each closed at the end of its test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.models import FakeDecoder, fake_model
from tests.tiny_models import FAMILIES, bpe_tokenizer, save_model, sentencepiece_tokenizer
from workbench.engine.loading import LoadedModel, load
from workbench.engine.scheduler import Engine


@pytest.fixture
def engine_of() -> Iterator[Callable[..., Engine]]:
    """Makes an engine around a fake decoder or a loaded model; its thread must be gone after the test."""
    engines: list[Engine] = []

    def make(
        decoder: FakeDecoder | None = None,
        *,
        model: LoadedModel | None = None,
        prefix_cache_bytes: int = 0,
        max_active: int = 16,
        **more: Any,
    ) -> Engine:
        loaded = model or fake_model(decoder, **more)
        engines.append(Engine(loaded, prefix_cache_bytes=prefix_cache_bytes, max_active=max_active))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("inference-fake")]


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small random model of a family, made once."""
    root = tmp_path_factory.mktemp("families")

    def folder(family: str) -> Path:
        path = root / family
        return path if path.exists() else save_model(path, family)

    return folder


ON_DEVICE = "gemma3-on-device"


@pytest.fixture(scope="session", params=[*sorted(FAMILIES), ON_DEVICE])
def tiny_model(request: pytest.FixtureRequest, family_folder: Callable[[str], Path], device: str) -> LoadedModel:
    """A small random model of every family in turn, and one of them with the decoder of devices."""
    family: str = request.param
    if family == ON_DEVICE and device == "cpu":
        device = "torch:cpu"
    return load(family_folder(family.removesuffix("-on-device")), name=f"tiny-{family}", device=device)


@pytest.fixture(scope="session")
def tiny_llama(family_folder: Callable[[str], Path], device: str) -> LoadedModel:
    return load(family_folder("llama"), name="tiny-llama", device=device)


@pytest.fixture(scope="session")
def tokenizers_by_kind() -> dict[str, Any]:
    return {"byte-level": bpe_tokenizer(), "sentencepiece": sentencepiece_tokenizer()}
