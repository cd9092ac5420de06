"""Checks of a model folder before it is loaded: Hugging Face layout, safetensors only, and no code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ModelFormatError, UnsafeModelError, shortened
from workbench.gguf_files import GGUF_FACTS
from workbench.gguf_files.bounded_file import BoundedFile
from workbench.sentence_parts import LIST
from workbench.tensor_headers import read_safetensors_header

CLASSIFIER = "ForSequenceClassification"
"""End of the architecture of a text classifier."""

_OTHER_TASKS = (
    *("ForMaskedLM", "ForPreTraining", CLASSIFIER, "ForTokenClassification", "ForQuestionAnswering"),
    *("ForMultipleChoice", "ForNextSentencePrediction"),
)

GENERATION = "generation_config.json"

ADAPTER_CONFIG = "adapter_config.json"
"""File with the config of an adapter, in the adapter's folder."""

_PLAIN_SETTINGS: Mapping[str, tuple[type, ...]] = {
    "bos_token_id": (int,),
    "eos_token_id": (int, list),
    "pad_token_id": (int,),
    "transformers_version": (str,),
    "_from_model_config": (bool,),
}
"""Settings of a generation config that transformers accepts whatever their values, with the types of these."""

_COUNTS = re.compile(r".*layer.*|depth|num_blocks|num_labels")
_LARGEST_COUNT = 10_000
"""Largest number of layers or labels; transformers makes a list with an element for each while it reads a config."""

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})


def check_folder(folder: Path) -> None:
    """Raise if a folder is not a causal or a sentence model, or cannot or must not be loaded.

    Reads file names, configs and the weights' headers only.
    """
    config = _check_settings(folder)
    if not (folder / LIST).exists():
        _refuse_encoder(folder, config)
        refuse_stray_adapter(folder)
    _check_weights(folder)


def check_classifier_folder(folder: Path) -> None:
    """Raise if a folder is not a text classifier, or cannot or must not be loaded; reads what `check_folder` does."""
    config = _check_settings(folder)
    name = architecture_of(config) or "model without an architecture"
    if not name.endswith(CLASSIFIER):
        raise ModelFormatError(f"{folder} holds a {name}; a text classifier (...{CLASSIFIER}) is needed")
    _check_weights(folder)


def check_config(folder: Path) -> dict[str, Any]:
    """Return the config of a folder; raise if it asks for custom code, or is an encoder-decoder. Reads JSON only.

    The JSON of ``generation_config.json`` is checked, its sampling settings are not: only transformers can do that.
    """
    if not folder.is_dir():
        raise ModelFormatError(
            f"{folder} is not a folder; give a folder in Hugging Face layout that contains config.json"
        )
    config = read_json(folder / "config.json")
    _check_values(folder / "config.json", config)
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        _refuse_code(folder / name)
    _generation_settings(folder / GENERATION)
    if config.get("is_encoder_decoder"):
        raise ModelFormatError(
            f"{folder} holds an encoder-decoder model; only causal (decoder-only) models are supported"
        )
    return config


