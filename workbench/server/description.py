"""OpenAPI description of the routes, and a page that shows it without fetching anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from workbench._version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

TITLE = "Inference workbench"

_ERRORS = {
    "400": "A field is invalid; `param` names it.",
    "401": "The token is missing or wrong.",
    "403": "The Host or Origin is not allowed.",
    "404": "The model, shield or memory bank is not served, the request is not in the trace, or the path is unknown.",
    "405": "The path does not support this method.",
    "413": "The body is too large.",
    "415": "The content type of the body is not JSON.",
    "429": "Too many requests at once; try again later.",
    "500": "A run failed, stored state cannot be read or written, or the server has a defect; do not try again.",
    "501": "The provider does not support a field.",
    "502": "A remote server or download failed, or a shield has no verdict.",
    "503": "The server is shutting down, or has not enough memory for the model.",
    "504": "A remote server did not answer in time.",
}

_ERROR_SCHEMA = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string", "description": "Name of the workbench's error class."},
                "param": {"type": ["string", "null"], "description": "Path of the invalid field."},
                "code": {"type": "integer", "description": "HTTP status, also for errors in a stream."},
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class PostTypes:
    """Types of a POST route's body and stream events, which FastAPI cannot see: the endpoints parse and write them."""

    body: type[BaseModel]
    chunk: type[BaseModel] | None = None
    """Type of the stream's events; None if the route does not stream."""


def describe(app: FastAPI, posts: Mapping[str, PostTypes]) -> dict[str, Any]:
    """Return the OpenAPI description of an app's routes; ``posts`` has the types of POST routes by path."""
    description = get_openapi(title=TITLE, version=__version__, routes=app.routes)
    bodies: list[tuple[type[BaseModel], JsonSchemaMode]] = [(types.body, "validation") for types in posts.values()]
    chunks: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (types.chunk, "serialization") for types in posts.values() if types.chunk
    ]
    schemas, definitions = models_json_schema([*bodies, *chunks], ref_template="#/components/schemas/{model}")
    components = description.setdefault("components", {})
    components["schemas"] = definitions.get("$defs", {}) | components.get("schemas", {}) | {"Error": _ERROR_SCHEMA}
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    description["security"] = [{"token": []}]
    for path, types in posts.items():
        operation = description["paths"][path]["post"]
        body = {"schema": schemas[types.body, "validation"]}
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
        if types.chunk is not None:
            event = _event(schemas[types.chunk, "serialization"])
            operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": event}
    for methods in description["paths"].values():
        for operation in methods.values():
            operation["responses"] |= {status: _error(meaning) for status, meaning in _ERRORS.items()}
    return description


def _event(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a stream's event; the last event is an `Error` if the run failed."""
    content = {"anyOf": [chunk, {"$ref": "#/components/schemas/Error"}]}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    return {"type": "object", "required": ["data"], "properties": {"data": data}}


def _error(meaning: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def page(description: Mapping[str, Any]) -> HTMLResponse:
    """Return a self-contained page: the token in its address would not authorize requests for further files."""
    files = resources.files("fastapi_offline") / "static"
    script, style = ((files / name).read_text("utf-8") for name in ("swagger-ui-bundle.js", "swagger-ui.css"))
    spec = json.dumps(description).replace("<", "\\u003c")
    html = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{TITLE}</title><style>{style}</style>"
        f"<div id=routes></div><script>{script}</script>"
        f"<script>SwaggerUIBundle({{spec: {spec}, dom_id: '#routes', deepLinking: false}})</script></html>"
    )
    return HTMLResponse(html, headers=_PAGE_HEADERS)


_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address contains the token
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
        " connect-src 'self'; frame-ancestors 'none'"
    ),
}
