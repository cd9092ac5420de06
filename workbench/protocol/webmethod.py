"""Mark that binds a protocol method to its HTTP route.

The server and ``Inspect.list_routes`` read these marks, so there is no second list of routes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

HttpMethod = Literal["GET", "POST"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class WebMethod:
    """Route that ``@webmethod`` stores on a function as ``__webmethod__``."""

    route: str
    method: HttpMethod = "POST"


@dataclass(frozen=True, slots=True)
class Route:
    """One routed method of a protocol."""

    name: str
    """Name of the method that serves the route, in every implementation."""
    route: str
    method: HttpMethod
    function: Callable[..., Any]
    """Function of the protocol, whose signature defines the request parameters."""


def webmethod(route: str, method: HttpMethod = "POST") -> Callable[[Function], Function]:
    """Mark a protocol method with its HTTP path and method."""

    def mark(function: Function) -> Function:
        function.__webmethod__ = WebMethod(route=route, method=method)  # type: ignore[attr-defined]
        return function

    return mark


def routes_of(protocol: type) -> list[Route]:
    """Return the routed methods of a protocol or of a class that inherits from one, in order of definition."""
    routes: dict[str, Route] = {}
    for owner in reversed(protocol.__mro__):
        for name, function in vars(owner).items():
            mark = getattr(function, "__webmethod__", None)
            if isinstance(mark, WebMethod):
                routes[name] = Route(name=name, route=mark.route, method=mark.method, function=function)
    return list(routes.values())
