"""The protocol over HTTP: every method that carries a route mark, and no list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from fastapi import Request
from fastapi.responses import Response

from workbench.protocol import Route, routes_of
from workbench.server.answering import answer
from workbench.server.bodies import RequestModel, read_body, request_model
from workbench.server.description import PostTypes

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

    from workbench.server.limits import Limits
    from workbench.stack import Stack


def add_protocol_routes(app: FastAPI, stack: Stack, limits: Limits) -> dict[str, PostTypes]:
    """Serve the stack's methods; returns what the POST routes read and tell, by path."""
    posts = {}
    for api, protocols in stack.apis.items():
        for route in (route for protocol in protocols for route in routes_of(protocol)):
            model = request_model(route)
            method = getattr(getattr(stack, api), route.name)
            app.add_api_route(
                route.route,
                _endpoint(method, model, limits),
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


def _endpoint(method: Callable[..., Any], model: type[RequestModel], limits: Limits) -> Callable[[Request], Any]:
    async def ask(request: Request) -> Any:
        if request.method == "GET":
            asked = model.model_validate(dict(request.query_params))
        else:
            asked = await read_body(request, model, limits.max_body_bytes)
        return method(**limits.applied({name: getattr(asked, name) for name in model.model_fields}))

    async def endpoint(request: Request) -> Response:
        return await answer(request, ask)

    return endpoint


def _parameters(model: type[RequestModel]) -> list[dict[str, Any]]:
    """The query of a GET route as OpenAPI describes it."""
    schema = model.model_json_schema()
    return [
        {"in": "query", "name": name, "schema": one, "required": name in schema.get("required", ())}
        for name, one in schema.get("properties", {}).items()
    ]


def _documented(route: Route) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": _returned(route)[0], "description": "The response."}}


def _returned(route: Route) -> tuple[Any, type[BaseModel] | None]:
    """The whole answer of a method, and the chunk of its stream where it has one."""
    hints = get_type_hints(route.function)
    if "stream" not in hints:
        return hints["return"], None
    whole, chunk = get_args(hints["return"])
    return whole, chunk
