"""Translation of what the client of Qdrant raises into errors of this package, without its token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from portalocker.exceptions import LockException
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from workbench.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError, StateError, WorkbenchError

if TYPE_CHECKING:
    from workbench.providers.memory.qdrant.config import QdrantConfig

_LONGEST = 300
"""Characters of a server's text in a message."""


@contextmanager
def translated(config: QdrantConfig) -> Iterator[None]:
    """Raise a typed error in place of those that the client raises; the message has the place and no secret."""
    try:
        yield
    except WorkbenchError:
        raise
    except (ApiException, httpx.HTTPError) as error:
        failure = _remote_failure(error, config)
    except (OSError, LockException, RuntimeError) as error:
        if config.path is None:
            raise
        failure = StateError(f"the Qdrant store {config.path} cannot be used: {_quoted(error, config)}")
    else:
        return
    raise failure


def _remote_failure(error: Exception, config: QdrantConfig) -> WorkbenchError:
    server = f"the Qdrant server {config.url}"
    if isinstance(error, UnexpectedResponse):
        text = error.content.decode(errors="replace")
        return RemoteError(f"{server} answered with HTTP {error.status_code}: {_quoted(text, config)}")
    cause = error.source if isinstance(error, ResponseHandlingException) else error
    if isinstance(cause, httpx.TimeoutException):
        return RemoteTimeoutError(f"{server} timed out; config.timeout_s sets how long to wait")
    if isinstance(cause, httpx.TransportError):
        why = _quoted(cause, config) or type(cause).__name__
        return RemoteConnectionError(f"{server} cannot be reached, or closed the connection: {why}")
    return RemoteError(f"{server} sent an answer that does not follow its API: {_quoted(cause, config)}")


def _quoted(text: object, config: QdrantConfig) -> str:
    quoted = str(text)
    if config.token:
        quoted = quoted.replace(config.token, "***")
    quoted = "".join(character if character.isprintable() else " " for character in quoted)
    return quoted if len(quoted) <= _LONGEST else f"{quoted[: _LONGEST - 3]}..."