def _check_values(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse names of other types, and counts that no model has; transformers checks neither before it uses them."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        listed, kind = part.get("architectures"), part.get("model_type")
        if listed is not None and not (isinstance(listed, list) and all(isinstance(one, str) for one in listed)):
            raise ModelFormatError(f"{path} sets architectures to {shortened(listed)}; a list of names is needed")
        if kind is not None and not isinstance(kind, str):
            raise ModelFormatError(f"{path} sets model_type to {shortened(kind)}; a name is needed")
        for name, count in part.items():
            if type(count) is int and count > _LARGEST_COUNT and _COUNTS.fullmatch(name):
                raise ModelFormatError(f"{path} sets {name} to {shortened(count)}; at most {_LARGEST_COUNT:,} are read")


def check_task(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise for models of tasks other than text generation, by the name of their architecture."""
    name = architecture_of(config)
    if name.endswith(_OTHER_TASKS):
        raise _not_generating(folder, name)


def architecture_of(config: Mapping[str, Any]) -> str:
    """Return the first architecture that a config lists, such as ``LlamaForCausalLM``; empty if it lists none."""
    listed = config.get("architectures")
    return str(listed[0]) if isinstance(listed, list) and listed else ""


def is_bare(name: str, config: Mapping[str, Any]) -> bool:
    """Return whether an architecture has no head; encoders and models for embeddings are saved like that."""
    return name.endswith("Model") and not name.endswith("HeadModel") and not config.get("is_decoder")


def _check_settings(folder: Path) -> dict[str, Any]:
    """Return the config of a folder after the checks of all its settings."""
    config = check_config(folder)
    _check_generation(folder / GENERATION)
    return config


def _check_weights(folder: Path) -> None:
    if (folder / GGUF_FACTS).exists():
        return  # the catalog has read its header
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        if pickled := pickled_files(folder):
            raise UnsafeModelError(
                f"{folder} has its weights only as pickles ({', '.join(pickled)}), which can run code when read; "
                "convert them to model.safetensors (transformers: save_pretrained) and try again"
            )
        raise ModelFormatError(f"{folder} has no weights: a model.safetensors file is needed")
    for path in weights:
        read_safetensors_header(path)


def pickled_files(folder: Path) -> list[str]:
    """Return the names of a folder's files that are read by unpickling them, which can run code."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)


def _refuse_encoder(folder: Path, config: dict[str, Any]) -> None:
    """Refuse encoders and models of other tasks, which transformers would load and which would generate nonsense."""
    check_task(folder, config)
    name = architecture_of(config)
    if is_bare(name, config) and _has_masked_head(config.get("model_type")):
        raise _not_generating(folder, name)


def _not_generating(folder: Path, name: str) -> ModelFormatError:
    return ModelFormatError(
        f"{folder} holds a {name}, which does not generate text, and without {LIST} it is not a sentence model "
        f"either; to make embeddings, save it with sentence-transformers, which stores how its vectors are pooled"
    )


def refuse_stray_adapter(folder: Path) -> None:
    """Refuse a whole model with an adapter's config beside it: transformers would apply it where peft is installed.

    The file does not say whether the weights contain the adapter already.
    """
    path = folder / ADAPTER_CONFIG
    if path.exists() and is_sentence_model(folder):
        raise ModelFormatError(
            f"{path} stands beside a sentence model, and adapters of these are not supported: merge the adapter into "
            "the model, and delete this file"
        )
    if path.exists():
        raise ModelFormatError(
            f"{path} stands beside a whole model, which may or may not contain the adapter: delete this file, or move "
            "the adapter to a folder of its own and name it after the model, as in model+./adapter"
        )


def _has_masked_head(model_type: object) -> bool:
    """Return whether transformers has a masked language model of this type, as for encoders."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_sentence_model(folder: Path) -> bool:
    """Whether a folder was saved by sentence-transformers; such a model makes embeddings only."""
    return (folder / LIST).exists()


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a model folder; raise `ModelFormatError`, which names the file, if there is none."""
    content = _read(path)
    if not isinstance(content, dict):
        raise ModelFormatError(f"{path} must hold a JSON object")
    return content


def _read(path: Path) -> object:
    if not path.exists():
        raise ModelFormatError(f"{path.parent} has no {path.name}; a folder in Hugging Face layout is needed")
    with BoundedFile(path) as file:
        content = file.bytes(file.size, "its content")
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} cannot be read as JSON: {error}") from error


def _refuse_code(path: Path) -> None:
    if not path.exists():
        return
    if unsafe := sorted(
        key for key in read_json(path) if key == "auto_map" or key.endswith("_implementation_internal")
    ):
        raise UnsafeModelError(
            f"{path} asks for custom code ({', '.join(unsafe)}); only architectures built into transformers are loaded"
        )


def _generation_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a generation config, if there is one; raise if its end tokens are no token ids."""
    settings = read_json(path) if path.exists() else {}
    ends = settings.get("eos_token_id")
    if ends is not None and not all(type(one) is int for one in (ends if isinstance(ends, list) else [ends])):
        raise ModelFormatError(f"{path} sets eos_token_id to {shortened(ends)}; allowed: a token id, or a list of them")
    return settings


def _check_generation(path: Path) -> None:
    """Refuse settings that transformers cannot read."""
    settings = _generation_settings(path)
    if all(type(value) in _PLAIN_SETTINGS.get(name, ()) for name, value in settings.items()):
        return  # transformers accepts them, and its import takes seconds
    from transformers import GenerationConfig

    try:
        GenerationConfig.from_dict(settings)
    except Exception as error:
        raise ModelFormatError(f"{path} has settings that transformers does not accept: {error}") from error
