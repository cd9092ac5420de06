"""The config of a LoRA adapter: which modules it changes and how strongly, or what of it is not supported.

An adapter is refused rather than approximated: every option must either be covered here or have no effect on a trained
adapter, whatever version of peft wrote it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.engine.model_folder import ADAPTER_CONFIG, read_json
from workbench.errors import ModelFormatError

_TRAINING_ONLY = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config"),
        *("fan_in_fan_out", "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_config"),
        *("megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config", "velora_config"),
    }
)
"""Options that do not change what a trained adapter computes. The architecture decides about ``fan_in_fan_out``."""

_READ = frozenset(
    {
        *("alpha_pattern", "bias", "exclude_modules", "init_lora_weights", "layers_pattern", "layers_to_transform"),
        *("lora_alpha", "lora_bias", "modules_to_save", "peft_type", "r", "rank_pattern", "target_modules"),
        *("task_type", "use_dora", "use_rslora"),
    }
)
"""Options that `read_config` reads."""

_PLAIN_INITIALIZATIONS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initializations of an adapter that leave the base model's weights as they are."""

ALL_LINEAR = "all-linear"
_MATCH_TIMEOUT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """The options of a LoRA adapter that decide what it computes. Names of modules are those of the base model."""

    path: Path
    base_name: str
    """Name of the base model that it was trained on; empty if the file has none."""
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    is_rank_stabilized: bool = False
    has_magnitudes: bool = False
    """Whether rows of merged matrices are scaled to a trained length, as in DoRA."""
    targets: str | tuple[str, ...]
    """Regular expression of the adapted modules' whole names, or the ends of their names."""
    excluded: str | tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    """Indices of the adapted layers; empty for all."""
    layer_lists: tuple[str, ...] = ()
    """Names of the lists of layers that the indices are of; empty for any."""
    saved: tuple[str, ...] = ()
    """Modules whose weights the adapter replaces."""

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's update."""
        return self.rank_pattern.get(self._pattern("rank_pattern", self.rank_pattern, module), self.rank)

    def scale_of(self, module: str) -> float:
        """Return the factor of a module's update."""
        alpha = self.alpha_pattern.get(self._pattern("alpha_pattern", self.alpha_pattern, module), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilized else rank)

    def targets_module(self, module: str) -> bool:
        """Return whether a module is one that the config names as adapted."""
        if self._is_named("exclude_modules", self.excluded, module) or self.saves_module(module):
            return False
        if isinstance(self.targets, str):
            return self.targets == ALL_LINEAR or self._is_named("target_modules", self.targets, module)
        if module in self.targets:
            return True  # layers_to_transform limits only what is named by its end
        return self._is_named("target_modules", self.targets, module) and self._is_in_layers(module)

    def saves_module(self, module: str) -> bool:
        """Return whether a module, or one that it is part of, is replaced as a whole."""
        return any(f".{name}." in f".{module}." for name in self.saved)

    def _is_named(self, option: str, names: str | tuple[str, ...], module: str) -> bool:
        if isinstance(names, str):
            return self._matches(option, names, module)
        return any(module == name or module.endswith(f".{name}") for name in names)

    def _is_in_layers(self, module: str) -> bool:
        """Return whether the first number in a module's name is one of the layers, as peft reads it."""
        if not self.layers:
            return True
        parts = module.split(".")
        for index in range(1, len(parts) - 1):
            lists = ".".join(parts[:index])
            is_list = not self.layer_lists or any(lists == one or lists.endswith(f".{one}") for one in self.layer_lists)
            if parts[index].isdecimal() and index > (0 if self.layer_lists else 1) and is_list:
                return int(parts[index]) in self.layers
        return False

    def _pattern(self, option: str, patterns: Mapping[str, Any], module: str) -> str:
        """Return the first pattern of a module's name or of its end; empty if none matches."""
        return next((one for one in patterns if self._matches(option, rf"(?:.*\.)?(?:{one})", module)), "")

    def _matches(self, option: str, pattern: str, module: str) -> bool:
        import regex  # matches what re does, but gives up after a while

        try:
            return regex.fullmatch(pattern, module, timeout=_MATCH_TIMEOUT_S) is not None
        except (regex.error, TimeoutError) as error:
            raise _refusal(self.path, option, pattern, f"a regular expression that can be matched ({error})") from None


