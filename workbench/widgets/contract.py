"""The protocols of the session and the runs that widgets are given; `workbench.session` and a small fake have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypedDict, Unpack

from workbench.analysis.comparison import Compared
from workbench.protocol import (
    Chunk,
    CompletionMessage,
    Edit,
    LogProbConfig,
    Message,
    RunConfig,
    SamplingParams,
    ToolCall,
    ToolChoice,
    ToolResponseMessage,
)
from workbench.protocol.insides import LensKind
from workbench.records import (
    Breakpoint,
    CallAttempt,
    FoundModel,
    Insides,
    LensColumn,
    ModelCard,
    RunProgress,
    RunState,
    TokenRecord,
)


class RunLike(Compared, Protocol):
    """A run that a widget also controls; every attribute may be read from any thread."""

    @property
    def progress(self) -> RunProgress | None: ...
    @property
    def call_attempts(self) -> Sequence[CallAttempt]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def error(self) -> BaseException | None: ...

    @property
    def can_pause(self) -> bool: ...
    @property
    def parent(self) -> RunLike | None: ...
    @property
    def branched_at(self) -> int | None: ...
    @property
    def breakpoint(self) -> Breakpoint | None: ...

    def cancel(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def branch(self, position: int, token_id: int | None = None) -> RunLike: ...
    def extend(self, max_tokens: int | None = None) -> RunLike: ...
    def again(self, seed: int | None = None) -> RunLike: ...
    def lens_columns(
        self, positions: Sequence[int] | None = None, *, kind: LensKind = "logit", words: int = 1
    ) -> list[LensColumn]:
        """Block until the columns are computed."""


class InsideRun(RunLike, Protocol):
    """A run whose model can be looked into; `workbench.session.run_insides.RunInsides` documents each method."""

    @property
    def insides(self) -> Insides: ...

    def attention_heads(self, layers: Sequence[int] | None = None, positions: Any = None) -> Any: ...
    def capture(self, points: Sequence[str] | str, positions: Any = None) -> Any: ...
    def edit(
        self, *edits: Edit, keep_tokens: bool = False, sampling_params: SamplingParams | None = None
    ) -> InsideRun: ...


class AskedRun(Protocol):
    """An answer of `Workbench.ask`, whose attribution to its chunks can be measured."""

    @property
    def id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def prompt(self) -> Any: ...
    @property
    def tokens(self) -> Sequence[TokenRecord]: ...
    @property
    def chunks(self) -> Sequence[Chunk]: ...
    @property
    def done(self) -> bool: ...
    @property
    def state(self) -> RunState: ...
    @property
    def error(self) -> BaseException | None: ...

    def wait(self, timeout: float | None = None) -> bool: ...
    def start_attribution(self) -> Future[Any]: ...


class ConversationLike(Protocol):
    """A conversation that advances step by step; `session.conversation.Conversation` documents each step."""

    system: str | None
    tool_choice: Any

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def messages(self) -> list[Message]: ...
    @property
    def turns(self) -> list[Message]: ...
    @property
    def outcomes(self) -> Mapping[int, str]: ...
    @property
    def open_calls(self) -> Mapping[int, ToolCall]: ...

    def say(self, text: str) -> None: ...
    def rewind(self, turn: int) -> None: ...
    def tail(self, turn: int) -> Any: ...
    def restore(self, tail: Any) -> None: ...
    def start_answer(self, **settings: Any) -> Any: ...
    def add_answer(self, run: Any) -> CompletionMessage: ...
    def can_run(self, call: ToolCall) -> bool: ...
    def result(self, call: ToolCall) -> ToolResponseMessage | Exception: ...
    def set_result(
        self, index: int, result: ToolResponseMessage | str | BaseException, outcome: Any = None
    ) -> None: ...
    def decline(self, index: int) -> None: ...


class ServedModel(Protocol):
    """An entry of ``session.list_models()``."""

    @property
    def identifier(self) -> str: ...
    @property
    def provider_id(self) -> str: ...


class Abilities(Protocol):
    """The capabilities of a model that widgets use."""

    @property
    def pause(self) -> bool: ...
    @property
    def prompt_logprobs(self) -> bool: ...


class RunSettings(TypedDict, total=False):
    """Optional arguments of the session's methods that start a run."""

    model: str | None
    sampling_params: SamplingParams | None
    logprobs: LogProbConfig | None
    breakpoints: Sequence[Breakpoint]


class ChatSettings(RunSettings, total=False):
    """Optional arguments of the session's method that answers a conversation."""

    shields: list[str] | None


class SessionLike(Protocol):
    """The part of `Workbench` that widgets call; methods do not block unless they say so."""

    def completion(self, content: str, **settings: Unpack[RunSettings]) -> RunLike: ...

    def chat_completion(self, messages: list[Message], **settings: Unpack[ChatSettings]) -> RunLike: ...

    def reading(self, text: str, *, model: str | None = None, alternatives: int = 5) -> RunLike: ...

    def conversation(
        self, *, tools: Sequence[Any] | None = None, tool_choice: Any = ToolChoice.auto
    ) -> ConversationLike: ...

    @property
    def config(self) -> RunConfig: ...

    def list_models(self) -> Sequence[ServedModel]: ...

    def models_found(self) -> Sequence[FoundModel]:
        """Block until the places of other programs are searched, for less than a second."""

    def register_model(
        self,
        identifier: str,
        source: str | None = None,
        *,
        provider_id: str | None = None,
        precision: str | None = None,
        device: str | None = None,
        progress: Callable[[str, int, int | None], None] | None = None,
    ) -> ServedModel:
        """Block until the model is registered, for minutes if weights are downloaded.

        ``progress`` is then called with the stage, the bytes that are there, and all bytes or None.
        """

    def devices(self, provider_id: str) -> Sequence[str]: ...

    def unregister_model(self, identifier: str) -> None:
        """Block until the model's memory is free."""

    def card(self, model: str | None = None) -> ModelCard: ...
    def capabilities(self, model: str | None = None) -> Abilities: ...


class SteeringSession(SessionLike, Protocol):
    """A session whose models can be steered."""

    def steering_vector(
        self, towards: Sequence[str], away: Sequence[str], *, point: str, model: str | None = None
    ) -> Any:
        """Block until the texts are read; return the difference of their mean numbers at a point, as an array."""
