"""Errors as HTTP tells them: one status for each kind, one form of body, in a stream as before it.

::

    {"error": {"message": "top_p must be ...", "type": "InvalidRequestError", "param": "top_p", "code": 400}}

It is the form of OpenAI's errors, so that their clients find message, field and code; ``type`` is the name of the
workbench's own error, ``code`` the HTTP status.
"""

from __future__ import annotations

import http
import logging
import traceback
from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json

from workbench.errors import (
    BusyError,
    CatalogError,
    ClosedError,
    GenerationError,
    InsufficientMemoryError,
    InvalidRequestError,
    ModelLoadError,
    NotRecordedError,
    RemoteError,
    RemoteTimeoutError,
    ResourceNotFoundError,
    ToolCallError,
    UnknownModelError,
    UnsupportedFieldError,
    WorkbenchError,
)

_LOG = logging.getLogger("workbench.server")

STATUS: dict[type[WorkbenchError], int] = {
    InvalidRequestError: 400,
    UnsupportedFieldError: 501,
    ResourceNotFoundError: 404,
    UnknownModelError: 404,
    BusyError: 429,
    ModelLoadError: 400,  # asked for at registration, it is the request that is wrong
    InsufficientMemoryError: 503,
    CatalogError: 502,
    ToolCallError: 400,
    GenerationError: 500,
    RemoteError: 502,
    RemoteTimeoutError: 504,
    NotRecordedError: 404,
    ClosedError: 503,
    WorkbenchError: 500,
}
"""Of the nearest class above an error."""


class Refusal(WorkbenchError):  # noqa: N818 (not an error of the workbench: nobody outside sees it raised)
    """What only HTTP can get wrong: a path, a method, a header, a size."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def status_of(error: BaseException) -> int:
    if isinstance(error, Refusal):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_body(error: BaseException) -> dict[str, Any]:
    """What a client is told. Of an error that nobody foresaw it learns no more than that: it may hold anything."""
    status = status_of(error)
    if not isinstance(error, WorkbenchError):
        log_unforeseen(error)
        return _body("internal server error; see the server's log", "InternalError", None, status)
    name = http.HTTPStatus(status).phrase.replace(" ", "") if isinstance(error, Refusal) else type(error).__name__
    return _body(str(error), name, getattr(error, "field", None), status)


def error_response(error: BaseException) -> Response:
    status = status_of(error)
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = "1"
    elif status in {http.HTTPStatus.INTERNAL_SERVER_ERROR, http.HTTPStatus.NOT_IMPLEMENTED}:
        headers["X-Should-Retry"] = "false"  # OpenAI's and the protocol's own clients repeat what is 500 or above
    return Response(to_json(error_body(error)), status, headers, media_type="application/json")


def log_unforeseen(error: BaseException) -> None:
    """Where it was raised and of what kind. Not its message, which may quote a prompt or a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    _LOG.error("unexpected %s at %s", type(error).__name__, where)


def _body(message: str, kind: str, param: str | None, status: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}
