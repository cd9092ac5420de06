"""The facts of a model before it is loaded: from the catalog, or from its folder's config and headers."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

from workbench import catalog
from workbench.engine.loading import check_folder, read_json
from workbench.engine.machine import memory_limit_bytes
from workbench.errors import WorkbenchError
from workbench.protocol import ModelDef
from workbench.providers.transformers.config import TransformersConfig
from workbench.records import ModelCard

SENTENCE_MODEL_FILE = "modules.json"
"""Sentence-transformers writes it, and only it does."""


def check_source(source: str) -> None:
    """Fetch a model if need be and refuse what could not be loaded later."""
    check_folder(catalog.resolve(source))


def card(model: ModelDef, provider_id: str, provider_type: str, config: TransformersConfig) -> ModelCard:
    """What can be said of a model without loading or fetching it."""
    return ModelCard(
        identifier=model.identifier,
        provider_id=provider_id,
        provider_type=provider_type,
        source=model.llama_model,
        precision=config.precision,
        device="cpu",
        memory_limit_bytes=memory_limit_bytes(),
        **_facts(model.llama_model),
    )


def _facts(source: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if catalog.is_entry(source):
        entry = catalog.find_entry(source)
        facts = {
            "kind": entry.kind,
            "parameters": entry.parameters,
            "context_length": entry.context_length,
            "licence": entry.licence,
        }
    try:
        folder = catalog.resolve(source, allow_download=False)
        return _folder_facts(folder) | facts
    except WorkbenchError:
        return facts


def _folder_facts(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    text_config = config.get("text_config") or config
    return {
        "kind": "embedding" if (folder / SENTENCE_MODEL_FILE).exists() else "causal",
        "architecture": next(iter(config.get("architectures") or ()), None),
        "parameters": sum(
            _parameters(path) for path in folder.glob("*.safetensors") if path.name != "blocks.safetensors"
        ),
        "context_length": text_config.get("max_position_embeddings") or text_config.get("n_positions"),
        "has_chat_template": _has_chat_template(folder),
    }


def _parameters(path: Path) -> int:
    """Counted from the header: 8 bytes of length, then JSON with a shape per tensor."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").exists():
        return True
    path = folder / "tokenizer_config.json"
    return path.exists() and bool(read_json(path).get("chat_template"))