def read_config(folder: Path) -> AdapterConfig:
    """Return the config of an adapter's folder.

    Raises:
        ModelFormatError: the file is missing or damaged, it is no LoRA adapter, or an option is not supported.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise ModelFormatError(f"{folder} has no {ADAPTER_CONFIG}, so it is no adapter; give a folder that peft saved")
    config = read_json(path)
    _check_kind(path, config)
    _check_options(path, config)
    return AdapterConfig(
        path=path,
        base_name=str(config.get("base_model_name_or_path") or ""),
        rank=_positive(path, "r", config.get("r", 8)),
        alpha=_number(path, "lora_alpha", config.get("lora_alpha", 8)),
        rank_pattern={
            one: _positive(path, f"rank_pattern.{one}", value) for one, value in _object(path, config, "rank_pattern")
        },
        alpha_pattern={
            one: _number(path, f"alpha_pattern.{one}", value) for one, value in _object(path, config, "alpha_pattern")
        },
        is_rank_stabilized=_switch(path, config, "use_rslora"),
        has_magnitudes=_switch(path, config, "use_dora"),
        targets=_targets(path, config),
        excluded=_names(path, config, "exclude_modules"),
        layers=_layers(path, config),
        layer_lists=_layer_lists(path, config),
        saved=_saved(path, config),
    )


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _refusal(path, "peft_type", kind, "'LORA': other kinds of adapters are not supported")
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise _refusal(path, "task_type", task, "'CAUSAL_LM': an adapter of a model that generates text")


def _check_options(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse options that change what an adapter computes in a way that is not covered, also those of the future."""
    for option, value in config.items():
        if option not in _READ | _TRAINING_ONLY and value not in (None, False, "", [], {}):
            raise _refusal(path, option, value, "left out: adapters with it are not supported")
    if config.get("ensure_weight_tying"):
        allowed = "false: adapters that are tied between embedding and head are not supported"
        raise _refusal(path, "ensure_weight_tying", True, allowed)
    _switch(path, config, "lora_bias")
    if (bias := config.get("bias", "none")) not in ("none", "all", "lora_only"):
        raise _refusal(path, "bias", bias, "'none', 'all' or 'lora_only'")
    initialization = config.get("init_lora_weights", True)
    if initialization not in _PLAIN_INITIALIZATIONS:
        allowed = (
            "one that keeps the base model's weights: convert the adapter to a plain one with peft's "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
        raise _refusal(path, "init_lora_weights", initialization, allowed)


def _targets(path: Path, config: Mapping[str, Any]) -> str | tuple[str, ...]:
    names = _names(path, config, "target_modules")
    if not names and config.get("target_modules") != []:
        raise _refusal(path, "target_modules", names or None, "a list of names, or a regular expression")
    return ALL_LINEAR if isinstance(names, str) and names.lower() == ALL_LINEAR else names


def _names(path: Path, config: Mapping[str, Any], option: str) -> str | tuple[str, ...]:
    """Return a regular expression, or a list of names."""
    value = config.get(option)
    if isinstance(value, str):
        return value
    if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise _refusal(path, option, value, "a list of names, or a regular expression")
    return tuple(value or ())


def _saved(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    names = _names(path, config, "modules_to_save")
    if isinstance(names, str):
        raise _refusal(path, "modules_to_save", names, "a list of names")
    return names


def _layers(path: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    value = config.get("layers_to_transform")
    indices = [value] if type(value) is int else value or []
    if not isinstance(indices, list) or not all(type(one) is int and one >= 0 for one in indices):
        raise _refusal(path, "layers_to_transform", value, "the index of a layer, or a list of them")
    return tuple(indices)


def _layer_lists(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    names = _names(path, config, "layers_pattern")
    names = (names,) if isinstance(names, str) else names
    names = tuple(one for one in names if one)
    if not all(one.replace("_", "").replace(".", "").isalnum() for one in names):
        raise _refusal(path, "layers_pattern", list(names), "names of lists of layers, such as 'layers'")
    return names


def _object(path: Path, config: Mapping[str, Any], option: str) -> list[tuple[str, Any]]:
    value = config.get(option) or {}
    if not isinstance(value, dict):
        raise _refusal(path, option, value, "an object with a value for each pattern of names")
    return list(value.items())


def _positive(path: Path, option: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise _refusal(path, option, value, "a whole number above 0")
    return value


def _number(path: Path, option: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refusal(path, option, value, "a finite number")
    return value


def _switch(path: Path, config: Mapping[str, Any], option: str) -> bool:
    value = config.get(option) or False
    if value is not True and value is not False:
        raise _refusal(path, option, value, "true or false")
    return value


def _refusal(path: Path, option: str, given: object, allowed: str) -> ModelFormatError:
    text = json.dumps(given)
    return ModelFormatError(f"{path}: {option} must be {allowed}; got {text if len(text) <= 200 else text[:200] + '…'}")
