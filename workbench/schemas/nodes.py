"""The values of one type that are allowed at one location, with all constraints of its schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from workbench.schemas.documents import Schema
from workbench.schemas.numbers import Bounds

Location: TypeAlias = tuple[Schema, ...]
"""The schemas that a value at a location must fit, all of them; without any, every value fits."""


@dataclass(frozen=True, slots=True)
class Values:
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    is_integer: bool = False
    is_fraction: bool = False
    """Whether whole numbers are excluded."""
    bounds: Bounds = field(default_factory=Bounds)
    step: Fraction | None = None
    """A number of which all are multiples."""
    excluded: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Texts:
    shortest: int = 0
    longest: int | None = None
    patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    """Patterns that no text matches."""
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """Arrays."""

    first: tuple[Location, ...] = ()
    """The locations of the first items."""
    rest: Location = ()
    fewest: int = 0
    most: int | None = None
    unique: bool = False
    contains: Location | None = None
    """The location that some of the items fit."""
    contained: tuple[int, int | None] = (1, None)
    """The least and the greatest number of items that fit `contains`."""


@dataclass(frozen=True, slots=True)
class Names:
    """Members whose names are not in the schema."""

    texts: Texts
    location: Location
    """The location of their values."""


@dataclass(frozen=True, slots=True)
class Members:
    """Objects."""

    named: Mapping[str, Location] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    more: tuple[Names, ...] = ()
    fewest: int = 0
    most: int | None = None


Node: TypeAlias = Values | Numbers | Texts | Items | Members
