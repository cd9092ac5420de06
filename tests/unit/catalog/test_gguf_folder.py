"""Damaged GGUF files end in a typed error, or are resolved; nothing is left of those that are refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.budget import budget
from tests.fakes.gguf_models import write_gguf_model
from tests.unit.gguf_files.test_header import mutations
from workbench import catalog
from workbench.errors import WorkbenchError
from workbench.gguf_files import read_gguf_header


def test_damaged_files_are_refused_with_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.gguf"
    write_gguf_model(path, "llama")
    whole, end = path.read_bytes(), read_gguf_header(path).data_start
    ways, source = mutations(whole, end), random.Random(4)
    refused = 0
    for _ in range(budget(300)):
        path.write_bytes(source.choice(ways)(source))
        try:
            catalog.resolve(str(path))
        except WorkbenchError:
            refused += 1
    assert refused > budget(300) // 3
    assert len(list((tmp_path / "cache/gguf").glob("*"))) <= 1
    assert not list((tmp_path / "cache/gguf").glob(".partial-*"))
