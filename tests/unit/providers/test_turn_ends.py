"""The token that ends a turn is detected once for each template, and read from a file afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.templates import FAMILIES, Family
from tests.tiny_models import bpe_tokenizer
from workbench.prompts.encoding import PromptEncoder
from workbench.providers.transformers import turn_ends as module
from workbench.providers.transformers.turn_ends import cached_turn_ends, turn_ends


def cached(family: Family, folder: Path) -> frozenset[int]:
    tokenizer = family.tokenizer()
    return cached_turn_ends(PromptEncoder(tokenizer, "fake"), tokenizer, folder)


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[PromptEncoder]:
    """The encoders whose templates were rendered to detect the end of a turn."""
    found: list[PromptEncoder] = []

    def detect(encoder: PromptEncoder) -> frozenset[int]:
        found.append(encoder)
        return turn_ends(encoder)

    monkeypatch.setattr(module, "turn_ends", detect)
    return found


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_template_is_rendered_once(name: str, tmp_path: Path, renderings: list[PromptEncoder]) -> None:
    expected = turn_ends(FAMILIES[name].encoder())
    assert [cached(FAMILIES[name], tmp_path) for _ in range(2)] == [expected, expected]
    assert len(renderings) == 1


def test_another_template_is_rendered_again(tmp_path: Path, renderings: list[PromptEncoder]) -> None:
    for name in ("plain", "tagged", "plain"):
        cached(FAMILIES[name], tmp_path)
    assert len(renderings) == 2


@pytest.mark.parametrize("content", ["", "{}", '["1"]', "[true]"])
def test_a_damaged_file_is_written_again(content: str, tmp_path: Path, renderings: list[PromptEncoder]) -> None:
    expected = cached(FAMILIES["plain"], tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content, encoding="utf-8")
    assert [cached(FAMILIES["plain"], tmp_path) for _ in range(2)] == [expected, expected]
    assert len(renderings) == 2


def test_without_a_template_or_a_folder_that_can_be_written_nothing_is_stored(tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    tokenizer.chat_template = None
    assert cached_turn_ends(PromptEncoder(tokenizer, "fake"), tokenizer, tmp_path) == frozenset()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert cached(FAMILIES["plain"], tmp_path / "file") == turn_ends(FAMILIES["plain"].encoder())
