"""Reading of configs, tokenizers and weights by transformers, with errors that name the folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from workbench.engine.adapters import Adapter
from workbench.engine.packing import opened
from workbench.engine.step_errors import first_line
from workbench.errors import ModelFormatError, WorkbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_LOADING_LOCK = threading.Lock()
"""Held while transformers loads a model, because it then replaces methods of its base class in all threads: a second
model would find its tied weights missing, and could leave the replacement in place for ever."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the folder's fast tokenizer, converted from a SentencePiece model if there is no tokenizer.json."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelFormatError(
            f"{folder} has no tokenizer that can be loaded (tokenizer.json or tokenizer.model): {first_line(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise ModelFormatError(f"the tokenizer of {folder} has no tokenizer.json and cannot be converted to one")
    return cast("PreTrainedTokenizerFast", tokenizer)


def load_config(folder: Path) -> PreTrainedConfig:
    """Return the folder's config; raise `ModelFormatError` if transformers cannot read it."""
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a config's checks may raise anything
        path = folder / "config.json"
        raise ModelFormatError(f"{path} is not a config that transformers can read: {first_line(error)}") from error
    return config


@contextmanager
def format_errors(folder: Path, kind: str) -> Iterator[None]:
    """Convert errors of transformers and safetensors to a `ModelFormatError` that names the folder."""
    try:
        yield
    except (WorkbenchError, MemoryError):
        raise
    except Exception as error:  # a model's code may raise anything about sizes that do not match
        raise ModelFormatError(f"{folder} cannot be loaded as {kind}: {first_line(error)}") from error


def load_weights(kind: Any, folder: Path, dtype: torch.dtype, *, unused: str | None = None) -> PreTrainedModel:
    """Load a folder's model with transformers; raise `ModelFormatError` if a weight is missing.

    Args:
        kind: one of transformers' auto classes.
        unused: part of the names of weights that are not used, and may be missing.
    """
    with _LOADING_LOCK, quiet():
        loaded: Any = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # `_check_present` names them, unlike transformers
            output_loading_info=True,
        )
    model: PreTrainedModel
    model, report = loaded
    _check_present(folder, report, unused)
    return model


def load_merged(kind: Any, folder: Path, dtype: torch.dtype, adapter: Adapter) -> PreTrainedModel:
    """Load a folder's model with transformers, with an adapter merged into its weights.

    Transformers gets the weights under their names in the files, and converts them as it would convert the files.

    Raises:
        ModelFormatError: a weight is missing, or the model has no use for one that the adapter changes.
    """
    from transformers.models.auto.auto_factory import _get_model_class

    config = load_config(folder)
    changed = set(adapter.changes)
    with opened(folder, str, adapter) as files:
        weights = {name: files.dense(name) for name in files.names() - changed}
        weights |= {name: files.dense(name).to(dtype) for name in changed}
    model_class: Any = _get_model_class(config, kind._model_mapping)  # noqa: SLF001 - there is no public name
    with _LOADING_LOCK, quiet():
        loaded: Any = model_class.from_pretrained(
            None, config=config, state_dict=weights, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True
        )
    model: PreTrainedModel
    model, report = loaded
    _check_present(folder, report, None)
    if strange := sorted(changed & set(report["unexpected_keys"])):
        raise ModelFormatError(f"{adapter.folder} changes {strange[0]}, which {type(model).__name__} does not have")
    return model


def _check_present(folder: Path, report: Mapping[str, Any], unused: str | None) -> None:
    """Raise if a weight is missing or has another shape; transformers would initialize it at random."""
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise ModelFormatError(
            f"{folder} has {name} in the shape {list(found)}, but {list(expected)} follows from config.json; fetch the "
            "model again"
        )
    missing = [name for name in sorted(report["missing_keys"]) if unused is None or unused not in name]
    if missing:
        some = ", ".join(missing[:3])
        raise ModelFormatError(f"{folder} lacks weights of its architecture, such as {some}; fetch the model again")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress transformers' progress bar and its report of unused weights."""
    from transformers.utils import logging as transformers_logging

    bar, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
