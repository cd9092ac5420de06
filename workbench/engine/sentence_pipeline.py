"""The parts of a sentence model after its Transformer: pooling, dense layers and norms, in its folder's order.

As in sentence-transformers, the parts read and write named features, so that a part may change the token vectors before
pooling, or the text's vector after it. Weights are read from safetensors only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import activation

from workbench.engine.memory import file_shapes, tensor_shapes
from workbench.engine.model_folder import pickled_files, read_json
from workbench.engine.pooling import MODES, pool
from workbench.engine.sentence_settings import check_known
from workbench.engine.transformers_loading import format_errors
from workbench.errors import ModelFormatError, UnsafeModelError
from workbench.sentence_parts import LIST, read_parts

_WEIGHTS = "model.safetensors"
_TOKENS, _TEXT = "token_embeddings", "sentence_embedding"
_SWITCHES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_OLD_MODES = {f"pooling_mode_{switch}": mode for switch, mode in zip(_SWITCHES, MODES, strict=True)}


class Pipeline:
    """The parts of a sentence model after its Transformer, as one function.

    Raises:
        ModelFormatError: a part is damaged or not supported; the message names the part.
        UnsafeModelError: a part has its weights only as a pickle.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.parts = read_parts(folder)[1:]
        self._steps = [_BUILDERS[part.kind](folder / part.path).eval() for part in self.parts]

    @property
    def is_plain(self) -> bool:
        """Whether the vector is just the first token's or the mean of all, at unit length."""
        match self._steps:
            case [Pooling(modes=["mean"] | ["cls"], include_prompt=True), Normalize(reads="sentence_embedding")]:
                return True
        return False

    @torch.inference_mode()
    def __call__(self, vectors: Tensor, mask: Tensor, prompt_tokens: int) -> Tensor:
        """Return one vector for each text, shape (texts, dimensions).

        Args:
            vectors: output of the Transformer, shape (texts, tokens, hidden).
            mask: False for padding, which is on the right, shape (texts, tokens).
            prompt_tokens: number of tokens of each text that are its prompt.
        """
        features = {_TOKENS: vectors, "mask": mask, "prompt": torch.arange(mask.shape[1]) < prompt_tokens}
        for step in self._steps:
            step(features)
        return features[_TEXT]

    def dimensions(self, width: int) -> int:
        """Return the length of the vectors for a hidden size; raise `ModelFormatError` if the parts do not match."""
        features = {_TOKENS: torch.zeros(1, 2, width), "mask": torch.ones(1, 2).bool(), "prompt": torch.zeros(2).bool()}
        for part, step in zip(self.parts, self._steps, strict=True):
            try:
                with torch.inference_mode():
                    step(features)
            except (LookupError, RuntimeError, ValueError) as error:
                raise ModelFormatError(
                    f"{self._folder / LIST}: {part} does not fit its input ({_shapes(features)}): {error}"
                ) from error
        if _TEXT not in features:
            raise ModelFormatError(f"{self._folder / LIST} has no Pooling, so a text would have no vector")
        return features[_TEXT].shape[-1]

    @property
    def nbytes(self) -> int:
        """Size of the parts' weights in bytes."""
        return sum(one.nbytes for step in self._steps for one in step.parameters())

    @property
    def parameters(self) -> int:
        return sum(one.numel() for step in self._steps for one in step.parameters())


class Pooling(nn.Module):
    """Pooling of token vectors, in one mode or in several, whose results are concatenated."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        path = folder / "config.json"
        config = read_json(path)
        own = {"pooling_mode", "include_prompt", "embedding_dimension", "word_embedding_dimension"}
        check_known(path, config, own | set(_OLD_MODES))
        found = config.get(
            "pooling_mode",
            [mode for name, mode in _OLD_MODES.items() if _switch(path, config, name, default=False)] or "mean",
        )
        self.modes: list[str] = [found] if isinstance(found, str) else found
        if not isinstance(self.modes, list) or not self.modes or not all(mode in MODES for mode in self.modes):
            raise ModelFormatError(f"{path} sets pooling_mode to {found!r}; allowed: one or more of {', '.join(MODES)}")
        self.include_prompt = _switch(path, config, "include_prompt", default=True)

    def forward(self, features: dict[str, Tensor]) -> None:
        counts = features["mask"] if self.include_prompt else features["mask"] & ~features["prompt"]
        features[_TEXT] = torch.cat([pool(mode, features[_TOKENS], counts) for mode in self.modes], dim=-1)


class Dense(nn.Module):
    """A linear layer, an activation and an optional residual; attributes are named as the weights in the file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        path = folder / "config.json"
        config = read_json(path)
        check_known(path, config, _DENSE)
        sizes = columns, outputs = _size(path, config, "in_features"), _size(path, config, "out_features")
        self.reads, self.writes = _names(path, config)
        self.linear = nn.utils.skip_init(nn.Linear, columns, outputs, bias=_switch(path, config, "bias", default=True))
        self.activation_function = _activation(path, config)
        self.adds = _switch(path, config, "use_residual", default=False)
        if self.adds and columns != outputs:
            self.residual = nn.utils.skip_init(nn.Linear, *sizes, bias=False)
        _load(self, folder)

    def forward(self, features: dict[str, Tensor]) -> None:
        x = features[self.reads]
        y = self.activation_function(self.linear(x))
        if self.adds:
            y = y + (self.residual(x) if hasattr(self, "residual") else x)
        features[self.writes] = y


