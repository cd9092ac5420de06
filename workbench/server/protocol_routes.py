"""The protocol over HTTP: every method that carries a route mark, and no list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from fastapi import Request
from fastapi.responses import Response

from workbench.protocol import Route, routes_of
from workbench.server.answering import answer
from workbench.server.bodies import RequestModel, read_body, request_model

if TYPE_CHECKING:
    from fastapi import FastAPI

    from workbench.server.limits import Limits
    from workbench.stack import Stack


def add_protocol_routes(app: FastAPI, stack: Stack, limits: Limits) -> dict[str, type[RequestModel]]:
    """Serve the stack's methods; returns the bodies of the POST routes by path."""
    bodies = {}
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
                bodies[route.route] = model
    return bodies


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
    """What comes back: the whole answer, and where there are two, the other one event by event."""
    returned = get_type_hints(route.function)["return"]
    kinds = get_args(returned) if "stream" in get_type_hints(route.function) else (returned,)
    if len(kinds) == 1:
        return {200: {"model": returned, "description": "The answer."}}
    whole, chunk = kinds
    return {
        200: {
            "model": whole,
            "description": f"The answer; with `stream` one event for each {chunk.__name__}, or `error` as the last.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    }
