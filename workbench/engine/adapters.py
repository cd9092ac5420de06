"""LoRA adapters in peft's layout, which are merged into the weights of a base model when it is loaded.

A LoRA adapter adds a matrix of low rank to some of a model's matrices, ``weight + scale * B @ A``. `read_adapter`
checks an adapter against the headers of the base model's files before any weight is read. Changes have the names of the
tensors in these files, because both the fused and the general decoder get their weights by them.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from workbench.engine.adapter_config import AdapterConfig, read_config
from workbench.engine.adapter_resolving import AdapterResolver, Shapes, some
from workbench.engine.gguf_weights import is_gguf
from workbench.engine.low_rank import Change
from workbench.engine.model_folder import ADAPTER_CONFIG, pickled_files, read_json
from workbench.engine.quantization_settings import quantization_method, stored_format
from workbench.errors import ModelFormatError, UnsafeModelError
from workbench.paths import read_errors
from workbench.tensor_headers import read_safetensors_header

WEIGHTS = "adapter_model.safetensors"

_CONV1D_TYPES = frozenset({"gpt2", "openai-gpt"})
"""Types of causal models whose layers store their matrices as (in, out), except for their heads."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "chat_template.jinja")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter that fits its base model."""

    folder: Path
    config: AdapterConfig
    changes: Mapping[str, Change]
    """Changes by the name of the tensor in the base model's files; a head that was tied gets a name of its own."""
    layers: int
    """Number of modules with an update of low rank."""
    rank: int
    """Rank of the updates; the largest if they differ."""
    changed_parameters: int
    largest_parameters: int
    """Number of all parameters that change, and of those in the largest tensor."""
    unused: tuple[str, ...] = ()
    """Files of a tokenizer in the adapter's folder that differ from the base model's, and are not used."""

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    def shapes(self, base: Shapes) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the merged model's tensors from those of the base model."""
        return dict(base) | {name: base[change.source] for name, change in self.changes.items()}

    def notes(self, base_name: str) -> tuple[str, ...]:
        """Return what a reader should know about the adapter.

        Args:
            base_name: catalog name, folder or hub id of the model that it is merged into.
        """
        notes = []
        trained_on = self.config.base_name
        if trained_on and _last_part(trained_on) != _last_part(base_name):
            notes.append(f"the adapter was trained on {trained_on[:200]}, and is merged into {base_name}")
        if self.unused:
            files = some(self.unused)
            notes.append(f"the base model's tokenizer and chat template are used; the adapter's are not ({files})")
        return tuple(notes)


def read_adapter(folder: Path, base: Path, shapes: Shapes) -> Adapter:
    """Return the adapter in a folder, checked against a base model; read configs and headers only.

    Args:
        base: the base model's folder.
        shapes: shapes of the base model's tensors by name.

    Raises:
        ModelFormatError: the adapter is damaged, of a kind that is not supported, or does not fit the base model.
        UnsafeModelError: its weights are pickled.
    """
    with read_errors(folder):
        return _read_adapter(folder, base, shapes)


def _read_adapter(folder: Path, base: Path, shapes: Shapes) -> Adapter:
    if not folder.is_dir():
        raise ModelFormatError(f"{folder} is not a folder; give the folder of an adapter, with {ADAPTER_CONFIG}")
    _refuse_several(folder)
    config, base_config = read_config(folder), read_json(base / "config.json")
    if stored_format(base) is None and (method := quantization_method(base_config)):
        raise ModelFormatError(
            f"{base} has weights quantized by {method}, into which adapters cannot be merged: use the original model "
            "as its base, or one in 4 bits from GPTQ, AWQ or compressed-tensors"
        )
    # GGUF files have the matrices of all architectures as (out, in).
    is_conv1d = base_config.get("model_type") in _CONV1D_TYPES and not is_gguf(base)
    tensors = _file_shapes(folder)
    changes = AdapterResolver(folder / WEIGHTS, config, tensors, shapes, is_conv1d=is_conv1d).changes()
    ranks = [tensors[change.low_rank.a][0] for change in changes.values() if change.low_rank]
    sizes = [prod(shapes[change.source]) for change in changes.values()]
    return Adapter(
        folder=folder,
        config=config,
        changes=changes,
        layers=len(ranks),
        rank=max(ranks, default=0),
        changed_parameters=sum(sizes),
        largest_parameters=max(sizes, default=0),
        unused=tuple(name for name in _TOKENIZER_FILES if _differs(folder / name, base / name)),
    )


def _refuse_several(folder: Path) -> None:
    """Refuse a folder in which peft saved several adapters; a trainer's checkpoints do not count."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{ADAPTER_CONFIG}"))
    if named := [name for name in names if not re.fullmatch(r"checkpoint-\d+", name)]:
        raise ModelFormatError(
            f"{folder} has several adapters, those in {some(named)} among them; give the folder of one, which has no "
            "others in it"
        )


def _file_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors in an adapter's file, from its header."""
    path = folder / WEIGHTS
    if not path.is_file():
        if pickled := pickled_files(folder):
            raise UnsafeModelError(
                f"{folder} has its weights only as pickles ({some(pickled)}), which can run code when read; "
                f"convert them to {WEIGHTS} (peft: save_pretrained) and try again"
            )
        raise ModelFormatError(f"{folder} has no {WEIGHTS}, so it is no adapter that peft saved")
    shapes = {name: tensor.shape for name, tensor in read_safetensors_header(path).items()}
    if not shapes:
        raise ModelFormatError(f"{path} holds no tensors; save or fetch the adapter again")
    return shapes


def _differs(own: Path, base: Path) -> bool:
    """Return whether there is a file that is not also there with the same content for the base model."""
    return own.is_file() and not (base.is_file() and filecmp.cmp(own, base, shallow=False))


def _last_part(name: str) -> str:
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1].casefold()