class LayerNorm(nn.Module):
    """Layer norm of the text's vector."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        path = folder / "config.json"
        config = read_json(path)
        check_known(path, config, {"dimension"})
        self.norm = nn.LayerNorm(_size(path, config, "dimension"))
        _load(self, folder)

    def forward(self, features: dict[str, Tensor]) -> None:
        features[_TEXT] = self.norm(features[_TEXT])


class Normalize(nn.Module):
    """Normalization to unit length."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        path = folder / "config.json"
        self.reads, self.writes = _names(path, read_json(path) if path.exists() else {})

    def forward(self, features: dict[str, Tensor]) -> None:
        if self.reads in features:  # sentence-transformers ignores a missing feature, too
            features[self.writes] = F.normalize(features[self.reads], dim=-1)


class Dropout(nn.Module):
    """No operation, because dropout is for training only."""

    def __init__(self, _folder: Path) -> None:
        super().__init__()

    def forward(self, _features: dict[str, Tensor]) -> None:
        pass


_BUILDERS: Mapping[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (Pooling, Dense, LayerNorm, Normalize, Dropout)
}
_DENSE = (
    *("in_features", "out_features", "bias", "activation_function", "use_residual"),
    *("module_input_name", "module_output_name"),
)


def _names(path: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the features that a part reads and writes."""
    reads = config.get("module_input_name", _TEXT)
    writes = config.get("module_output_name") or reads
    for key, name in (("module_input_name", reads), ("module_output_name", writes)):
        if name not in (_TOKENS, _TEXT):
            raise ModelFormatError(f"{path} sets {key} to {name!r}; allowed: {_TOKENS}, {_TEXT}")
    return reads, writes


def _size(path: Path, config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelFormatError(f"{path} sets {name} to {value!r}; allowed: whole numbers from 1")
    return value


def _switch(path: Path, config: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise ModelFormatError(f"{path} sets {name} to {value!r}; allowed: true, false")
    return value


def _activation(path: Path, config: Mapping[str, Any]) -> nn.Module:
    """Return an activation of torch; any other class would be the folder's code."""
    full = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    name = full.rpartition(".")[2] if isinstance(full, str) and full.startswith("torch.nn.") else ""
    try:
        found: Any = getattr(nn, name if name in {*activation.__all__, "Identity"} else "")()
    except (AttributeError, TypeError):
        raise ModelFormatError(
            f"{path} sets activation_function to {full!r}; allowed: a class of torch.nn without arguments, such as "
            f"torch.nn.modules.activation.Tanh"
        ) from None
    if getattr(found, "dim", 0) is None:  # of a softmax; torch would guess it and warn
        found.dim = -1
        if _names(path, config)[0] != _TEXT:
            raise ModelFormatError(f"{path} sets activation_function to {full!r}; it is supported on {_TEXT} only")
    module: nn.Module = found
    return module


def _load(module: nn.Module, folder: Path) -> None:
    path = folder / _WEIGHTS
    if not path.exists():
        if pickled := pickled_files(folder):
            raise UnsafeModelError(
                f"{folder} has the weights of its {type(module).__name__} only as pickles ({', '.join(pickled)}), "
                f"which can run code when read; save the model again with sentence-transformers, as safetensors"
            )
        raise ModelFormatError(
            f"{folder} has no model.safetensors for its {type(module).__name__}; weights are read from safetensors only"
        )
    with format_errors(folder, f"a {type(module).__name__} module"):
        module.load_state_dict(load_file(path))


def _shapes(features: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} of {features[name].shape[-1]}" for name in (_TOKENS, _TEXT) if name in features)


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all weights of a sentence model, with the path of a part as prefix."""
    shapes = tensor_shapes(folder)
    for part in read_parts(folder):
        if part.path and (file := folder / part.path / _WEIGHTS).exists():
            shapes |= {f"{part.path}.{name}": shape for name, shape in file_shapes(file).items()}
    return shapes
