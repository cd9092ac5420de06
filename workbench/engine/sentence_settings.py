"""How a sentence model reads a text and what it hands out, from the files that sentence-transformers writes.

A setting is followed or refused by its name. Types of numbers are left aside: a sentence model computes in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine.model_folder import read_json
from workbench.errors import ModelFormatError

_TRANSFORMER_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""The one that says something first is taken; the name has long said nothing of the architecture."""

_OPTIONS = {
    "model": {"add_pooling_layer", "attn_implementation", "dtype", "low_cpu_mem_usage", "torch_dtype"},
    "processor": {"model_max_length", "padding_side", "use_fast"},
    "config": {"use_cache"},
}
"""Of those that go to transformers: what changes no number, or is followed here."""

_ONLY = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "tokenizer_name_or_path": None,
}
_FOLLOWED = {"max_seq_length", "do_lower_case"}
_WITHOUT_EFFECT = {"unpad_inputs", "query_length", "document_length", "query_expansion"}
"""On a text that is said to be neither a query nor a document."""


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """What a folder says beside its parts."""

    max_tokens: int | None
    """Longer texts are cut off here; None leaves it to the tokenizer and the model."""
    lower_case: bool
    prompt: str
    """Stands before every text."""
    dimensions: int | None
    """Vectors are cut off here."""


def read_settings(folder: Path) -> SentenceSettings:
    """Return the settings of a sentence model.

    Raises:
        ModelFormatError: a file is damaged, or asks for something that is not supported.
    """
    if (folder / "adapter_config.json").exists():
        raise ModelFormatError(
            f"{folder}/adapter_config.json: adapters are not supported; merge the adapter into the model"
        )
    path, transformer = _transformer_config(folder)
    longest, lower_case = _transformer_settings(path, transformer)
    path = folder / "config_sentence_transformers.json"
    config = read_json(path) if path.exists() else {}
    if (kind := config.get("model_type", "SentenceTransformer")) != "SentenceTransformer":
        raise _refusal(path, "model_type", kind, "'SentenceTransformer'")
    return SentenceSettings(longest, lower_case, _prompt(path, config), _positive(path, config, "truncate_dim"))


def _transformer_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    for path in (folder / name for name in _TRANSFORMER_FILES):
        if path.exists() and (config := read_json(path)):
            return path, config
    return folder / _TRANSFORMER_FILES[0], {}


def _transformer_settings(path: Path, config: Mapping[str, Any]) -> tuple[int | None, bool]:
    options = {kind: _options(path, config, kind) for kind in _OPTIONS}
    names = {name for kind in _OPTIONS for name in _names(kind)}
    check_known(path, config, {*_ONLY, *_FOLLOWED, *_WITHOUT_EFFECT, *names, "processing_kwargs"})
    for name, only in _ONLY.items():
        if config.get(name, only) != only:
            raise _refusal(path, name, config[name], repr(only))
    if config.get("processing_kwargs"):
        raise _refusal(path, "processing_kwargs", config["processing_kwargs"], "none")
    lower_case = config.get("do_lower_case", False)
    if not isinstance(lower_case, bool):
        raise _refusal(path, "do_lower_case", lower_case, "true, false")
    of_tokenizer = _positive(path, options["processor"], "model_max_length")
    return of_tokenizer or _positive(path, config, "max_seq_length"), lower_case


def _names(kind: str) -> tuple[str, str]:
    """The new name and the old of what goes to transformers' loading of the model, its tokenizer or its config."""
    return f"{kind}_kwargs", "tokenizer_args" if kind == "processor" else f"{kind}_args"


def _options(path: Path, config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _names(kind):
        if not isinstance(options := config.get(name) or {}, dict):
            raise _refusal(path, name, options, "an object")
        # sentence-transformers lets no folder ask for its own code to be run either.
        check_known(path, options, _OPTIONS[kind] | {"trust_remote_code"}, f"{name}.")
        found |= options
    return found


def check_known(path: Path, config: Mapping[str, Any], known: Collection[str], place: str = "") -> None:
    """Raise unless a file's every setting is among those that are known."""
    if unknown := sorted(set(config) - set(known)):
        raise ModelFormatError(
            f"{path} sets {place}{unknown[0]}, which is not supported; allowed: {', '.join(sorted(known))}"
        )


def _prompt(path: Path, config: Mapping[str, Any]) -> str:
    """The text of the prompt that is used by default; "query" and "document" are always there, empty unless given."""
    prompts, name = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str | None) for prompt in prompts.values()):
        raise _refusal(path, "prompts", prompts, "an object with string values")
    if name is None:
        return ""
    if not isinstance(name, str) or name not in {"query", "document", *prompts}:
        raise _refusal(path, "default_prompt_name", name, f"the names in prompts: {', '.join(prompts) or 'none'}")
    return prompts.get(name) or ""


def _positive(path: Path, config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise _refusal(path, name, value, "whole numbers from 1")
    return value


def _refusal(path: Path, name: str, found: object, allowed: str) -> ModelFormatError:
    return ModelFormatError(f"{path} sets {name} to {found!r}; allowed: {allowed}")
