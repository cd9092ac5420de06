"""HTTP form of errors: one status for each class, and one form of body, also within a stream.

::

    {"error": {"message": "top_p must be ...", "type": "InvalidRequestError", "param": "top_p", "code": 400}}

It is the form of OpenAI's errors, which OpenAI's clients can read; ``type`` is the name of the workbench's error class
and ``code`` the HTTP status.
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
    ShieldError,
    ShieldViolationError,
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
    ModelLoadError: 400,  # at registration, the request is wrong
    InsufficientMemoryError: 503,
    CatalogError: 502,
    ToolCallError: 400,
    ShieldViolationError: 400,
    GenerationError: 500,
    ShieldError: 502,  # a gateway to the model that judges, whose answer is no verdict
    RemoteError: 502,
    RemoteTimeoutError: 504,
    NotRecordedError: 404,
    ClosedError: 503,
    WorkbenchError: 500,
}
"""HTTP statuses by error class; the nearest base class of an error applies."""


class Refusal(WorkbenchError):  # noqa: N818 (internal to the server)
    """Error of HTTP itself: a path, method, header or size that is not allowed."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def status_of(error: BaseException) -> int:
    if isinstance(error, Refusal):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_body(error: BaseException) -> dict[str, Any]:
    """Return the body for an error. An unexpected error gets a fixed message, because its own may contain secrets."""
    status = status_of(error)
    if not isinstance(error, WorkbenchError):
        log_unexpected(error)
        return _body("internal server error; see the server's log", "InternalError", None, status)
    name = http.HTTPStatus(status).phrase.replace(" ", "") if isinstance(error, Refusal) else type(error).__name__
    return _body(str(error), name, getattr(error, "field", None), status)


def error_response(error: BaseException) -> Response:
    status = status_of(error)
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = "1"
    elif status in {http.HTTPStatus.INTERNAL_SERVER_ERROR, http.HTTPStatus.NOT_IMPLEMENTED}:
        headers["X-Should-Retry"] = "false"  # OpenAI's and the protocol's clients retry 500 and above
    return Response(to_json(error_body(error)), status, headers, media_type="application/json")


def log_unexpected(error: BaseException) -> None:
    """Log the class and stack frames of an error, but not its message, which may quote a prompt or a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    _LOG.error("unexpected %s at %s", type(error).__name__, where)


def _body(message: str, kind: str, param: str | None, status: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}
