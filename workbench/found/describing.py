"""Descriptions of candidates: what their headers tell, whether they fit in memory, and whether they can be served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from workbench import catalog
from workbench.catalog.folders import WEIGHTS
from workbench.engine.families import ARCHITECTURES
from workbench.engine.grouped_layouts import GroupedLayout
from workbench.engine.model_folder import check_config, check_task, is_bare, refuse_stray_adapter
from workbench.engine.quantization_settings import layout_of, quantization_method, weight_shapes
from workbench.engine.weight_sizes import RESERVE_BYTES, predict, stored_bytes
from workbench.errors import ModelFormatError, WorkbenchError, shortened
from workbench.found.safetensors_folder import FolderFacts, read_folder
from workbench.found.searching import Candidate
from workbench.gguf_files import GgufHeader, config_of, join_parts, part_paths, precision_name, read_gguf_header
from workbench.gguf_files.tensor_names import LAYOUTS
from workbench.gguf_files.tensor_types import READ_TYPES
from workbench.gguf_files.tokenizers import check_tokenizer
from workbench.machine import memory_limit_bytes
from workbench.records import FoundModel
from workbench.sentence_parts import LIST

_PRECISIONS = ("float32", "bf16", "int8", "int4")
"""Precisions to serve a folder in, the most exact one first; fp8 takes as much memory as int8 and is less exact.

A folder of 4-bit groups is exact in float32 and in int4."""
_LONGEST_NAME = 80
_LONGEST_PROBLEM = 600

_Stamp: TypeAlias = tuple[int, int] | None

_PROJECTOR = "clip"
"""Architecture of image encoders, which are files beside their model."""


@dataclass(frozen=True, slots=True)
class _FileFacts:
    """Facts of a GGUF file, with its other parts."""

    architecture: str | None
    parameters: int | None
    precision: str | None
    size_bytes: int
    memory_bytes: int | None
    problem: str


def describe(candidate: Candidate) -> FoundModel | None:
    """Return the description of a model; None for a file that is not a model, or has gone."""
    try:
        if candidate.path.is_dir():
            return _describe_folder(candidate)
        return _describe_file(candidate)
    except OSError:
        return None


def _describe_file(candidate: Candidate) -> FoundModel | None:
    facts = file_facts(tuple((path, _stamp(path)) for path in part_paths(candidate.path)))
    if facts.architecture == _PROJECTOR:
        return None
    fits = (facts.memory_bytes or facts.size_bytes) <= memory_limit_bytes() - RESERVE_BYTES
    return FoundModel(
        candidate.name,
        candidate.place,
        "gguf",
        str(candidate.path),
        architecture=facts.architecture,
        parameters=facts.parameters,
        precision=facts.precision,
        size_bytes=facts.size_bytes,
        fits_in=facts.precision if fits else None,
        memory_bytes=facts.memory_bytes,
        problem=facts.problem,
    )


@lru_cache(maxsize=2000)
def file_facts(parts: tuple[tuple[Path, _Stamp], ...]) -> _FileFacts:
    """Return the facts of a GGUF file, with its other parts; files of one stamp are read once by this process."""
    first = parts[0][0]
    headers: list[tuple[Path, GgufHeader]] = []
    problem = ""
    try:
        for path, _ in parts:
            headers.append((path, read_gguf_header(path, quick=True)))
    except ModelFormatError as error:
        problem = _shortened_problem(error, first)
    whole = headers[0][1] if headers else None
    architecture = _shown(whole.text("general.architecture")) if whole else None
    stored = Counter((tensor.shape, tensor.type) for _, header in headers for tensor in header.tensors)
    weights_by_type: Counter[str] = Counter()
    for (shape, kind), count in stored.items():
        weights_by_type[kind] += count * prod(shape)
    return _FileFacts(
        architecture=architecture,
        parameters=sum(weights_by_type.values()) or None,
        precision=precision_name(whole and whole.whole("general.file_type"), weights_by_type),
        size_bytes=sum(stamp[0] for _, stamp in parts if stamp),
        memory_bytes=_memory_bytes(architecture, headers, stored),
        problem=problem or _file_problem(headers, architecture, weights_by_type),
    )


def _memory_bytes(
    architecture: str | None,
    headers: Sequence[tuple[Path, GgufHeader]],
    stored: Mapping[tuple[tuple[int, ...], str], int],
) -> int | None:
    """Return the memory of a file's weights when they are served as they are; None without weights.

    Args:
        stored: number of tensors of each shape and type.
    """
    if architecture not in LAYOUTS:
        return sum(tensor.nbytes for _, header in headers for tensor in header.tensors) or None
    return sum(count * stored_bytes(shape[::-1], kind) for (shape, kind), count in stored.items()) or None


def _stamp(path: Path) -> _Stamp:
    """Return size and time of a file, which change with its content; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _file_problem(
    headers: Sequence[tuple[Path, GgufHeader]], architecture: str | None, weights_by_type: Mapping[str, int]
) -> str:
    if other := headers[0][1].other_content:
        return f"it is of the type {shortened(other)} (general.type), not a model"
    if not weights_by_type:
        return "the file has no weights"
    if architecture not in LAYOUTS:
        kind = f"{architecture} models" if architecture else "an unnamed architecture"
        return f"GGUF files of {kind} cannot be served yet"
    unread = sorted(set(weights_by_type) - READ_TYPES)
    if unread:
        return f"weights of the type {unread[0]} cannot be read yet"
    return _setting_problem(headers)


