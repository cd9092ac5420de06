"""What the widgets need of a session and of a run; ``workbench.session`` satisfies it, and so does a small fake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from workbench.protocol import LogProbConfig, Message, SamplingParams
from workbench.records import ModelCard, SamplingTrace, TokenRecord, Usage

RUNNING_STATES = ("queued", "running")


class RunLike(Protocol):
    """A generation that goes on in a background thread; every attribute may be read from any thread."""

    @property
    def id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def prompt(self) -> Any: ...
    @property
    def sampling_params(self) -> SamplingParams: ...
    @property
    def state(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> Sequence[TokenRecord]: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def stop_reason(self) -> Any: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def done(self) -> bool: ...

    def cancel(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...
    def logprobs(self, position: int) -> Any: ...
    def sampling_trace(
        self, position: int, sampling_params: SamplingParams | None = None, number: float | None = None
    ) -> SamplingTrace: ...


class ServedModel(Protocol):
    """One entry of ``session.list_models()``."""

    @property
    def identifier(self) -> str: ...
    @property
    def provider_id(self) -> str: ...


class SessionLike(Protocol):
    """The part of the notebook facade that widgets call; no method blocks on a model."""

    def completion(
        self,
        content: str,
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
    ) -> RunLike: ...

    def chat_completion(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
    ) -> RunLike: ...

    def list_models(self) -> Sequence[ServedModel]: ...

    def card(self, model: str | None = None) -> ModelCard: ...
