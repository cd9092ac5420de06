"""Routes of the protocol, from the marks on its methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from fastapi import Request
from fastapi.responses import Response

from workbench.errors import UnsupportedFieldError
from workbench.protocol import Route, routes_of
from workbench.server.answering import answer
from workbench.server.bodies import RequestModel, read_body, request_model
from workbench.server.description import PostTypes

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

    from workbench.protocol import Edit
    from workbench.server.limits import Limits
    from workbench.stack import Stack


def add_protocol_routes(app: FastAPI, stack: Stack, limits: Limits) -> dict[str, PostTypes]:
    """Add a route for every marked method of the stack; return the types of POST routes by path."""
    posts = {}
    for api, protocols in stack.apis.items():
        for route in (route for protocol in protocols for route in routes_of(protocol)):
            model = request_model(route)
            method = getattr(getattr(stack, api), route.name)
            app.add_api_route(
                route.route,
                _endpoint(method, model, limits, allows_edits="insides" in stack.apis),
                methods=[route.method],
                name=route.name,
                summary=(route.function.__doc__ or route.name).strip().partition("\n")[0],
                tags=[api],
                response_class=Response,
                responses=_documented(route),
                openapi_extra={"parameters": _parameters(model)} if route.method == "GET" else None,
            )
            if route.method == "POST":
                posts[route.route] = PostTypes(body=model, chunk=_returned(route)[1])
    return posts


def _endpoint(
    method: Callable[..., Any], model: type[RequestModel], limits: Limits, *, allows_edits: bool
) -> Callable[[Request], Any]:
    async def call(request: Request) -> Any:
        if request.method == "GET":
            body = model.model_validate(dict(request.query_params))
        else:
            body = await read_body(request, model, limits.max_body_bytes)
        arguments = {name: getattr(body, name) for name in model.model_fields}
        if not allows_edits:
            _refuse_edits(arguments.get("edits"))
        return method(**limits.applied(arguments))

    async def endpoint(request: Request) -> Response:
        return await answer(request, call)

    return endpoint


def _refuse_edits(edits: list[Edit] | None) -> None:
    if edits is not None:
        allowed = "absent on this server: start it with --insides, or name insides in apis of the run config"
        raise UnsupportedFieldError("edits", f"{len(edits)} edits", allowed)


def _parameters(model: type[RequestModel]) -> list[dict[str, Any]]:
    """Return the OpenAPI description of a GET route's query."""
    schema = model.model_json_schema()
    return [
        {"in": "query", "name": name, "schema": one, "required": name in schema.get("required", ())}
        for name, one in schema.get("properties", {}).items()
    ]


def _documented(route: Route) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": _returned(route)[0], "description": "The response."}}


def _returned(route: Route) -> tuple[Any, type[BaseModel] | None]:
    """Return the response type of a method, and its chunk type, or None if it does not stream."""
    hints = get_type_hints(route.function)
    if "stream" not in hints:
        return hints["return"], None
    response, chunk = get_args(hints["return"])
    return response, chunk