def _setting_problem(headers: Sequence[tuple[Path, GgufHeader]]) -> str:
    """Return which setting of a file cannot be served, or how its parts do not match, as opening it would say."""
    try:
        model = join_parts(headers)
        config_of(model)
        check_tokenizer(model.header.metadata)
    except ModelFormatError as error:
        return _shortened_problem(error, headers[0][0])
    except ValueError as error:
        return f"it cannot be served: {error}"
    return ""


def _describe_folder(candidate: Candidate) -> FoundModel:
    model = FoundModel(candidate.name, candidate.place, "safetensors", str(candidate.path))
    try:
        facts = read_folder(candidate.path)
        layout = layout_of(facts.config)
        shapes = weight_shapes(facts.config, facts.shapes) or {}
    except WorkbenchError as error:
        return replace(model, problem=_shortened_problem(error, candidate.path))
    weights = facts.weights_by_type
    precisions, packed = _precisions(candidate.path, layout), facts.architecture in ARCHITECTURES
    fits_in, memory_bytes = _fit(shapes, precisions, packed=packed)
    return replace(
        model,
        architecture=_shown(facts.architecture),
        parameters=sum(map(prod, shapes.values())) or None,
        precision=_shown(quantization_method(facts.config) or max(weights, key=weights.__getitem__, default=None)),
        size_bytes=facts.size_bytes,
        fits_in=fits_in,
        memory_bytes=memory_bytes,
        problem=_folder_problem(candidate.path, facts, layout),
    )


def _precisions(folder: Path, layout: GroupedLayout | str | None) -> tuple[str, ...]:
    """Return the precisions to serve a folder in, the most exact one first."""
    if (folder / LIST).is_file():
        return ("float32",)
    return _PRECISIONS if layout is None else ("float32", "int4")


def _fit(
    shapes: Mapping[str, tuple[int, ...]], precisions: Sequence[str], *, packed: bool
) -> tuple[str | None, int | None]:
    """Return the first precision in which the weights fit, and their memory in it, or in the last one if none does.

    Args:
        packed: whether the fast step has the architecture; it holds fewer bits in another way.
    """
    if not shapes:
        return None, None
    room = memory_limit_bytes() - RESERVE_BYTES
    needed = 0
    for precision in precisions:
        needed = predict(shapes, precision, packed=packed)
        if needed <= room:
            return precision, needed
    return None, needed


def _folder_problem(folder: Path, facts: FolderFacts, layout: GroupedLayout | str | None) -> str:
    """Return why a folder cannot be served; empty if it can, as far as names, configs and headers show."""
    if isinstance(layout, str):
        return f"its quantized weights are not supported: {layout}"
    try:
        catalog.check_folder(folder)
        config = check_config(folder)
        refuse_stray_adapter(folder)
        if (folder / LIST).is_file():
            return ""
        check_task(folder, config)
        if not facts.shapes:
            return f"it has no {WEIGHTS}"
    except WorkbenchError as error:
        return _shortened_problem(error, folder)
    return _architecture_problem(facts.architecture or "", config, layout)


def _architecture_problem(name: str, config: Mapping[str, Any], layout: GroupedLayout | None) -> str:
    if is_bare(name, config):
        return f"{_shown(name)} has no head that generates text"
    if layout is not None and name not in ARCHITECTURES:
        return f"weights quantized by {layout.name} are supported only for the architectures of the fast step"
    return ""


def _shown(text: str | None) -> str | None:
    """Return a name out of a file in a form that does nothing to a terminal."""
    return text if text is None or (text.isprintable() and len(text) <= _LONGEST_NAME) else shortened(text)


def _shortened_problem(error: Exception, path: Path) -> str:
    """Return the message of an error in a form that does nothing to a terminal, without the path beside it."""
    text = str(error)
    if not text.isprintable() or len(text) > _LONGEST_PROBLEM:
        text = repr(text[:_LONGEST_PROBLEM])[1:-1]
    for prefix in (f"{path} ", f"{path}/", f"{path.parent}/"):
        if text.startswith(prefix):
            rest = text.removeprefix(prefix)
            return f"it {rest}" if prefix.endswith(" ") else rest
    return text
