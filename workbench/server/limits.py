"""Limits on the requests of a server, checked before anything is allocated or computed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import BusyError, InvalidRequestError
from workbench.protocol import LogProbConfig, SamplingParams
from workbench.server.faults import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_BATCHES = ("content_batch", "messages_batch", "contents")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server. Other parts of a request, such as stop strings, are limited by the protocol."""

    max_body_bytes: int = 8 * 2**20
    """Maximum size of a request body; base64 makes images a third larger than their files."""
    max_batch: int = 64
    """Maximum number of items in a batch."""
    max_tokens: int | None = None
    """Maximum number of tokens to generate per item; None for the model's context length."""
    max_logprobs: int = 100
    """Maximum number of alternatives per position."""
    max_concurrent: int = 128
    """Maximum number of concurrent requests."""

    def applied(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check a protocol method's arguments and return them; without ``max_tokens``, the limit is inserted.

        Raises:
            InvalidRequestError: an argument exceeds a limit.
        """
        for name in _BATCHES:
            self._check_batch(name, arguments.get(name, ()))
        self._check_logprobs(arguments.get("logprobs"))
        if "sampling_params" not in arguments:
            return dict(arguments)
        return {**arguments, "sampling_params": self._bounded(arguments["sampling_params"])}

    def _check_batch(self, name: str, items: Sequence[object]) -> None:
        if len(items) > self.max_batch:
            raise InvalidRequestError(name, f"{len(items)} items", f"at most {self.max_batch} items on this server")

    def _check_logprobs(self, logprobs: LogProbConfig | None) -> None:
        if logprobs is not None and (logprobs.top_k or 0) > self.max_logprobs:
            allowed = f"at most {self.max_logprobs} on this server"
            raise InvalidRequestError("logprobs.top_k", logprobs.top_k, allowed)

    def _bounded(self, params: SamplingParams | None) -> SamplingParams | None:
        if self.max_tokens is None:
            return params
        params = params or SamplingParams()
        if (params.max_tokens or 0) > self.max_tokens:
            allowed = f"at most {self.max_tokens} on this server"
            raise InvalidRequestError("sampling_params.max_tokens", params.max_tokens, allowed)
        return params.model_copy(update={"max_tokens": params.max_tokens or self.max_tokens})


class LimitConcurrency:
    """Middleware that refuses POST requests above the limit of concurrent ones."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":  # the others compute nothing
            await self._app(scope, receive, send)
        elif self._active >= self._limits.max_concurrent:
            busy = BusyError(f"the server is already handling {self._active} requests; try again later")
            await error_response(busy)(scope, receive, send)
        else:
            self._active += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._active -= 1
