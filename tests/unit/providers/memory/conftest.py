"""Memory providers on files of the test, with models that need no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.fakes.memory_models import WordModels
from workbench.protocol import MemoryBankDef, MemoryBankDocument, Provider, memory_bank
from workbench.providers.memory.sqlite import SqliteProvider
from workbench.providers.model_access import ModelAccess

Open = Callable[..., SqliteProvider]
BANKS = ("vector", "keyword", "keyvalue", "graph")


@pytest.fixture
def open_provider(tmp_path: Path) -> Iterator[Open]:
    """Opens a provider on the file of the test; the next one sees what this one stored."""
    opened: list[SqliteProvider] = []

    def open_one(models: WordModels | None = None, **config: Any) -> SqliteProvider:
        config = {"path": str(tmp_path / "banks.sqlite3")} | config
        provider = Provider(provider_id="memory", provider_type="inline::sqlite", config=config)
        opened.append(SqliteProvider(provider, cast("ModelAccess", models or WordModels())))
        return opened[-1]

    yield open_one
    for provider in opened:
        provider.close()


@pytest.fixture
def provider(open_provider: Open) -> SqliteProvider:
    return open_provider()


def bank(kind: str, identifier: str = "", **fields: Any) -> MemoryBankDef:
    """The definition of a bank of a type, with small chunks if it has any."""
    if kind == "vector":
        fields = {"embedding_model": "words", "chunk_size_in_tokens": 8, "overlap_size_in_tokens": 0} | fields
    return memory_bank({"type": kind, "identifier": identifier or kind, "provider_id": "memory", **fields})


def documents(*texts: str, **metadata: Any) -> list[MemoryBankDocument]:
    """Documents ``d0``, ``d1`` and so on."""
    return [
        MemoryBankDocument(document_id=f"d{index}", content=text, metadata=metadata) for index, text in enumerate(texts)
    ]
