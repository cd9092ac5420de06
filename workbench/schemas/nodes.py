"""The values of one type that may stand at one place, with all that the schemas of that place say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from workbench.schemas.documents import Schema
from workbench.schemas.numbers import Bounds

Location: TypeAlias = tuple[Schema, ...]
"""The schemas that a value has to fit, all of them; none is any value."""


@dataclass(frozen=True, slots=True)
class Values:
    """Some values and no others."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    is_integer: bool = False
    is_fraction: bool = False
    """Not whole."""
    bounds: Bounds = field(default_factory=Bounds)
    step: Fraction | None = None
    """Of which every number is a multiple."""
    excluded: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Texts:
    shortest: int = 0
    longest: int | None = None
    patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    """Patterns that none of them matches."""
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """Arrays."""

    first: tuple[Location, ...] = ()
    """The places of the first items."""
    rest: Location = ()
    fewest: int = 0
    most: int | None = None
    unique: bool = False
    contains: Location | None = None
    """What some of the items fit."""
    contained: tuple[int, int | None] = (1, None)
    """How many of them, at least and at most."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names of members that are not named in the schema."""

    texts: Texts
    location: Location
    """What stands behind them."""


@dataclass(frozen=True, slots=True)
class Members:
    """Objects."""

    named: Mapping[str, Location] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    more: tuple[Names, ...] = ()
    fewest: int = 0
    most: int | None = None


Node: TypeAlias = Values | Numbers | Texts | Items | Members
