"""Check that a folder is a model in Hugging Face layout that is safe to load, from names, sizes and headers alone."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

from workbench.errors import ModelFormatError, UnsafeModelError
from workbench.paths import read_errors
from workbench.sentence_parts import LIST, read_parts
from workbench.tensor_headers import read_safetensors_header

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""File that lists in which file each weight of a model in several files is."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
"""Files one of which a folder needs."""
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model"
"""Beginning of the names of an adapter's files of weights."""


def check_folder(folder: Path) -> Path:
    """Return ``folder`` if it holds a config, safetensors weights and a tokenizer; read names and headers only.

    Raises:
        ModelFormatError: something is missing, damaged, or cut off, or a part of a sentence model is not supported.
        UnsafeModelError: the only weights are pickles, which can run code when they are read.
    """
    with read_errors(folder):
        _check_content(folder)
    return folder


def _check_content(folder: Path) -> None:
    if (folder / LIST).is_file():
        read_parts(folder)
    _check_config(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            raise UnsafeModelError(
                f"{folder} has its weights only as pickles ({', '.join(pickles[:3])}), which can run code when "
                f"read. Convert them with `save_pretrained(..., safe_serialization=True)` in "
                f"a place you trust, or choose a model that offers safetensors."
            )
        raise ModelFormatError(f"{folder} has no *.safetensors file; weights are read from safetensors only.")
    _check_shards(folder)
    for path in weights:
        read_safetensors_header(path)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ModelFormatError(
            f"{folder} has no tokenizer.json or tokenizer.model; save the model's tokenizer into it with "
            f"`tokenizer.save_pretrained(folder)`."
        )


def _check_config(folder: Path) -> None:
    path = folder / "config.json"
    if _is_adapter(folder):
        raise ModelFormatError(
            f"{folder} is an adapter, not a whole model: name the model that it belongs to as well, as in "
            f"model+{folder}."
        )
    if not path.is_file():
        raise ModelFormatError(f"{folder} has no config.json, so it is not a model in Hugging Face layout.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ModelFormatError(f"{path} must hold a JSON object; it holds a {type(config).__name__}.")


def _is_adapter(folder: Path) -> bool:
    """Return whether a folder has an adapter and no whole model; trainers save the model's config beside it."""
    if not (folder / ADAPTER).is_file():
        return False
    if not (folder / "config.json").is_file():
        return True
    whole = [path for pattern in ("*.safetensors", "pytorch_model*.bin") for path in folder.glob(pattern)]
    return all(path.name.startswith(ADAPTER_WEIGHTS) for path in whole)


def indexed_files(path: Path) -> set[str]:
    """Return the names of the weight files that an index lists.

    Raises:
        ModelFormatError: it is damaged, or lists a file outside its folder.
    """
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        astray = sorted(name for name in names if PurePath(name).name != name)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ModelFormatError(f"{path} is damaged: {error!r}.") from error
    if astray:
        raise ModelFormatError(f"{path} lists weights outside its folder: {astray[0]!r}.")
    if others := sorted(name for name in names or {""} if not name.endswith(".safetensors")):
        raise ModelFormatError(f"{path} is damaged: it must list *.safetensors files; got {others[0]!r}.")
    return names


def _check_shards(folder: Path) -> None:
    path = folder / INDEX
    if not path.is_file():
        return
    names = indexed_files(path)
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise ModelFormatError(f"{folder} lacks {len(missing)} of {len(names)} weight files, such as {missing[0]}.")
