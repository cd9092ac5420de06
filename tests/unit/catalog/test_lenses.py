"""A lens of the catalog is served only if its file is the one whose checksum is in the code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from workbench import catalog
from workbench.catalog import lenses
from workbench.catalog.lenses import lens_path
from workbench.errors import ChecksumError


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the catalog, of the model ``tiny``."""
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"a lens")
    monkeypatch.setattr(lenses, "LENSES", tmp_path)
    monkeypatch.setattr(lenses, "_SHA256", {"tiny": hashlib.sha256(b"a lens").hexdigest()})
    return path


def test_a_lens_with_its_checksum_is_found(stored: Path) -> None:
    assert lens_path("tiny") == stored


def test_models_without_a_lens_have_none(stored: Path) -> None:
    assert lens_path("smollm2-135m-instruct") is None
    assert lens_path("../tiny") is None


def test_a_changed_file_is_refused_also_after_it_was_found(stored: Path) -> None:
    assert lens_path("tiny") == stored
    stored.write_bytes(b"another lens")
    with pytest.raises(ChecksumError, match=r"tiny\.safetensors was changed: expected SHA-256 [0-9a-f]{64}, found"):
        lens_path("tiny")


def test_a_missing_file_is_named(stored: Path) -> None:
    stored.unlink()
    with pytest.raises(ChecksumError, match=r"tiny\.safetensors cannot be read"):
        lens_path("tiny")


def test_every_lens_of_the_package_is_whole_and_of_a_catalog_model() -> None:
    files = {path.stem for path in lenses.LENSES.glob("*.safetensors")}
    assert files
    for name in files:
        assert catalog.is_entry(name)
        path = lens_path(name)
        assert path is not None
        assert path.stat().st_size < 10_000_000


def test_the_digest_of_weights_ignores_settings(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    before = catalog.weights_digest(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("")
    assert catalog.weights_digest(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"weights!")
    assert catalog.weights_digest(tmp_path) != before
