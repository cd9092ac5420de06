"""The notebook's facade: a `Workbench` and the runs it starts; plain calls over the async protocol."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from workbench.errors import InvalidRequestError, ModelNotFoundError
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.from_functions import Tool, tool_definitions
from workbench.prompts.tools.rendering import descriptions
from workbench.protocol import (
    BatchChatCompletionResponse,
    BatchCompletionResponse,
    ChatCompletionRequest,
    CompletionRequest,
    CompletionResponse,
    CompletionResponseStreamChunk,
    EmbeddingsResponse,
    InterleavedTextMedia,
    LogProbConfig,
    Message,
    ModelDefWithProvider,
    ResponseFormat,
    RunConfig,
    SamplingParams,
    ToolChoice,
    ToolPromptFormat,
    sampling_conflict,
)
from workbench.providers.capabilities import refuse_method
from workbench.providers.requests import Request, snapshot
from workbench.records import Breakpoint, Control
from workbench.session.conversation import (
    AnswerChoice,
    Approve,
    ChatRun,
    Conversation,
    ConversationResult,
    Loop,
    function_tools,
)
from workbench.session.event_loop_thread import BackgroundLoop
from workbench.session.reading import Reading, reading_chunks, reading_request
from workbench.session.run import Run
from workbench.stack import Stack
from workbench.stack.naming import model_from

if TYPE_CHECKING:
    from concurrent.futures import Future

    from workbench.providers.capabilities import Capabilities
    from workbench.providers.trace.recording import Recorder
    from workbench.records import ModelCard, Prompt, Score
    from workbench.widgets import ChatView, CompareView, Playground, ReadView

CompletionRun: TypeAlias = Run[CompletionResponseStreamChunk, CompletionResponse]


class Workbench:
    """Models to use from a notebook or a script.

    Args:
        config: run config as the path of a YAML file, a dict or a `RunConfig`. None uses the file named by
            ``WORKBENCH_CONFIG``, or the embedded models if it is not set.
        precision: precision of the embedded models: ``float32`` (the reference, with the same numbers on every
            processor), ``bf16``, ``fp8``, ``int8`` or ``int4`` (the default). A run config sets it per provider.

    Raises:
        ConfigError: the run config is invalid; nothing was started.
    """

    def __init__(
        self, config: RunConfig | dict[str, Any] | str | Path | None = None, *, precision: str | None = None
    ) -> None:
        self._stack = Stack(config, precision)
        self.config = self._stack.config
        """Run config, with each ``${env.NAME}`` as written; it contains no readable secrets."""
        self._loop = BackgroundLoop("workbench")
        self._numbers = itertools.count(1)
        self._loop.wait(self._stack.open())
        self.inference = self._stack.inference
        """Implementation of the protocols ``Inference`` and ``BatchInference`` (async)."""
        self.models = self._stack.models
        """Implementation of the protocol ``Models`` (async)."""
        self.inspect = self._stack.inspect
        """Implementation of the protocol ``Inspect`` (async)."""

    # -------------------------------------------------------------------------------------------- generating

    def completion(
        self,
        content: InterleavedTextMedia,
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
        breakpoints: Sequence[Breakpoint] = (),
    ) -> CompletionRun:
        """Continue a text and return the run at once. The parameters are those of ``Inference.completion``.

        Args:
            breakpoints: conditions at which the run pauses.

        Raises:
            ModelNotFoundError, InvalidRequestError: before any compute. Errors that only the model can detect are
                raised by the run.
        """
        params = _sampling(sampling_params)
        body = CompletionRequest.model_construct(
            model=self._model(model),
            content=content,
            sampling_params=params,
            logprobs=logprobs,
            response_format=response_format,
        )
        return self.start(replace(Request.from_body(body), breakpoints=_breakpoints(breakpoints)))

    def chat_completion(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        tools: Sequence[Tool] | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
        breakpoints: Sequence[Breakpoint] = (),
    ) -> ChatRun:
        """Answer a conversation and return the run at once. The parameters are those of the protocol.

        Args:
            tools: tool definitions, or functions, which are described by their signatures and docstrings. They are
                not called; ``run.tool_calls`` has the calls that the model makes.
            breakpoints: conditions at which the run pauses.
        """
        body = ChatCompletionRequest.model_construct(
            sampling_params=_sampling(sampling_params),
            messages=_list("messages", messages),
            tools=tool_definitions(tools),
            tool_choice=tool_choice,
            tool_prompt_format=tool_prompt_format,
            model=self._model(model),
            logprobs=logprobs,
            response_format=response_format,
        )
        return self.start(replace(Request.from_body(body), breakpoints=_breakpoints(breakpoints)))

    def start(
        self, request: Request, parent: Run[Any, Any] | None = None, branched_at: int | None = None
    ) -> Run[Any, Any]:
        """Start a run from a complete request; the other methods that generate end here.

        Args:
            parent, branched_at: the run that the request branches from, and the number of tokens kept from it.
        """
        control = Control(can_pause=self.capabilities(_name(request.model)).pause)
        request = replace(snapshot(request), control=control)
        chunks = self.inference.stream(request)
        host = _Host(self, self._loop, self.start)
        return Run(self._run_id(), request, chunks=chunks, host=host, parent=parent, branched_at=branched_at)

    def reading(self, text: str, *, model: str | None = None, alternatives: int = 5) -> Reading:
        """Measure how probable each token of a text is to a model, and return the run at once.

        Args:
            alternatives: number of other tokens to report at each position.

        Raises:
            ModelNotFoundError, InvalidRequestError: before any compute. Errors that only the model can detect are
                raised by the run.
            UnsupportedFieldError: the model's provider cannot measure or render prompts.
        """
        request = reading_request(self._model(model), text, alternatives)
        refuse_method(self.models.find(_name(request.model)).provider, "render", request.model)
        return self._read(request)

    def embeddings(self, contents: list[InterleavedTextMedia], *, model: str | None = None) -> EmbeddingsResponse:
        """Return one vector per content, in order. ``model=None`` uses the first sentence model that is served."""
        return self._loop.wait(self.inference.embeddings(self._model(model, kind="embedding"), contents))

    def batch_completion(
        self,
        content_batch: list[InterleavedTextMedia],
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchCompletionResponse:
        """Continue several texts in one batch, in order. One invalid item rejects the batch before any compute."""
        name, params = self._model(model), _sampling(sampling_params)
        contents = _list("content_batch", content_batch)
        return self._loop.wait(self.inference.batch_completion(name, contents, params, logprobs, response_format))

    def batch_chat_completion(
        self,
        messages_batch: list[list[Message]],
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        tools: Sequence[Tool] | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> BatchChatCompletionResponse:
        """Answer several conversations in one batch, in order. One invalid item rejects it before any compute."""
        name, params = self._model(model), _sampling(sampling_params)
        batch, defined = _list("messages_batch", messages_batch), tool_definitions(tools)
        return self._loop.wait(
            self.inference.batch_chat_completion(
                name, batch, params, defined, tool_choice, tool_prompt_format, logprobs, response_format
            )
        )

    def converse(
        self,
        messages: list[Message],
        *,
        tools: Sequence[Callable[..., Any]],
        approve: Approve = None,
        max_rounds: int = 8,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        tool_choice: ToolChoice | None = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        logprobs: LogProbConfig | None = None,
    ) -> ConversationResult:
        """Answer a conversation with the help of functions. Block until the answer; an interrupt stops the work.

        Args:
            tools: functions, which are described to the model by their signatures and docstrings.
            approve: function that gets each ``ToolCall`` before it is run and returns whether to run it; the model
                is informed of calls that are declined. True runs all calls, False none; None returns with the first
                calls without running them.
            max_rounds: maximum number of rounds in which calls are run and their results go back to the model.
            tool_choice: tool choice of the first answer; after a result it is ``auto``.

        Raises as `chat_completion` does. Exceptions of a function are reported to the model instead.
        """
        params, by_name = _sampling(sampling_params), function_tools(tools)
        definitions, name = [tool.definition for tool in by_name.values()], self._model(model)

        def ask(messages: list[Message], tool_choice: ToolChoice | None, **_: Any) -> ChatRun:
            body = ChatCompletionRequest.model_construct(
                model=name,
                messages=messages,
                sampling_params=params,
                tools=definitions,
                tool_choice=tool_choice,
                tool_prompt_format=tool_prompt_format,
                logprobs=logprobs,
            )
            return self.start(Request.from_body(body))

        return Loop(ask, by_name, approve, max_rounds).run(_list("messages", messages), tool_choice)

    def conversation(
        self,
        *,
        tools: Sequence[Tool] | None = None,
        tool_choice: AnswerChoice = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
    ) -> Conversation:
        """Return a conversation that advances step by step, as in the chat widget; `converse` runs to the answer.

        Args:
            tools: functions to run, and definitions of tools whose results are given by the caller.
            tool_choice: tool choice of the first answer to a user, or ``none`` for answers without tools; it can be
                changed between answers. After a result it is ``auto``.

        Raises:
            InvalidRequestError: a tool cannot be described, or its function cannot be run.
        """
        functions = function_tools([] if tools is None else tools, skip_definitions=True)
        definitions = tool_definitions(tools)
        described = descriptions(Toolset.of(definitions))

        def ask(
            messages: list[Message], tool_choice: ToolChoice | None, *, offers_tools: bool = True, **settings: Any
        ) -> ChatRun:
            return self.chat_completion(
                messages,
                tools=definitions if offers_tools else None,
                tool_choice=tool_choice,
                tool_prompt_format=tool_prompt_format,
                **settings,
            )

        return Conversation(ask, functions, tool_choice=tool_choice, tools=described)

    def score(
        self,
        prompt: str | list[Message],
        continuations: list[str],
        *,
        model: str | None = None,
        logprobs: LogProbConfig | None = None,
    ) -> list[Score]:
        """Return how probable each continuation is after a text or a conversation, in total and per token."""
        if logprobs is not None and not isinstance(logprobs, LogProbConfig):
            raise InvalidRequestError("logprobs", logprobs, "a LogProbConfig")
        alternatives = (logprobs.top_k or 0) if logprobs else 0
        return self._loop.wait(self.inference.score(self._model(model), prompt, continuations, alternatives))

    def render(
        self,
        prompt: str | list[Message],
        *,
        tools: Sequence[Tool] | None = None,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        model: str | None = None,
    ) -> Prompt:
        """Return the prompt, text and tokens, that a model gets for a text or a conversation, without running it.

        Args:
            tools: definitions or functions, as in `chat_completion`.
        """
        asked = self.inference.render(self._model(model), prompt, tool_definitions(tools), tool_prompt_format)
        return self._loop.wait(asked)

    # ------------------------------------------------------------------------------------------------ models

    def list_models(self) -> list[ModelDefWithProvider]:
        """Return the models that are served, in order of registration, as last reported by remote servers.

        ``await bench.models.list_models()`` queries the servers again.
        """
        return self.models.models()

    def register_model(
        self,
        identifier: str,
        source: str | Path | None = None,
        *,
        provider_id: str | None = None,
        precision: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> ModelDefWithProvider:
        """Register a model with a provider, now and after a restart; block until the provider has accepted it.

        Args:
            identifier: name of the model in requests.
            source: catalog name, folder or hub id of its weights. None uses ``identifier``; a folder is then served
                under the folder's name.
            provider_id: id of the provider; None uses the first one in the run config.
            precision: ``float32``, ``bf16``, ``fp8``, ``int8`` or ``int4``. None uses the precision in the provider's
                run config; without one, int4 for catalog models and float32, the reference, for all others.
            metadata: values to store with the model; the precision is stored there too.

        Raises:
            InvalidRequestError: the name is taken or not allowed, or the provider or precision does not exist.
            WorkbenchError: the provider refused the model; nothing has changed.
        """
        if provider_id is None:
            provider_id = next(iter(self._stack.providers), "")
        if precision is not None:
            metadata = {**(metadata or {}), "precision": precision}
        model = model_from(identifier, source, provider_id, metadata)
        self._loop.wait(self.models.register_model(model))
        return model

    def unregister_model(self, identifier: str) -> None:
        """Stop serving a model and free its memory; block until that is done.

        A model that is listed in the run config is served again after a restart.
        """
        self._loop.wait(self.models.unregister_model(identifier))

    def card(self, model: str | None = None) -> ModelCard:
        """Return the card of a model without loading it."""
        found = self.models.find(self._model(model))
        return found.provider.card(found.model.identifier)

    def capabilities(self, model: str | None = None) -> Capabilities:
        """Return the request fields and values that a model supports; all others are refused."""
        found = self.models.find(self._model(model))
        return found.provider.capabilities_of(found.model.identifier)

    def load(self, model: str | None = None) -> ModelCard:
        """Load a model now instead of at its first request; block until it is loaded and return its card."""
        found = self.models.find(self._model(model))
        found.provider.load(found.model.identifier)
        return found.provider.card(found.model.identifier)

    # --------------------------------------------------------------------------------------------- recording

    def record(self, path: str | Path, *, overwrite: bool = False) -> Recorder:
        """Record every call of this workbench from now on in a trace file, which ``inline::trace`` replays.

        A call is written when it ends. Close the recorder that is returned, or use it in a ``with`` statement.
        Missing parent folders are created.

        Raises:
            InvalidRequestError: the file exists and ``overwrite`` is false, or another recording is still open.
        """
        from workbench.providers.trace.recording import Recorder

        if (going_on := self.inference.recorder) is not None and going_on.is_open:
            raise InvalidRequestError("path", str(path), f"given after the open recording to {going_on.path} is closed")
        recorder = Recorder(path, overwrite=overwrite)
        for known in self.models.registrations():
            recorder.note(known.provider, known.model.identifier, known.name)
        self.inference.recorder = recorder
        return recorder

    # ----------------------------------------------------------------------------------------------- widgets

    def playground(self, **options: Any) -> Playground:
        """Return the playground widget for this workbench."""
        from workbench import widgets

        return widgets.playground(self, **options)

    def read(self, text: str = "", other: str = "", **options: Any) -> ReadView:
        """Return a widget that shows the surprisal of each token of a text, or of two texts side by side.

        Args:
            options: ``model``, ``alternatives``: see `widgets.ReadView`. `reading` does the same without a widget.
        """
        from workbench import widgets

        return widgets.read(self, text, other, **options)

    def compare(self, prompt: str | None = None, **options: Any) -> CompareView:
        """Return a widget that compares the answers of several models or sampling settings side by side.

        Args:
            prompt: prompt for all sides; None lets the reader enter it and choose the sides in the widget.
            options: ``models``, ``sampling_params``, ``mode``, ``alternatives``: see `widgets.CompareView`.
        """
        from workbench import widgets

        return widgets.compare(self, prompt, **options)

    def chat(self, **options: Any) -> ChatView:
        """Return the chat widget for this workbench; the options are those of `workbench.widgets.chat`."""
        from workbench import widgets

        return widgets.chat(self, **options)

    # -------------------------------------------------------------------------------------------------- life

    def close(self) -> None:
        """Cancel running requests, stop all threads and free the models' memory. Closing twice is harmless."""
        self._loop.close()
        self._stack.close()
        if self.inference.recorder is not None:
            self.inference.recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Workbench {self.config.image_name}: {', '.join(model.identifier for model in self.list_models())}>"

    def _read(self, request: Request, *_origin: object) -> Reading:
        request = replace(snapshot(request), control=Control(can_pause=False))
        render = partial(self.inference.render, request.model, request.text)
        chunks = reading_chunks(request, self.inference.stream(request), render)
        return Reading(self._run_id(), request, chunks=chunks, host=_Host(self, self._loop, self._read))

    def _run_id(self) -> str:
        return f"run-{next(self._numbers)}"

    def _model(self, model: str | None, kind: str = "causal") -> str:
        if model is not None:
            return model
        for known in self.models.registrations():
            with suppress(ModelNotFoundError):  # unregistered at this moment
                if known.provider.kind(known.model.identifier) == kind:
                    return known.name
        raise ModelNotFoundError(f"(any {kind} model)", [known.identifier for known in self.list_models()])


