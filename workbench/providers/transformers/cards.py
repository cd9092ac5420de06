"""Facts of a model before it is loaded, from the catalog or from its folder's config and headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from workbench import catalog
from workbench.catalog import ModelFolders
from workbench.engine.adapters import Adapter, read_adapter
from workbench.engine.context_length import DEFAULT_CONTEXT_LENGTH, named_context_length
from workbench.engine.devices import CPU, DeviceChoice, choose, held_precision, memory_bytes
from workbench.engine.gguf_weights import gguf_precision
from workbench.engine.loading import has_own_decoder
from workbench.engine.memory import check_limit, device_bytes, tensor_shapes, weights_bytes
from workbench.engine.model_folder import check_folder, is_sentence_model, read_json
from workbench.engine.packed_file import PACKED
from workbench.engine.packed_models import PackedModels
from workbench.engine.precision import Precision
from workbench.engine.proof import ALL_PROVEN, Proof
from workbench.engine.proof_cache import cached_proof
from workbench.engine.quantization_settings import stored_format
from workbench.engine.quantized_folders import check_decoder
from workbench.engine.vision import FAMILIES, processor_template
from workbench.errors import InvalidRequestError, ModelFormatError, WorkbenchError
from workbench.paths import reason
from workbench.prompts.templates import template_sha256, template_sources
from workbench.protocol import ModelDef
from workbench.providers.transformers.config import TransformersConfig
from workbench.providers.transformers.sampling_advice import read_advice
from workbench.records import ModelCard

PROOFS = "proofs"
"""Folder in the cache for proofs."""


def check_source(model: ModelDef, config: TransformersConfig) -> None:
    """Fetch a model if necessary; raise unless it can be loaded later."""
    requested = config.precision_of(model)
    device = choose(config.device_of(model), "metadata.device").device  # first of all: it may refuse
    folders = catalog.resolve_folders(model.llama_model)
    folder = folders.model
    check_folder(folder)
    if is_sentence_model(folder):
        from workbench.engine.embeddings import check_sentence_model

        refuse_adapter(folders)
        if (named := model.metadata.get("device")) not in (None, "auto", CPU):
            raise InvalidRequestError("metadata.device", named, f"{CPU} for a sentence model")
        device = CPU
        check_sentence_model(folder)
    adapter = _adapter(folders)
    precision, packed = _weight_form(folder, held_precision(requested, device), device, adapter=adapter)
    check_decoder(folder, stored_format(folder), is_fused=packed)
    check_limit(folder, precision, model.identifier, packed=packed, adapter=adapter, device=device)


def refuse_adapter(folders: ModelFolders) -> None:
    """Raise `ModelFormatError` if a sentence model has an adapter."""
    if folders.adapter is not None:
        raise ModelFormatError(
            f"{folders.adapter} cannot be merged into {folders.model}: adapters of sentence models are not supported; "
            "merge it with peft, and name the merged folder"
        )


def _adapter(folders: ModelFolders) -> Adapter | None:
    if folders.adapter is None:
        return None
    return read_adapter(folders.adapter, folders.model, tensor_shapes(folders.model))


def card(
    model: ModelDef,
    provider_id: str,
    provider_type: str,
    config: TransformersConfig,
    choice: DeviceChoice | None = None,
) -> ModelCard:
    """Return the facts of a model that need neither loading nor fetching it.

    Args:
        choice: device of the loaded model; None is the one that it would be loaded to.
    """
    choice = choice or choose(config.device_of(model))
    precision = held_precision(config.precision_of(model), choice.device)
    facts = {"precision": precision} | _facts(model.llama_model, precision, choice.device)
    if facts.get("kind") == "embedding":
        choice = DeviceChoice(CPU, "sentence models are computed on the CPU")
    return ModelCard(
        identifier=model.identifier,
        provider_id=provider_id,
        provider_type=provider_type,
        source=model.llama_model,
        device=choice.device,
        device_why=choice.why,
        memory_limit_bytes=memory_bytes(choice.device)[1],
        **facts,
    )


def kind(model: ModelDef) -> str:
    """Return ``causal`` or ``embedding``, without reading a model's weights or config."""
    if catalog.is_entry(model.llama_model):
        return catalog.find_entry(model.llama_model).kind
    try:
        embeds = is_sentence_model(catalog.resolve_folders(model.llama_model, allow_download=False).model)
    except WorkbenchError:
        return "causal"
    return "embedding" if embeds else "causal"


