"""Kinds of resources, such as models, that providers serve and that can be registered at run time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    from workbench.errors import ResourceNotFoundError


class Definition(Protocol):
    """Pydantic model that describes a resource and names the provider that serves it."""

    identifier: str
    provider_id: str

    def __iter__(self) -> Iterator[tuple[str, Any]]: ...
    def model_copy(self, *, deep: bool = False) -> Self: ...


class ResourceProvider(Protocol):
    """Attributes of a provider instance that the registry reads, whatever the kind of resource."""

    @property
    def provider_type(self) -> str: ...
    @property
    def live_listing(self) -> bool: ...


D = TypeVar("D", bound=Definition)
P = TypeVar("P", bound=ResourceProvider)


@dataclass(frozen=True, slots=True)
class ResourceKind(Generic[D, P]):
    """Definition types, stored name and provider side of one kind of resource."""

    name: str
    """Key of the kind in the store, and name of the parameter that takes a definition."""
    api: str
    """API of the providers that serve it, as in a run config."""
    command: str
    """Command of the CLI that has the subcommand ``unregister`` for this kind."""
    definitions: tuple[type[D], ...]
    parse: Callable[[dict[str, Any]], D]
    """Validates the fields of a definition, or raises `InvalidRequestError`."""
    source: Callable[[D], object]
    """Part of a definition that must not change while its identifier is in use."""
    not_found: type[ResourceNotFoundError]
    list: Callable[[P], Awaitable[Sequence[BaseModel]]]
    """Returns what a provider serves; each definition has an identifier and need not have a provider id."""
    register: Callable[[P, D], Awaitable[None]]
    unregister: Callable[[P, str], Awaitable[None]]
    unregistering_deletes: bool = False
    """Whether unregistering deletes what other processes may have stored; a failed registration is then not undone."""

    @property
    def label(self) -> str:
        """Name of the kind in messages."""
        return self.name.replace("_", " ")
