"""The OpenAPI description, and the page that shows it without fetching anything from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from workbench._version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

TITLE = "Inference workbench"

_ERRORS = {
    "400": "A field is wrong; `param` names it.",
    "401": "The token is missing or wrong.",
    "403": "A foreign Host or Origin.",
    "404": "Nobody serves that model, or there is no such path.",
    "405": "The path has no such method.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "429": "Too many requests at once; try again later.",
    "501": "The provider has no such ability.",
    "502": "Whoever the answer had to come from did not deliver.",
    "503": "The server stops, or has no memory for the model.",
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
                "type": {"type": "string", "description": "The name of the workbench's own error."},
                "param": {"type": ["string", "null"], "description": "The path of the field that is wrong."},
                "code": {"type": "integer", "description": "The HTTP status, also where it is told in a stream."},
            },
        }
    },
}


def describe(app: FastAPI, bodies: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The OpenAPI description of an app's routes.

    Args:
        bodies: by path, what its POST method reads; the endpoints read it themselves, so FastAPI does not know it.
    """
    description = get_openapi(title=TITLE, version=__version__, routes=app.routes)
    template = "#/components/schemas/{model}"
    names, definitions = models_json_schema([(model, "validation") for model in bodies.values()], ref_template=template)
    components = description.setdefault("components", {})
    components["schemas"] = {
        **definitions.get("$defs", {}), **components.get("schemas", {}), "Error": _ERROR_SCHEMA,
    }  # fmt: skip
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    description["security"] = [{"token": []}]
    for path, model in bodies.items():
        operation = description["paths"][path]["post"]
        schema = names[model, "validation"]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    for path in description["paths"].values():
        for operation in path.values():
            operation["responses"] |= {status: _error(meaning) for status, meaning in _ERRORS.items()}
    return description


def _error(meaning: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def page(description: Mapping[str, Any]) -> HTMLResponse:
    """One file with everything in it: the token that opened it does not open a second one."""
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
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
        " connect-src 'self'; frame-ancestors 'none'"
    ),
}
