"""Selection of the files of a hub repository that a model needs, before any weights are downloaded."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path

from workbench.catalog.folders import ADAPTER, ADAPTER_WEIGHTS, INDEX, PICKLES, TOKENIZERS, WEIGHTS, indexed_files
from workbench.catalog.hub_id import HubId
from workbench.errors import ModelFormatError, UnsafeModelError
from workbench.sentence_parts import LIST, parse_parts, part_files

_SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "processor_config.json",
    "preprocessor_config.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    ADAPTER,
    LIST,
)
"""Patterns of files besides the weights: config, tokenizer, chat template, image processor, sentence model."""

_TEMPLATES = "additional_chat_templates/*.jinja"
_UNWANTED = ("consolidated*",)  # the same weights a second time, in another layout
_OTHER_WEIGHTS = ("*.gguf", "*.onnx", "*.msgpack", "*.h5", "*.npz", "*.tflite", "*.mlmodel")


def needed_files(hub_id: HubId, names: Collection[str], read: Callable[[str], Path]) -> list[str]:
    """Return the names of the files that loading a repository's model needs, in alphabetical order.

    Args:
        names: all files of the repository.
        read: function that returns the path of one small file, which it may have to download.

    Raises:
        ModelFormatError: a file is missing, or the weights are in no supported format.
        UnsafeModelError: the only weights are pickles, which can run code when they are read.
    """
    settings = [name for name in names if "/" not in name and _matches(name, _SETTINGS)]
    templates = [name for name in names if fnmatchcase(name, _TEMPLATES) and name.count("/") == 1]
    weights = _weights(hub_id, names, read)
    if ADAPTER not in names:
        _check_settings(hub_id, names)
    elif not all(name.startswith(ADAPTER_WEIGHTS) for name in weights):
        raise ModelFormatError(
            f"{hub_id} has {ADAPTER} beside a whole model, which may or may not contain the adapter. Nothing was "
            f"downloaded. Get the model alone with `hf download {hub_id.repo_id} --exclude 'adapter_*' --local-dir "
            f"NAME`, and give that folder."
        )
    return sorted({*settings, *templates, *weights, *_sentence_parts(hub_id, names, read)})


def _weights(hub_id: HubId, names: Collection[str], read: Callable[[str], Path]) -> list[str]:
    if INDEX in names:
        listed = indexed_files(read(INDEX))
        if missing := sorted(listed.difference(names)):
            raise ModelFormatError(
                f"{hub_id} lacks {len(missing)} of the {len(listed)} weight files that its {INDEX} lists, such as "
                f"{missing[0]}. Nothing was downloaded; choose another revision or repository."
            )
        return [INDEX, *listed]
    if WEIGHTS in names:
        return [WEIGHTS]
    others = [name for name in names if fnmatchcase(name, "*.safetensors") and "/" not in name]
    if found := [name for name in others if not _matches(name, _UNWANTED)]:
        return found
    raise _refusal(hub_id, names)


def _refusal(hub_id: HubId, names: Collection[str]) -> Exception:
    """Return the error for a repository without safetensors, which names what would help."""
    if pickles := sorted(name for name in names if _matches(name, PICKLES)):
        return UnsafeModelError(
            f"{hub_id} has its weights only as pickles ({_some(pickles)}), which can run code when read. Nothing was "
            f"downloaded. Choose a repository with safetensors, or a revision of this one: conversions are often "
            f"offered at https://huggingface.co/{hub_id.repo_id}/discussions, to be named as "
            f"{hub_id.repo_id}@refs/pr/NUMBER."
        )
    if files := sorted(name for name in names if fnmatchcase(name, "*.gguf")):
        return ModelFormatError(
            f"{hub_id} has GGUF files only ({_some(files)}). Nothing was downloaded. Choose a repository with "
            f"safetensors, usually the one that this was made from; or download one file with "
            f"`hf download {hub_id.repo_id} {files[0]} --local-dir .`."
        )
    other = sorted(name for name in names if _matches(name, _OTHER_WEIGHTS))
    offered = f"; it offers {_some(other)}" if other else ""
    return ModelFormatError(
        f"{hub_id} has no {WEIGHTS} and no {INDEX}{offered}. Nothing was downloaded; weights are read from "
        f"safetensors only: choose a repository that has them."
    )


def _check_settings(hub_id: HubId, names: Collection[str]) -> None:
    if "config.json" not in names:
        raise ModelFormatError(
            f"{hub_id} has no config.json, so it is not a model in Hugging Face layout. Nothing was downloaded."
        )
    if not any(name in names for name in TOKENIZERS):
        raise ModelFormatError(
            f"{hub_id} has no {' or '.join(TOKENIZERS)}. Nothing was downloaded. Choose the repository of the model "
            f"that this one was made from, or add the tokenizer to a local copy."
        )


def _sentence_parts(hub_id: HubId, names: Collection[str], read: Callable[[str], Path]) -> list[str]:
    """Return the files of a sentence model's parts; raise `ModelFormatError` if one is not supported."""
    if LIST not in names:
        return []
    parts = parse_parts(read(LIST).read_bytes(), f"{LIST} of {hub_id}")
    return [name for name in part_files(parts) if name in names]


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
