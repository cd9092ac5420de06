"""What the widgets need of a session and of a run; ``workbench.session`` satisfies it, and so does a small fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from workbench.protocol import (
    CompletionMessage,
    LogProbConfig,
    Message,
    RunConfig,
    SamplingParams,
    ToolCall,
    ToolChoice,
    ToolResponseMessage,
)
from workbench.records import CallAttempt, ModelCard, SamplingTrace, TokenRecord, Usage

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
    def call_attempts(self) -> Sequence[CallAttempt]: ...
    @property
    def notes(self) -> Sequence[str]: ...
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


class ConversationLike(Protocol):
    """The turns of a chat, moved on a step at a time; `workbench.conversing.Conversation` says what each step does."""

    system: str | None

    @property
    def messages(self) -> list[Message]: ...
    @property
    def turns(self) -> list[Message]: ...
    @property
    def open_calls(self) -> Mapping[int, ToolCall]: ...

    def say(self, text: str) -> None: ...
    def rewind(self, turn: int) -> None: ...
    def ask(self, **settings: Any) -> Any: ...
    def take(self, run: Any) -> CompletionMessage: ...
    def can_run(self, call: ToolCall) -> bool: ...
    def result(self, call: ToolCall) -> ToolResponseMessage: ...
    def settle(self, index: int, result: ToolResponseMessage | str | BaseException) -> None: ...
    def decline(self, index: int) -> None: ...


class ServedModel(Protocol):
    """One entry of ``session.list_models()``."""

    @property
    def identifier(self) -> str: ...
    @property
    def provider_id(self) -> str: ...


class SessionLike(Protocol):
    """The part of the notebook facade that widgets call; no method blocks but those that say so."""

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

    def conversation(
        self, *, tools: Sequence[Any] | None = None, tool_choice: ToolChoice | None = ToolChoice.auto
    ) -> ConversationLike: ...

    @property
    def config(self) -> RunConfig: ...

    def list_models(self) -> Sequence[ServedModel]: ...

    def register_model(
        self, identifier: str, source: str | None = None, *, provider_id: str | None = None
    ) -> ServedModel:
        """Blocks, for minutes where weights are fetched."""

    def unregister_model(self, identifier: str) -> None:
        """Blocks until its memory is given back."""

    def card(self, model: str | None = None) -> ModelCard: ...
