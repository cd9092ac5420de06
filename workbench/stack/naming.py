"""The names under which registrations are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.paths import typed_path
from workbench.protocol import ModelDefWithProvider

if TYPE_CHECKING:
    from workbench.providers.interface import InferenceProvider

Key: TypeAlias = tuple[str, str]
"""Provider id and identifier: one model of one provider."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A model and the provider instance that serves it."""

    model: ModelDefWithProvider
    provider: InferenceProvider
    name: str
    """The shortest name that means this registration: the plain one, where no earlier provider has it."""


@dataclass(frozen=True, slots=True)
class Served:
    """All registrations at one moment, in their order. It is replaced as a whole, so that readers need no lock."""

    registrations: tuple[Registration, ...] = ()
    by_name: Mapping[str, Registration] = field(default_factory=dict)
    """By plain and by full name."""


def model_from(
    identifier: str, source: str | Path | None, provider_id: str, metadata: dict[str, Any] | None
) -> ModelDefWithProvider:
    """A definition from what a person says; without a source, ``identifier`` names it too.

    A folder is written in full, because the next start may be elsewhere, and gives its own name to what has no other.
    """
    named = source if source is not None else identifier
    if folder := _folder(named, "identifier" if source is None else "source"):
        named = str(folder)
        identifier = folder.name if source is None else identifier
    return ModelDefWithProvider(
        identifier=identifier,
        llama_model=str(named) if isinstance(named, Path) else named,
        metadata={} if metadata is None else metadata,
        provider_id=provider_id,
    )


def _folder(named: object, field: str) -> Path | None:
    if named == "" or not isinstance(named, str | Path):  # the empty path would be the current folder
        return None
    try:
        folder = typed_path(named, field)
        return folder.resolve() if folder.is_dir() else None
    except OSError:  # longer than a path may be
        return None


def served(models: Mapping[Key, ModelDefWithProvider], providers: Mapping[str, InferenceProvider]) -> Served:
    """Give names to models.

    ``provider_id/identifier`` always means that one: no provider id has a slash, so it is unambiguous, and no plain
    name hides it. A plain name means the first model that has it.
    """
    names = {key: "/".join(key) for key in models}
    holders = {name: key for key, name in names.items()}
    for key in models:
        if holders.setdefault(key[1], key) == key:
            names[key] = key[1]
    known = {key: Registration(model, providers[key[0]], names[key]) for key, model in models.items()}
    return Served(tuple(known.values()), {name: known[key] for name, key in holders.items()})
