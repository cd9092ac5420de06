"""Settings of a sentence model, from the files of sentence-transformers.

Each setting is applied, or refused by name. Only dtypes are ignored: a sentence model computes in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine.model_folder import read_json, refuse_stray_adapter
from workbench.errors import ModelFormatError

_TRANSFORMER_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""The first that is not empty is used; its name does not imply the architecture."""

_OPTIONS = {
    "model": {"add_pooling_layer", "attn_implementation", "dtype", "low_cpu_mem_usage", "torch_dtype"},
    "processor": {"model_max_length", "padding_side", "use_fast"},
    "config": {"use_cache"},
}
"""Supported options for transformers; they change no result, or are applied here."""

_ONLY = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "tokenizer_name_or_path": None,
}
_FOLLOWED = {"max_seq_length", "do_lower_case"}
_WITHOUT_EFFECT = {"unpad_inputs", "query_length", "document_length", "query_expansion"}
"""Settings without effect on a text that is neither marked as a query nor as a document."""


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """Settings of a folder, apart from its parts."""

    max_tokens: int | None
    """Length at which texts are truncated; None means the limit of tokenizer and model."""
    lower_case: bool
    prompt: str
    """Text that is prepended to every text."""
    dimensions: int | None
    """Length to which vectors are truncated; None keeps them whole."""


def read_settings(folder: Path) -> SentenceSettings:
    """Return the settings of a sentence model.

    Raises:
        ModelFormatError: a file is damaged, or has an unsupported setting.
    """
    refuse_stray_adapter(folder)
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
    tokenizer_limit = _positive(path, options["processor"], "model_max_length")
    return tokenizer_limit or _positive(path, config, "max_seq_length"), lower_case


def _names(kind: str) -> tuple[str, str]:
    """Return the current and the old name of the options for loading the model, its tokenizer or its config."""
    return f"{kind}_kwargs", "tokenizer_args" if kind == "processor" else f"{kind}_args"


def _options(path: Path, config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _names(kind):
        if not isinstance(options := config.get(name) or {}, dict):
            raise _refusal(path, name, options, "an object")
        # sentence-transformers ignores a folder's trust_remote_code, too.
        check_known(path, options, _OPTIONS[kind] | {"trust_remote_code"}, f"{name}.")
        found |= options
    return found


def check_known(path: Path, config: Mapping[str, Any], known: Collection[str], prefix: str = "") -> None:
    """Raise `ModelFormatError` unless all settings of a file are ``known``."""
    if unknown := sorted(set(config) - set(known)):
        raise ModelFormatError(
            f"{path} sets {prefix}{unknown[0]}, which is not supported; allowed: {', '.join(sorted(known))}"
        )


def _prompt(path: Path, config: Mapping[str, Any]) -> str:
    """Return the default prompt's text; the names "query" and "document" always exist."""
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
