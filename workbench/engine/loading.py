"""From a folder in Hugging Face layout to a model that the decode loop can run.

Only safetensors are read and no code from the folder is ever run; both are refused by name before anything is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from workbench.engine.decoders import GeneralDecoder
from workbench.engine.detokenizer import Vocabulary
from workbench.errors import ModelFormatError, UnsafeModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

    from workbench.engine.decoders import Decoder
    from workbench.engine.precision import Precision

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A causal model in memory, with what a request needs to know about it."""

    name: str
    folder: Path
    decoder: Decoder
    tokenizer: PreTrainedTokenizerFast
    vocabulary: Vocabulary
    eos_ids: frozenset[int]
    """Tokens that end a text or a turn, from the generation config, else the config, else the tokenizer."""
    context_length: int
    precision: Precision
    architecture: str
    parameters: int
    memory_bytes: int
    """Held by the weights, in all the forms in which they are kept."""


def load(folder: Path, *, name: str | None = None, precision: Precision = "float32") -> LoadedModel:
    """Load a causal language model and its tokenizer.

    Raises:
        ModelFormatError: files are missing or damaged, or this is no causal language model.
        UnsafeModelError: loading would unpickle weights or run the folder's code.
    """
    check_folder(folder)
    config = _config(folder)
    tokenizer = load_tokenizer(folder)
    model = _load_general(folder, precision)
    decoder = GeneralDecoder(model)
    return LoadedModel(
        name=name or folder.name,
        folder=folder,
        decoder=decoder,
        tokenizer=tokenizer,
        vocabulary=Vocabulary(tokenizer.backend_tokenizer),
        eos_ids=_eos_ids(folder, config, tokenizer),
        context_length=context_length(config),
        precision=precision,
        architecture=type(model).__name__,
        parameters=model.num_parameters(),
        memory_bytes=model.get_memory_footprint(),
    )


def check_folder(folder: Path) -> None:
    """Refuse what cannot or must not be loaded, by looking at names, the config and the weights' headers only."""
    if not folder.is_dir():
        raise ModelFormatError(f"{folder} is no folder; give a folder in Hugging Face layout with config.json in it")
    config = read_json(folder / "config.json")
    for path in ("config.json", "tokenizer_config.json"):
        _refuse_code(folder / path)
    if config.get("is_encoder_decoder"):
        raise ModelFormatError(
            f"{folder} holds an encoder-decoder model; only causal (decoder-only) models are supported"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
        if pickled:
            raise UnsafeModelError(
                f"{folder} has its weights in {', '.join(pickled)}, a pickle that can run code when it is read; "
                "convert them to model.safetensors (transformers: save_pretrained) and try again"
            )
        raise ModelFormatError(f"{folder} has no weights: a model.safetensors file is needed")
    for path in weights:
        _check_header(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder, or an error that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFormatError(f"{path.parent} has no {path.name}; a folder in Hugging Face layout is needed") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFormatError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"{path} must hold a JSON object")
    return content


def _refuse_code(path: Path) -> None:
    if not path.exists():
        return
    if unsafe := sorted(
        key for key in read_json(path) if key == "auto_map" or key.endswith("_implementation_internal")
    ):
        raise UnsafeModelError(
            f"{path} asks for code to be run ({', '.join(unsafe)}); only architectures that transformers itself has are loaded"
        )


def _check_header(path: Path) -> None:
    """Opening a safetensors file compares its header with the file's length, so a truncated one is found here."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(f"{path} is damaged or truncated ({error}); fetch or convert the model again") from error


def _config(folder: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise ModelFormatError(
            f"{folder / 'config.json'} is no config that transformers knows: {_first_line(error)}"
        ) from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The folder's tokenizer in its Rust form, made from a SentencePiece model where that is all there is."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelFormatError(
            f"{folder} has no tokenizer that can be loaded (tokenizer.json or tokenizer.model): {_first_line(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise ModelFormatError(f"the tokenizer of {folder} has no tokenizer.json and cannot be converted to one")
    return tokenizer


def _load_general(folder: Path, precision: Precision) -> Any:
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    try:
        with _no_progress_bar():
            return AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
    except (ValueError, KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise ModelFormatError(f"{folder} cannot be loaded as a causal language model: {_first_line(error)}") from error


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """A second or less of loading needs no bar, and in a notebook it would stay behind as an output."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def context_length(config: PreTrainedConfig) -> int:
    """Positions that the model was made for; a tokenizer's own limit is often a placeholder of 1e30."""
    text = config.get_text_config(decoder=True)
    for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        if isinstance(value := getattr(text, key, None), int) and value > 0:
            return value
    raise ModelFormatError("the model's config does not say how long its context is (max_position_embeddings)")


def _eos_ids(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    generation = None
    if (folder / "generation_config.json").exists():
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    for source in (generation, config.get_text_config(decoder=True).eos_token_id, tokenizer.eos_token_id):
        if source is not None:
            return frozenset(source if isinstance(source, list) else [source])
    return frozenset()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