def _facts(source: str, precision: Precision, device: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if catalog.is_entry(source):
        entry = catalog.find_entry(source)
        facts = {
            "precision": "float32" if entry.kind == "embedding" else _shown(precision, device),
            "kind": entry.kind,
            "parameters": entry.parameters,
            "context_length": entry.context_length,
            "licence": entry.licence,
        }
    try:
        folders = catalog.resolve_folders(source, allow_download=False)
        adapter = _adapter(folders)
        found = _folder_facts(folders.model, precision, adapter, device) | facts
    except WorkbenchError:
        return facts
    return found if adapter is None else found | _adapter_facts(adapter, catalog.split_source(source).base, found)


def _adapter_facts(adapter: Adapter, base: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a card that an adapter adds to the facts of the merged model."""
    return {
        "base": base,
        "adapter": str(adapter.folder),
        "adapter_rank": adapter.rank,
        "adapted_layers": adapter.layers,
        "notes": (*adapter.notes(base), *facts["notes"]),
    }


def _folder_facts(folder: Path, precision: Precision, adapter: Adapter | None, device: str) -> dict[str, Any]:
    embeds = is_sentence_model(folder)
    shapes = _sentence_shapes(folder) if embeds else tensor_shapes(folder, adapter)
    model_config = read_json(folder / "config.json")
    text_config = model_config.get("text_config") or model_config
    precision, packed = _weight_form(folder, precision, device, shapes, adapter)
    reads_images = model_config.get("model_type") in FAMILIES
    advice = read_advice(folder)
    adapter_file = adapter.weights if adapter else None
    proof = cached_proof(folder, precision, catalog.cache_dir() / PROOFS, adapter_file) or ALL_PROVEN
    positions = named_context_length(text_config)
    on_device = device != CPU and not embeds
    predicted = weights_bytes(folder, shapes, precision, packed=packed, keep_bf16=True, adapter=adapter)
    if on_device:
        predicted = device_bytes(shapes, precision)
    return {
        "kind": "embedding" if embeds else "causal",
        "precision": gguf_precision(folder) if precision == "file" else _shown(precision, device),
        "decoder": None if embeds else "general" if not packed else "device" if on_device else "fused",
        "architecture": _architecture(model_config),
        "parameters": sum(prod(shape) for shape in shapes.values()),
        "predicted_memory_bytes": predicted,
        "context_length": _sentence_limit(folder) if embeds else positions,
        "reads_images": reads_images,
        "sampling_defaults": advice.params or None,
        "switched_off": proof.switched_off,
        "notes": (*advice.notes, *proof.notes, *_quantized_notes(folder, precision, adapter)),
        **template_facts(_template_sources(folder, reads_images=reads_images)),
    }


def _quantized_notes(folder: Path, precision: Precision, adapter: Adapter | None) -> tuple[str, ...]:
    """Return sentences about the weights of a folder that is quantized already, and about those that were merged."""
    merged: tuple[str, ...] = ()
    if adapter and precision == "file":
        merged = (
            "the matrices that the adapter changes are held in float32, with exactly the file's numbers in the sum",
        )
    stored = stored_format(folder)
    if stored is None:
        return merged
    exact = {"int4": "int4 computes with exactly these numbers", "float32": "float32 holds exactly these numbers"}
    others = exact.get(precision, f"{precision} rounds them a second time; int4 and float32 do not")
    if adapter and precision == "int4":
        others += ", but rounds those that the adapter changes; float32 does not"
    return (f"its matrices are stored in 4 bits ({stored.name}): {others}",)


def _weight_form(
    folder: Path,
    precision: Precision,
    device: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    adapter: Adapter | None = None,
) -> tuple[Precision, bool]:
    """Return the precision of the loaded weights, and whether the model is computed here, not by transformers."""
    if is_sentence_model(folder):
        return "float32", False
    store, adapter_folder = PackedModels(catalog.cache_dir() / PACKED), adapter.folder if adapter else None
    is_packed = store.has(folder, precision, adapter_folder)
    return precision, is_packed or has_own_decoder(folder, shapes or tensor_shapes(folder, adapter), device)


def _shown(precision: Precision, device: str) -> str:
    if device == CPU:
        return precision
    from workbench.engine.on_device.targets import shown_precision

    return shown_precision(precision, device)


def _sentence_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    from workbench.engine.sentence_pipeline import weight_shapes

    return weight_shapes(folder)


def _sentence_limit(folder: Path) -> int | None:
    from workbench.engine.embeddings import text_limit

    return text_limit(folder)


def _architecture(model_config: Mapping[str, Any]) -> str | None:
    return next(iter(model_config.get("architectures") or ()), None)


def proof_facts(proof: Proof, card: ModelCard) -> dict[str, Any]:
    """Return the fields of a card that follow from the proof of a loaded model."""
    notes = [*card.notes, *proof.notes]
    if card.context_length is None:
        notes.append(f"its config sets no context length: {DEFAULT_CONTEXT_LENGTH} tokens are assumed")
    return {"switched_off": proof.switched_off, "notes": tuple(dict.fromkeys(notes))}


def template_facts(sources: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a card about a model's chat templates; ``sources`` has them by name."""
    if not sources:
        return {"has_chat_template": False}
    text = next(iter(sources.values())) if len(sources) == 1 else json.dumps(sources, ensure_ascii=False, indent=2)
    return {"has_chat_template": True, "chat_template": text, "template_sha256": template_sha256(sources)}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read as a chat template: {reason(error)}") from error


def _template_sources(folder: Path, *, reads_images: bool) -> dict[str, str]:
    """Return the templates that the tokenizer would load, or the processor's if the model reads images."""
    if reads_images and (template := processor_template(folder)):
        return {"default": template}
    files = {"default": folder / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    sources = {name: _read_text(path) for name, path in files.items() if path.is_file()}
    config = folder / "tokenizer_config.json"
    return sources or template_sources(read_json(config).get("chat_template") if config.exists() else None)