@dataclass(frozen=True, slots=True)
class _Host:
    """What a run needs from its workbench: see `RunHost`."""

    bench: Workbench
    loop: BackgroundLoop
    start: Callable[..., Any]
    """Starts another run of the same kind."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        return self.loop.start(coroutine)

    def card(self, model: str) -> ModelCard:
        return self.bench.card(model)

    def render(self, request: Request) -> Prompt:
        if not request.is_chat:
            return self.bench.render(request.text, model=request.model)
        return self.bench.render(
            list(request.messages),
            tools=list(request.tools),
            tool_prompt_format=request.tool_prompt_format,
            model=request.model,
        )


def _sampling(params: SamplingParams | None) -> SamplingParams:
    """The parameters to use; a contradiction in them is a warning at the caller's line, once per call."""
    if params is None:
        return SamplingParams()
    if not isinstance(params, SamplingParams):
        raise InvalidRequestError("sampling_params", params, "a SamplingParams")
    if conflict := sampling_conflict(params):
        warnings.warn(conflict, UserWarning, stacklevel=3)
    return params.model_copy()  # what the caller does with the original later changes no run


def _name(model: object) -> str:
    if not isinstance(model, str):
        raise InvalidRequestError("model", model, "the name of a served model")
    return model


def _breakpoints(breakpoints: object) -> tuple[Breakpoint, ...]:
    if not isinstance(breakpoints, list | tuple) or not all(isinstance(one, Breakpoint) for one in breakpoints):
        raise InvalidRequestError("breakpoints", breakpoints, "a list of Breakpoint")
    return tuple(breakpoints)


def _list(field: str, value: object) -> list[Any]:
    """A copy of a list, for the same reason."""
    if not isinstance(value, list):
        raise InvalidRequestError(field, value, "a list")
    return list(value)


__all__ = ["ChatRun", "CompletionRun", "ConversationResult", "Reading", "Run", "Workbench"]
