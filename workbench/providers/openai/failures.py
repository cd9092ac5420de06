"""What goes wrong at a server, as the errors of this package: without its tokens, whatever the server says."""

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
_PASSING = frozenset({408, 500, 502, 504})
_LOST = "has no such route or model; check the model's name and config.url, which often ends in /v1"
_STATUSES: dict[int, tuple[type[WorkbenchError], str]] = {
    401: (RemoteError, "refused the token of config.api_token"),
    403: (RemoteError, "refused the token of config.api_token"),
    404: (RemoteError, _LOST),
    408: (RemoteTimeoutError, "timed out"),
    429: (BusyError, "accepts no more requests now"),
    503: (BusyError, "accepts no requests now"),
    504: (RemoteTimeoutError, "timed out"),
}

# How servers write that a prompt does not fit: OpenAI and vLLM, TGI, and llama.cpp, which has fields for it as well.
_LIMIT = re.compile(r"maximum context length is (\d+)|must have less than (\d+) tokens|context size \((\d+) tokens\)")
_GIVEN = re.compile(
    r"(\d+) (?:in the messages|in (?:the|your) prompt|input tokens)|resulted in (\d+) tokens|"
    r"Given: (\d+)|\((\d+) tokens\) exceeds"
)


def may_repeat(error: Exception, *, harmless: bool) -> bool:
    """Whether asking again can do no harm: the server did not begin, or to ask twice costs next to nothing.

    Args:
        harmless: the request computes little and changes nothing, such as a listing; generating is not harmless.
    """
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _REFUSED_BEFORE_COMPUTING or (harmless and error.status_code in _PASSING)
    if isinstance(error, openai.APIConnectionError):
        return harmless or isinstance(error.__cause__, _NEVER_SENT)
    return False


def retry_after_s(error: Exception) -> float | None:
    """How long the server asks to be left alone; None where it does not say."""
    if not isinstance(error, openai.APIStatusError):
        return None
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "")))
    except ValueError:  # absent, or a date
        return None


class Failures:
    """Makes our errors of those that a request to one server ends in.

    Args:
        server: who it is, for messages.
        token: what must not be told, though a server's answer may repeat it.
    """

    def __init__(self, server: str, token: str | None) -> None:
        self._server = server
        self._token = token

    def told(self, text: object, limit: int = 300) -> str:
        """A server's words: short, without the token, on one line and without control characters."""
        words = str(text)
        if self._token:
            words = words.replace(self._token, "***")
        words = "".join(character if character.isprintable() else " " for character in words)
        return words if len(words) <= limit else f"{words[: limit - 3]}..."

    def checked(self, kind: type[Checked], answer: object) -> Checked:
        """The answer as what it should be, or `RemoteError`."""
        try:
            return kind.model_validate(answer)
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
        place = ".".join(map(str, details["loc"])) or "as a whole"
        raise self.wrong_answer(f"{place}: {details['msg']}")

    def wrong_answer(self, what: object) -> RemoteError:
        """For an answer that is not what the API says."""
        return RemoteError(f"{self._server} sent an answer that does not follow its API: {self.told(what)}")

    def cut_off(self) -> RemoteConnectionError:
        """For a stream that ends without saying why."""
        return RemoteConnectionError(f"{self._server} ended its answer before it was complete")

    def error(self, error: Exception) -> WorkbenchError:
        """The error to raise in place of the client's own, which holds the request and with it the token."""
        if isinstance(error, WorkbenchError):
            return error
        if isinstance(error, openai.APIStatusError):
            return self._of_status(error)
        if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
            return RemoteTimeoutError(f"{self._server} timed out; config.timeout_s sets how long to wait")
        if isinstance(error, openai.APIConnectionError | httpx2.TransportError | httpx2.StreamError):
            cause = error.__cause__ or error
            why = self.told(cause) or type(cause).__name__
            return RemoteConnectionError(f"{self._server} cannot be reached, or closed the connection: {why}")
        if isinstance(error, openai.APIError):  # an event in the stream
            return RemoteError(f"{self._server} stopped its answer with an error: {self.told(_words(error))}")
        return self.wrong_answer(f"{type(error).__name__}: {error}")

    def _of_status(self, error: openai.APIStatusError) -> WorkbenchError:
        status, words = error.status_code, self.told(_words(error))
        if status in {400, 413, 422} and (too_long := _too_long(error, words)):
            return too_long
        if status in {400, 413, 422, 501}:
            kind = UnsupportedFieldError if status == 501 else InvalidRequestError
            return kind("request", f"HTTP status {status}", f"one that {self._server} accepts; it says: {words}")
        kind_of_error, what = _STATUSES.get(status, (RemoteError, "failed"))
        if 300 <= status < 400:
            what = "answered with a redirect, which is not followed; change config.url"
        return kind_of_error(f"{self._server} {what} (HTTP {status}): {words}")


def _words(error: openai.APIError) -> str:
    """What the server says, in whichever of the usual places."""
    body: Any = error.body
    if isinstance(body, dict):
        for key in ("message", "error", "detail"):
            if isinstance(body.get(key), str):
                return str(body[key])
    return str(body) if isinstance(body, str) and body else error.message


def _too_long(error: openai.APIError, words: str) -> ContextLengthError | None:
    body: Any = error.body
    if isinstance(body, dict) and isinstance(body.get("n_prompt_tokens"), int) and isinstance(body.get("n_ctx"), int):
        return ContextLengthError(body["n_prompt_tokens"], body["n_ctx"])
    limit, given = (_first_number(pattern, words) for pattern in (_LIMIT, _GIVEN))
    return ContextLengthError(given, limit) if limit is not None and given is not None and given >= limit else None


def _first_number(pattern: re.Pattern[str], words: str) -> int | None:
    found = pattern.search(words)
    return int(next(filter(None, found.groups()))) if found else None
