"""What the tensors of an adapter's file change in a base model, found by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from workbench.engine.adapter_config import ALL_LINEAR, AdapterConfig
from workbench.engine.low_rank import Change, LowRank
from workbench.engine.model_folder import ADAPTER_CONFIG
from workbench.errors import ModelFormatError

_PREFIX = "base_model.model."
"""What peft writes before the names of the base model's modules."""

_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))(?P<rest>(?:\..*)?)"
)

_RESTS = {
    "lora_A": ("weight",),
    "lora_B": ("weight", "bias"),
    "lora_embedding_A": ("",),
    "lora_embedding_B": ("",),
    "lora_magnitude_vector": ("", "weight"),
}
"""What may follow the parts of a module's update; anything else is the name of an adapter among several."""

_EMBEDDINGS = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings"})
_HEADS = frozenset({"lm_head", "embed_out"})
"""Last parts of the names of embeddings and of output heads."""

Shapes = Mapping[str, tuple[int, ...]]


class AdapterResolver:
    """Finds what the tensors of an adapter's file change in a base model.

    Args:
        path: the adapter's file, for messages.
        tensors: shapes of its tensors by name.
        base: shapes of the base model's tensors by name.
        is_conv1d: whether the layers of the base model store their matrices as (in, out).

    Raises:
        ModelFormatError: a tensor belongs to one of several adapters.
    """

    def __init__(self, path: Path, config: AdapterConfig, tensors: Shapes, base: Shapes, *, is_conv1d: bool) -> None:
        self._path = path
        self._config = config
        self._tensors = tensors
        self._base = base
        self._is_conv1d = is_conv1d
        self._updates: dict[str, dict[str, str]] = {}
        self._replaced: dict[str, str] = {}
        for name in sorted(tensors):
            self._sort(name)

    def changes(self) -> dict[str, Change]:
        """Return the changes by name of the tensor in the base model's files.

        Raises:
            ModelFormatError: a tensor does not fit the base model, or the adapter's config.
        """
        self._check_named()
        changes: dict[str, Change] = {}
        for name, tensor in self._replaced.items():
            target, source = self._find(name, tensor)
            self._check_shape(tensor, self._base[source])
            self._add(changes, target, Change(source=source, replacement=tensor))
        for module, parts in self._updates.items():
            self._update(module, parts, changes)
        self._check_complete()
        return changes | self._untied(changes)

    def _sort(self, tensor: str) -> None:
        """Put a tensor of the adapter's file with the updates or with the replacements."""
        name = tensor.removeprefix(_PREFIX)
        found = _PART.fullmatch(name)
        if found is None:
            parts, key = self._replaced, name.replace(".base_layer.", ".")
        else:
            part, rest = found["part"], found["rest"].removeprefix(".")
            if rest not in _RESTS[part]:
                raise self._error(
                    f"holds {tensor}, as if it were one of several adapters; save each one alone with peft's "
                    "save_pretrained"
                )
            parts, key = self._updates.setdefault(found["module"], {}), f"{part}.bias" if rest == "bias" else part
        if parts.setdefault(key, tensor) != tensor:
            raise self._error(f"holds both {parts[key]} and {tensor}; save the adapter again with peft")

    def _check_named(self) -> None:
        """Raise if a module is updated that the config does not name."""
        for module in self._updates:
            if not self._config.targets_module(module):
                raise self._error(f"has an update of {module}, which target_modules in {ADAPTER_CONFIG} does not name")

    def _check_complete(self) -> None:
        """Raise unless each module is changed that the config names."""
        for name in self._config.saved:
            if not any(f".{name}." in f".{one}" for one in self._replaced):
                raise self._error(f"has no weights of {name}, which modules_to_save in {ADAPTER_CONFIG} names")
        if self._config.targets == ALL_LINEAR:
            return
        missing = [one for one in self._matrices() if one not in self._updates and self._config.targets_module(one)]
        if missing:
            named = f"has no update of {some(missing)}, which target_modules in {ADAPTER_CONFIG} names"
            raise self._error(f"{named}; was it trained on this model?")

    def _matrices(self) -> list[str]:
        """Return the modules with the base model's matrices, named as in the adapter.

        The experts of a mixture are left out, because newer versions of transformers have no modules for them.
        """
        found = {module for module in self._updates if f"{module}.weight" not in self._base}
        prefixes = {module.partition(".")[0] for module in found} - _HEADS
        prefix = f"{prefixes.pop()}." if len(prefixes) == 1 else ""
        return [
            f"{prefix}{name.removesuffix('.weight')}"
            for name, shape in self._base.items()
            if len(shape) == 2 and name.endswith(".weight") and ".experts." not in name
        ]

    def _update(self, module: str, parts: Mapping[str, str], changes: dict[str, Change]) -> None:
        """Add the changes of a module with an update of low rank."""
        is_embedding = "lora_embedding_A" in parts
        a, b = (parts.get(f"lora_{'embedding_' if is_embedding else ''}{one}") for one in "AB")
        if a is None or b is None:
            raise self._error(f"has only {some(parts.values())} for {module}; an update needs A and B")
        target, source = self._find(f"{module}.weight", a)
        is_transposed = is_embedding or (self._is_conv1d and _last_part(module) not in _HEADS)
        self._check_update(module, a, b, source, is_transposed)
        scale, magnitude = self._config.scale_of(module), self._magnitude(module, parts, b)
        low_rank = LowRank(a, b, scale, is_transposed=is_transposed, magnitude=magnitude)
        self._add(changes, target, Change(source=source, low_rank=low_rank))
        if bias := parts.get("lora_B.bias"):
            target, source = self._find(f"{module}.bias", bias)
            self._check_shape(bias, self._base[source])
            self._add(changes, target, Change(source=source, added=(bias, scale)))

    def _add(self, changes: dict[str, Change], target: str, change: Change) -> None:
        """Add a change, which may follow the replacement of the same tensor."""
        before = changes.get(target)
        if before and (before.low_rank or before.added or change.replacement):
            raise self._error(f"changes {target} twice; save the adapter again with peft")
        replacement = before.replacement if before else change.replacement
        changes[target] = Change(
            source=change.source, replacement=replacement, low_rank=change.low_rank, added=change.added
        )

    def _check_update(self, module: str, a: str, b: str, source: str, is_transposed: bool) -> None:
        shape = self._base[source]
        if len(shape) != 2:
            raise self._error(f"updates {module}, whose weight is not a matrix: its shape is {list(shape)}")
        rank = self._config.rank_of(module)
        out, inputs = reversed(shape) if is_transposed else shape
        self._check_shape(a, (rank, inputs))
        self._check_shape(b, (out, rank))

    def _magnitude(self, module: str, parts: Mapping[str, str], b: str) -> str | None:
        magnitude = parts.get("lora_magnitude_vector")
        if self._config.has_magnitudes != (magnitude is not None):
            verb, value = ("has no", "true") if magnitude is None else ("has a", "false")
            raise self._error(f"{verb} lora_magnitude_vector of {module}, but use_dora in {ADAPTER_CONFIG} is {value}")
        if magnitude is not None:
            self._check_shape(magnitude, self._tensors[b][:1])
        return magnitude

    def _untied(self, changes: Mapping[str, Change]) -> dict[str, Change]:
        """Return the head of a model that ties it to an embedding that has changed: the embedding as it was.

        An adapter changes the module that it names, not another one with the same weights. An embedding that is
        replaced without being named in ``modules_to_save`` was trained together with the head, and stays tied to it.
        """
        embedding = self._embedding()
        changed = changes.get(embedding or "")
        has_head = any(_last_part(name.removesuffix(".weight")) in _HEADS for name in (*self._base, *changes))
        if embedding is None or changed is None or has_head:
            return {}
        is_saved = self._config.saves_module(embedding.removesuffix(".weight"))
        if changed.low_rank is None and not is_saved:
            return {}
        name = "embed_out.weight" if embedding.endswith("embed_in.weight") else "lm_head.weight"
        return {name: Change(source=embedding, replacement=None if is_saved else changed.replacement)}

    def _embedding(self) -> str | None:
        """Return the name of the embedding in the base model's files; None if it is not recognized."""
        found = [name for name in self._base if _last_part(name.removesuffix(".weight")) in _EMBEDDINGS]
        return found[0] if len(found) == 1 else None

    def _find(self, name: str, tensor: str) -> tuple[str, str]:
        """Return the name of a tensor of the merged model, and of the base model's tensor that it is made from.

        Files may lack the first part of the names; a head that is not in them is the embedding.
        """
        for candidate in (name, name.partition(".")[2]):
            if candidate in self._base:
                return candidate, candidate
        embedding = self._embedding()
        if embedding is not None and name in {f"{head}.weight" for head in _HEADS}:
            return name, embedding
        raise self._error(
            f"holds {tensor}, but the base model's files have no {name}; was it trained on this model, with a version "
            "of transformers that names its modules as the files do?"
        )

    def _check_shape(self, tensor: str, expected: tuple[int, ...]) -> None:
        shape = self._tensors[tensor]
        if shape != expected:
            raise self._error(
                f"holds {tensor} with the shape {list(shape)}, but {list(expected)} is needed; "
                "was it trained on this model, with this rank and this vocabulary?"
            )

    def _error(self, problem: str) -> ModelFormatError:
        return ModelFormatError(f"{self._path} {problem}")


def some(names: Iterable[str]) -> str:
    """Return the first three of several names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _last_part(module: str) -> str:
    return module.rpartition(".")[2]
