"""The mark that binds a protocol method to its HTTP route.

The server and ``Inspect.list_routes`` are made from these marks, so there is no second list of routes to forget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

HttpMethod = Literal["GET", "POST"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class WebMethod:
    """What ``@webmethod`` leaves on a function, as its attribute ``__webmethod__``."""

    route: str
    method: HttpMethod = "POST"


@dataclass(frozen=True, slots=True)
class Route:
    """One routed method of a protocol."""

    name: str
    """The method's name; the same attribute of any implementation answers the route."""
    route: str
    method: HttpMethod
    function: Callable[..., Any]
    """The protocol's own function, whose signature gives the parameters of the request."""


def webmethod(route: str, method: HttpMethod = "POST") -> Callable[[Function], Function]:
    """Mark a protocol method with the path and HTTP method it is served under."""

    def mark(function: Function) -> Function:
        function.__webmethod__ = WebMethod(route=route, method=method)  # type: ignore[attr-defined]
        return function

    return mark


def routes_of(protocol: type) -> list[Route]:
    """Routed methods of a protocol, or of a class that inherits from one, in the order of their definition."""
    routes: dict[str, Route] = {}
    for owner in reversed(protocol.__mro__):
        for name, function in vars(owner).items():
            mark = getattr(function, "__webmethod__", None)
            if isinstance(mark, WebMethod):
                routes[name] = Route(name=name, route=mark.route, method=mark.method, function=function)
    return list(routes.values())
