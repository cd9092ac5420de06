"""The notebook's facade: a `Workbench` and the runs it starts; plain calls over the async protocol."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from workbench.background import BackgroundLoop
from workbench.capsule import capsule_of
from workbench.conversing import AnswerChoice, Approve, ChatRun, Conversation, Conversed, Loop, function_tools
from workbench.errors import InvalidRequestError, ModelNotFoundError
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.from_functions import Tool, tool_definitions
from workbench.prompts.tools.rendering import descriptions
from workbench.protocol import (
    BatchChatCompletionResponse,
    BatchCompletionResponse,
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
from workbench.providers.folding import chat_response, completion_response
from workbench.providers.requests import Request, chat_request, completion_request, snapshot
from workbench.reading import Reading, reading_chunks, reading_request
from workbench.run import Run
from workbench.stack import Stack
from workbench.stack.naming import model_from
from workbench.steering import Breakpoint, Control

if TYPE_CHECKING:
    from workbench.providers.capabilities import Capabilities
    from workbench.providers.trace.recording import Recorder
    from workbench.records import ModelCard, Prompt, Score
    from workbench.widgets import ChatView, CompareView, Playground, ReadView

CompletionRun: TypeAlias = Run[CompletionResponseStreamChunk, CompletionResponse]
AnyRun = TypeVar("AnyRun", bound=Run[Any, Any])


class Workbench:
    """Models to ask, in a notebook or a script.

    Args:
        config: a run config as a YAML file, a dict or a `RunConfig`; None takes the file named by
            ``WORKBENCH_CONFIG``, else the embedded models.
        precision: of the embedded models: ``float32`` (the reference, whose numbers are the same on every processor),
            ``bf16``, ``fp8``, ``int8`` or ``int4`` (the default). A run config says it for each provider instead.

    Raises:
        ConfigError: the run config is wrong; nothing was started.
    """

    def __init__(
        self, config: RunConfig | dict[str, Any] | str | Path | None = None, *, precision: str | None = None
    ) -> None:
        self._stack = Stack(config, precision)
        self.config = self._stack.config
        """With ``${env.NAME}`` as written; it holds no secret that can be read."""
        self._loop = BackgroundLoop("workbench")
        self._numbers = itertools.count(1)
        self._loop.wait(self._stack.open())
        self.inference = self._stack.inference
        """Satisfies the protocols ``Inference`` and ``BatchInference`` exactly (async)."""
        self.models = self._stack.models
        """Satisfies the protocol ``Models`` exactly (async)."""
        self.inspect = self._stack.inspect
        """Satisfies the protocol ``Inspect`` exactly (async)."""

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
        """Let a model continue a text; the run is returned at once. Parameters are those of ``Inference.completion``.

        Args:
            breakpoints: where the run pauses.

        Raises:
            ModelNotFoundError, InvalidRequestError: before any work; what only the model can know comes from the run.
        """
        params = _sampling(sampling_params)
        request = completion_request(self._model(model), content, params, logprobs, response_format)
        return self.start(replace(request, breakpoints=_breakpoints(breakpoints)))

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
        """Let a model answer a conversation; the run is returned at once. Parameters are the protocol's.

        Args:
            tools: definitions, or functions that are described by their signatures and docstrings. None is run here;
                the calls that the model asks for are ``run.tool_calls``.
            breakpoints: where the run pauses.
        """
        params, messages = _sampling(sampling_params), _list("messages", messages)
        defined, name = tool_definitions(tools), self._model(model)
        request = chat_request(
            name, messages, params, defined, tool_choice, tool_prompt_format, logprobs, response_format
        )
        return self.start(replace(request, breakpoints=_breakpoints(breakpoints)))

    def start(
        self, request: Request, parent: Run[Any, Any] | None = None, branched_at: int | None = None
    ) -> Run[Any, Any]:
        """Start the run of a request as providers get it; all other methods that generate come down to this one.

        Args:
            parent, branched_at: the run that the request's beginning was kept of, and how many tokens.
        """
        control = Control(can_pause=self.capabilities(_name(request.model)).pause)
        request = replace(snapshot(request), control=control)
        chunks = self.inference.stream(request)
        return self._run(Run, request, chunks, start=self.start, parent=parent, branched_at=branched_at)

    def reading(self, text: str, *, model: str | None = None, alternatives: int = 5) -> Reading:
        """Have a model read a text and measure each of its tokens; the run is returned at once.

        Args:
            alternatives: how many other tokens to name at each position.

        Raises:
            ModelNotFoundError, InvalidRequestError: before any work; what only the model can know comes from the run.
            UnsupportedFieldError: the model's provider measures or renders no prompts.
        """
        request = reading_request(self._model(model), text, alternatives)
        refuse_method(self.models.find(_name(request.model)).provider, "render", request.model)
        return self._read(request)

    def embeddings(self, contents: list[InterleavedTextMedia], *, model: str | None = None) -> EmbeddingsResponse:
        """One vector per content, in order. ``model=None`` takes the first sentence model served."""
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
        """Continue several texts together; order kept, one bad item refuses the batch before any compute."""
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
        """Answer several conversations together; order kept, one bad item refuses the batch before any compute."""
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
    ) -> Conversed:
        """Let a model answer with the help of functions; blocks until it has. Interrupting it stops what is under way.

        Args:
            tools: functions, described by their signatures and docstrings.
            approve: asked before every call with the ``ToolCall``, and the model is told where it says no. True runs
                all, False none; None runs nothing and returns with the first calls.
            max_rounds: how many times calls are run and their results told, at most.
            tool_choice: of the first answer; after a result the model is free.

        Raises as `chat_completion` does. What a function raises is told to the model instead.
        """
        params, by_name = _sampling(sampling_params), function_tools(tools)
        definitions, name = [tool.definition for tool in by_name.values()], self._model(model)

        def ask(messages: list[Message], tool_choice: ToolChoice | None, **_: Any) -> ChatRun:
            return self.start(
                chat_request(name, messages, params, definitions, tool_choice, tool_prompt_format, logprobs)
            )

        return Loop(ask, by_name, approve, max_rounds).run(_list("messages", messages), tool_choice)

    def conversation(
        self,
        *,
        tools: Sequence[Tool] | None = None,
        tool_choice: AnswerChoice = ToolChoice.auto,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
    ) -> Conversation:
        """A conversation to be moved on a step at a time, as the chat widget does; `converse` goes all the way.

        Args:
            tools: functions to run, and definitions of tools whose results somebody else gives.
            tool_choice: of the first answer to a user, or ``none`` for answers without tools; it may be set between
                answers. After a result the model is free to answer.

        Raises:
            InvalidRequestError: a tool cannot be described, or its function cannot be run here.
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
        """How probable each continuation is after a text or a conversation: sum, per token, length-normalised."""
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
        """What a model would be given for a text or a conversation: the text with its tokens. Nothing is computed.

        Args:
            tools: definitions or functions, as for `chat_completion`.
        """
        asked = self.inference.render(self._model(model), prompt, tool_definitions(tools), tool_prompt_format)
        return self._loop.wait(asked)

    # ------------------------------------------------------------------------------------------------ models

    def list_models(self) -> list[ModelDefWithProvider]:
        """Every model served, in the order of registration, as far as is known.

        ``await bench.models.list_models()`` asks servers anew.
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
        """Have a provider serve one more model, now and after a restart; blocks until it has agreed.

        Args:
            identifier: the name to ask for it.
            source: where its weights come from: a catalog name, a folder or a hub id. None where ``identifier`` says
                that; a folder is then served under its own name.
            provider_id: which provider; None takes the first of the run config.
            precision: ``float32``, ``bf16``, ``fp8``, ``int8`` or ``int4``. None takes what the run config says of the
                provider; without one int4 for the catalog's models, and float32, the reference, for any other.
            metadata: facts to keep with the model; the precision is one of them.

        Raises:
            InvalidRequestError: the name is taken or cannot be one, there is no such provider, or no such precision.
            WorkbenchError: the provider refuses it; nothing has changed.
        """
        if provider_id is None:
            provider_id = next(iter(self._stack.providers), "")
        if precision is not None:
            metadata = {**(metadata or {}), "precision": precision}
        model = model_from(identifier, source, provider_id, metadata)
        self._loop.wait(self.models.register_model(model))
        return model

    def unregister_model(self, identifier: str) -> None:
        """Stop serving a model and free its memory; blocks until that is done.

        A model that the run config names is back after a restart.
        """
        self._loop.wait(self.models.unregister_model(identifier))

    def card(self, model: str | None = None) -> ModelCard:
        """The facts of a model, without loading it."""
        found = self.models.find(self._model(model))
        return found.provider.card(found.model.identifier)

    def capabilities(self, model: str | None = None) -> Capabilities:
        """What requests may ask of a model; all else is refused by the name of the field."""
        found = self.models.find(self._model(model))
        return found.provider.capabilities_of(found.model.identifier)

    def load(self, model: str | None = None) -> ModelCard:
        """Load a model now instead of at its first request; blocks, and returns its card."""
        found = self.models.find(self._model(model))
        found.provider.load(found.model.identifier)
        return found.provider.card(found.model.identifier)

    # --------------------------------------------------------------------------------------------- recording

    def record(self, path: str | Path, *, overwrite: bool = False) -> Recorder:
        """Write every call of this workbench into a trace from now on, which ``inline::trace`` plays without a model.

        Calls are written when they end. Close what is returned, or use it in a ``with``. Folders above the file that
        are not there yet are made.

        Raises:
            InvalidRequestError: the file is there already and ``overwrite`` is false, or a recording goes on already.
        """
        from workbench.providers.trace.recording import Recorder

        if (going_on := self.inference.recorder) is not None and going_on.is_open:
            raise InvalidRequestError("path", str(path), f"given after the recording to {going_on.path} was closed")
        recorder = Recorder(path, overwrite=overwrite)
        for known in self.models.registrations():
            recorder.note(known.provider, known.model.identifier, known.name)
        self.inference.recorder = recorder
        return recorder

    # ----------------------------------------------------------------------------------------------- widgets

    def playground(self, **options: Any) -> Playground:
        """The playground widget on this workbench."""
        from workbench import widgets

        return widgets.playground(self, **options)

    def read(self, text: str = "", other: str = "", **options: Any) -> ReadView:
        """Show how surprising each token of a text is to a model, beside another text if one is given.

        Args:
            options: ``model``, ``alternatives``: see `widgets.ReadView`. `reading` is the same without a widget.
        """
        from workbench import widgets

        return widgets.read(self, text, other, **options)

    def compare(self, prompt: str | None = None, **options: Any) -> CompareView:
        """Ask several models, or under several settings, at once; the widget shows the answers side by side.

        Args:
            prompt: None leaves prompt and sides to be chosen in the page.
            options: ``models``, ``sampling_params``, ``mode``, ``alternatives``: see `widgets.CompareView`.
        """
        from workbench import widgets

        return widgets.compare(self, prompt, **options)

    def chat(self, **options: Any) -> ChatView:
        """The chat widget on this workbench; the options are those of `workbench.widgets.chat`."""
        from workbench import widgets

        return widgets.chat(self, **options)

    # -------------------------------------------------------------------------------------------------- life

    def close(self) -> None:
        """Cancel what runs, end all threads and give the models' memory back. Closing twice is harmless."""
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
        return self._run(Reading, request, chunks, start=self._read)

    def _run(self, kind: type[AnyRun], request: Request, chunks: AsyncIterator[Any], **origin: Any) -> AnyRun:
        fold: Any = chat_response if request.is_chat else completion_response
        return kind(
            f"run-{next(self._numbers)}",
            request,
            chunks=chunks,
            fold=partial(fold, wants_logprobs=request.logprobs is not None),
            loop=self._loop,
            capsule=partial(capsule_of, self),
            render=partial(self._given, request),
            **origin,
        )

    def _given(self, request: Request) -> Prompt:
        if not request.is_chat:
            return self.render(request.text, model=request.model)
        return self.render(
            list(request.messages),
            tools=list(request.tools),
            tool_prompt_format=request.tool_prompt_format,
            model=request.model,
        )

    def _model(self, model: str | None, kind: str = "causal") -> str:
        if model is not None:
            return model
        for known in self.models.registrations():
            with suppress(ModelNotFoundError):  # unregistered at this moment
                if known.provider.card(known.model.identifier).kind == kind:
                    return known.name
        raise ModelNotFoundError(f"(any {kind} model)", [known.identifier for known in self.list_models()])


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


__all__ = ["ChatRun", "CompletionRun", "Conversed", "Reading", "Run", "Workbench"]
