"""Names under which registered resources are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeAlias

from workbench.stack.resources import D, P

Key: TypeAlias = tuple[str, str]
"""Provider id and identifier, which determine one resource of a kind."""


@dataclass(frozen=True, slots=True)
class Registration(Generic[D, P]):
    """A resource and the provider instance that serves it."""

    definition: D
    provider: P
    name: str
    """Shortest name of this registration: the plain one, unless an earlier provider has it."""


@dataclass(frozen=True, slots=True)
class Served(Generic[D, P]):
    """All registrations at one moment, in order. It is replaced as a whole, so readers need no lock."""

    registrations: tuple[Registration[D, P], ...] = ()
    by_name: Mapping[str, Registration[D, P]] = field(default_factory=dict)
    """Registrations by plain and by full name."""


def key_of(definition: D) -> Key:
    return definition.provider_id, definition.identifier


def served(definitions: Mapping[Key, D], providers: Mapping[str, P]) -> Served[D, P]:
    """Return the registrations of definitions, with their names.

    ``provider_id/identifier`` always means that resource: provider ids have no slash, so it is unambiguous, and no
    plain name hides it. A plain name means the first resource that has it.
    """
    names = {key: "/".join(key) for key in definitions}
    owners = {name: key for key, name in names.items()}
    for key in definitions:
        if owners.setdefault(key[1], key) == key:
            names[key] = key[1]
    known = {key: Registration(each, providers[key[0]], names[key]) for key, each in definitions.items()}
    return Served(tuple(known.values()), {name: known[key] for name, key in owners.items()})
