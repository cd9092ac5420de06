"""FastAPI app: the routes of a stack behind access control and limits."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from workbench._version import __version__
from workbench.server.access import PAGE, Access, CheckHost, CheckToken
from workbench.server.description import TITLE, describe, page
from workbench.server.faults import Refusal, error_response
from workbench.server.limits import LimitConcurrency, Limits
from workbench.server.openai.routes import add_openai_routes
from workbench.server.protocol_routes import add_protocol_routes
from workbench.stack import Stack


def create_app(stack: Stack, access: Access, limits: Limits | None = None) -> FastAPI:
    """Return an app with the protocol's routes, and OpenAI's under ``/v1``; the caller opens and closes the stack."""
    limits = limits or Limits()
    app = FastAPI(title=TITLE, version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    posts = add_protocol_routes(app, stack, limits) | add_openai_routes(app, stack, limits)

    def description() -> dict[str, Any]:
        app.openapi_schema = app.openapi_schema or describe(app, posts)
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]  # FastAPI documents this way
    app.add_api_route(PAGE, lambda: page(description()), include_in_schema=False, response_class=HTMLResponse)
    app.add_exception_handler(HTTPException, _refused)
    # The middleware that is added last runs first.
    app.add_middleware(LimitConcurrency, limits=limits)
    app.add_middleware(CheckToken, access=access)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(CheckHost, access=access)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """Return the response for a path or method that does not exist."""
    assert isinstance(error, HTTPException)
    return error_response(Refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}"))
