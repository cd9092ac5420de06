"""Failures of a server as errors of this package, without its token, even where the server's answer repeats it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import httpx2
import openai
from pydantic import BaseModel, ValidationError

from workbench.errors import (
    BusyError,
    ContextLengthError,
    InvalidRequestError,
    RemoteConnectionError,
    RemoteError,
    RemoteTimeoutError,
    UnsupportedFieldError,
    WorkbenchError,
)

Checked = TypeVar("Checked", bound=BaseModel)

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_REFUSED_BEFORE_COMPUTING = frozenset({429, 503})
_TRANSIENT = frozenset({408, 500, 502, 504})
_NOT_FOUND = "has no such route or model; check the model's name and config.url, which often ends in /v1"
_STATUSES: dict[int, tuple[type[WorkbenchError], str]] = {
    401: (RemoteError, "refused the token of config.api_token"),
    403: (RemoteError, "refused the token of config.api_token"),
    404: (RemoteError, _NOT_FOUND),
    408: (RemoteTimeoutError, "timed out"),
    429: (BusyError, "accepts no more requests now"),
    503: (BusyError, "accepts no requests now"),
    504: (RemoteTimeoutError, "timed out"),
}

# Messages about a prompt that is too long: of OpenAI and vLLM, TGI, and llama.cpp, which also has fields for it.
_LIMIT = re.compile(r"maximum context length is (\d+)|must have less than (\d+) tokens|context size \((\d+) tokens\)")
_PROMPT_LENGTH = re.compile(
    r"(\d+) (?:in the messages|in (?:the|your) prompt|input tokens)|resulted in (\d+) tokens|"
    r"Given: (\d+)|\((\d+) tokens\) exceeds"
)


def may_repeat(error: Exception, *, harmless: bool) -> bool:
    """Return whether a retry is safe: the server did not begin, or a second request costs next to nothing.

    Args:
        harmless: the request computes little and changes nothing, such as a listing; generating is not harmless.
    """
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _REFUSED_BEFORE_COMPUTING or (harmless and error.status_code in _TRANSIENT)
    if isinstance(error, openai.APIConnectionError):
        return harmless or isinstance(error.__cause__, _NEVER_SENT)
    return False


def retry_after_s(error: Exception) -> float | None:
    """Return the delay that the server requests; None if it requests none."""
    if not isinstance(error, openai.APIStatusError):
        return None
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "")))
    except ValueError:  # absent, or a date
        return None


class Failures:
    """Translation of failed requests to one server into errors of this package.

    Args:
        server: name of the server in messages.
        token: secret to remove from messages, since a server's answer may repeat it.
    """

    def __init__(self, server: str, token: str | None) -> None:
        self._server = server
        self._token = token

    def quoted(self, text: object, limit: int = 300) -> str:
        """Return a server's text for a message: short, on one line, without the token and control characters."""
        quoted = str(text)
        if self._token:
            quoted = quoted.replace(self._token, "***")
        quoted = "".join(character if character.isprintable() else " " for character in quoted)
        return quoted if len(quoted) <= limit else f"{quoted[: limit - 3]}..."

    def checked(self, kind: type[Checked], answer: object) -> Checked:
        """Return the answer as a ``kind``; raise `RemoteError` unless it is one."""
        try:
            return kind.model_validate(answer)
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
        location = ".".join(map(str, details["loc"])) or "as a whole"
        raise self.wrong_answer(f"{location}: {details['msg']}")

    def wrong_answer(self, what: object) -> RemoteError:
        """Return the error for an answer that does not follow the API."""
        return RemoteError(f"{self._server} sent an answer that does not follow its API: {self.quoted(what)}")

    def cut_off(self) -> RemoteConnectionError:
        """Return the error for a stream that ends without a finish reason."""
        return RemoteConnectionError(f"{self._server} ended its answer before it was complete")

    def error(self, error: Exception) -> WorkbenchError:
        """Return the error to raise in place of the client's own, which contains the request and its token."""
        if isinstance(error, WorkbenchError):
            return error
        if isinstance(error, openai.APIStatusError):
            return self._status_error(error)
        if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
            return RemoteTimeoutError(f"{self._server} timed out; config.timeout_s sets how long to wait")
        if isinstance(error, openai.APIConnectionError | httpx2.TransportError | httpx2.StreamError):
            cause = error.__cause__ or error
            why = self.quoted(cause) or type(cause).__name__
            return RemoteConnectionError(f"{self._server} cannot be reached, or closed the connection: {why}")
        if isinstance(error, openai.APIError):  # an event in the stream
            return RemoteError(f"{self._server} stopped its answer with an error: {self.quoted(_message(error))}")
        return self.wrong_answer(f"{type(error).__name__}: {error}")

    def _status_error(self, error: openai.APIStatusError) -> WorkbenchError:
        status, message = error.status_code, self.quoted(_message(error))
        if status in {400, 413, 422} and (too_long := _too_long(error, message)):
            return too_long
        if status in {400, 413, 422, 501}:
            kind = UnsupportedFieldError if status == 501 else InvalidRequestError
            return kind("request", f"HTTP status {status}", f"one that {self._server} accepts; it says: {message}")
        error_type, what = _STATUSES.get(status, (RemoteError, "failed"))
        if 300 <= status < 400:
            what = "answered with a redirect, which is not followed; change config.url"
        return error_type(f"{self._server} {what} (HTTP {status}): {message}")


def _message(error: openai.APIError) -> str:
    """Return the server's message, from whichever of the usual fields contains it."""
    body: Any = error.body
    if isinstance(body, dict):
        for key in ("message", "error", "detail"):
            if isinstance(body.get(key), str):
                return str(body[key])
    return str(body) if isinstance(body, str) and body else error.message


def _too_long(error: openai.APIError, message: str) -> ContextLengthError | None:
    body: Any = error.body
    if isinstance(body, dict) and isinstance(body.get("n_prompt_tokens"), int) and isinstance(body.get("n_ctx"), int):
        return ContextLengthError(body["n_prompt_tokens"], body["n_ctx"])
    limit, length = (_first_number(pattern, message) for pattern in (_LIMIT, _PROMPT_LENGTH))
    return ContextLengthError(length, limit) if limit is not None and length is not None and length >= limit else None


def _first_number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(next(filter(None, found.groups()))) if found else None
