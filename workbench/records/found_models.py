"""Models that were found on this machine, outside the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model in a place where other programs keep theirs, as its headers describe it; None where unknown."""

    name: str
    """Hub id or path, which can be given wherever a model is named; for Ollama's models their name there, which
    `Workbench.register_model` takes."""
    place: str
    """``Ollama``, ``LM Studio``, ``Hugging Face``, ``llama.cpp`` or ``model_folders``."""
    format: Literal["gguf", "safetensors"]
    path: str
    """Absolute path of the file, or of the folder; of a split model, of the first file."""
    architecture: str | None = None
    """As the model spells it: ``llama`` in GGUF files, ``LlamaForCausalLM`` in folders."""
    parameters: int | None = None
    """Number of weights."""
    precision: str | None = None
    """Type of most weights, such as ``Q4_K_M`` or ``BF16``, or the method that quantized them."""
    size_bytes: int = 0
    """Size of all files of weights."""
    fits_in: str | None = None
    """Most exact precision in which the weights fit in this machine's memory; of a GGUF file, its own. None if there
    is none."""
    memory_bytes: int | None = None
    """Predicted memory of the weights in that precision; in the smallest one if none fits."""
    problem: str = ""
    """Why the model cannot be served; empty if it can."""
    aliases: tuple[str, ...] = ()
    """Other names of the same file."""

    @property
    def servable(self) -> bool:
        """Whether `Workbench.register_model` accepts the model, as far as its headers show."""
        return not self.problem
