"""Blocking API for notebooks and scripts: `Workbench` and the runs that it starts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

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
    Edit,
    InterleavedTextMedia,
    LogProbConfig,
    Message,
    ResponseFormat,
    RetrievalConfig,
    RunConfig,
    SamplingParams,
    ToolChoice,
    ToolPromptFormat,
    UserMessage,
)
from workbench.providers.capabilities import refuse_method
from workbench.providers.requests import Request, snapshot
from workbench.records import Breakpoint, Control
from workbench.session.arguments import (
    checked_breakpoints,
    checked_capture,
    checked_list,
    checked_name,
    checked_sampling,
    checked_text,
)
from workbench.session.conversation import (
    AnswerChoice,
    AnswerSettings,
    Approve,
    ChatRun,
    Conversation,
    ConversationResult,
    Loop,
    function_tools,
)
from workbench.session.model_insides import ModelInsides
from workbench.session.reading import Reading, reading_emissions, reading_request
from workbench.session.run import Run
from workbench.session.run_protocols import RunHost
from workbench.session.served_models import ServedModels
from workbench.session.views import Views

if TYPE_CHECKING:
    from workbench.records import Prompt

CompletionRun: TypeAlias = Run[CompletionResponseStreamChunk, CompletionResponse]


class Workbench(ServedModels, ModelInsides, Views):
    """Models to use from a notebook or a script.

    Args:
        config: run config as the path of a YAML file, a dict or a `RunConfig`. None uses the file named by
            ``WORKBENCH_CONFIG``, or the embedded models if it is not set.
        precision: precision of the embedded models: ``float32`` (the reference, with the same numbers on every
            processor), ``bf16``, ``fp8``, ``int8`` or ``int4`` (the default). A run config sets it per provider.
        device: device of the models that are computed here, whatever the run config and earlier registrations say:
            ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``xpu``. None leaves it to them, or without a run config
            to ``WORKBENCH_DEVICE``, or else to ``auto``.

    Raises:
        ConfigError: the run config is invalid, or the device is not there; nothing was started.
    """

    def __init__(
        self,
        config: RunConfig | dict[str, Any] | str | Path | None = None,
        *,
        precision: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(config, precision=precision, device=device)
        self._run_ids = map("run-{}".format, itertools.count(1))

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
        edits: list[Edit] | None = None,
        capture: Sequence[str] = (),
    ) -> CompletionRun:
        """Continue a text and return the run at once. The parameters are those of ``Inference.completion``.

        Args:
            breakpoints: conditions at which the run pauses.
            edits: changes of the numbers inside the model; see `Run.edit`.
            capture: names of points, as `points` lists them, whose numbers ``run.captured`` has at the end.

        Raises:
            ModelNotFoundError, InvalidRequestError: before any compute. Errors that only the model can detect are
                raised by the run.
        """
        params = checked_sampling(sampling_params)
        body = CompletionRequest.model_construct(
            model=self._model(model),
            content=content,
            sampling_params=params,
            logprobs=logprobs,
            response_format=response_format,
            edits=edits,
        )
        return self._start(body, breakpoints, capture)

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
        shields: list[str] | None = None,
        breakpoints: Sequence[Breakpoint] = (),
        edits: list[Edit] | None = None,
        capture: Sequence[str] = (),
    ) -> ChatRun:
        """Answer a conversation and return the run at once. The parameters are those of the protocol.

        Args:
            tools: tool definitions, or functions, which are described by their signatures and docstrings. They are
                not called; ``run.tool_calls`` has the calls that the model makes.
            shields: names of shields that check the prompt before any compute, and each sentence of the answer before
                it is part of the run. If one refuses a sentence, the run fails there; ``run.violation`` says why.
            breakpoints: conditions at which the run pauses.
            edits: changes of the numbers inside the model; see `Run.edit`.
            capture: names of points, as `points` lists them, whose numbers ``run.captured`` has at the end.
        """
        body = ChatCompletionRequest.model_construct(
            sampling_params=checked_sampling(sampling_params),
            messages=checked_list("messages", messages),
            tools=tool_definitions(tools),
            tool_choice=tool_choice,
            tool_prompt_format=tool_prompt_format,
            model=self._model(model),
            logprobs=logprobs,
            response_format=response_format,
            shields=shields,
            edits=edits,
        )
        return self._start(body, breakpoints, capture)

    def ask(
        self,
        question: str,
        bank: str,
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        shields: list[str] | None = None,
        **params: Any,
    ) -> ChatRun:
        """Answer a question with the chunks that a memory bank has on it, and return the run.

        ``run.chunks`` are the chunks in the prompt; ``run.attribution()`` measures what each did to each token.

        Args:
            bank: name of a memory bank.
            shields: shields as for `chat_completion`; they check the chunks with the question.
            params: parameters of the query: see `query`.

        Raises:
            MemoryBankNotFoundError, InvalidRequestError: before the run starts.
        """
        body = ChatCompletionRequest.model_construct(
            model=self._model(model),
            messages=[UserMessage(content=checked_text("question", question))],
            sampling_params=checked_sampling(sampling_params),
            logprobs=logprobs,
            retrieval=RetrievalConfig(bank_id=bank, params=params),
            shields=shields,
        )
        return self.start(self._loop.wait(self.inference.with_chunks(Request.from_body(body))))

    def start(
        self, request: Request, parent: Run[Any, Any] | None = None, branched_at: int | None = None
    ) -> Run[Any, Any]:
        """Start a run from a complete request; the other methods that generate end here.

        Args:
            parent, branched_at: the run that the request branches from, and the number of tokens kept from it.
        """
        control = Control(can_pause=self.capabilities(checked_name(request.model)).pause)
        request = replace(snapshot(request), control=control)
        emissions = self.inference.stream(request)
        return Run(
            next(self._run_ids),
            request,
            emissions=emissions,
            host=self._host(self.start),
            parent=parent,
            branched_at=branched_at,
        )

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
        refuse_method(self.models.find(checked_name(request.model)).provider, "render", request.model)
        return self._read(request)

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
        name, params = self._model(model), checked_sampling(sampling_params)
        contents = checked_list("content_batch", content_batch)
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
        name, params = self._model(model), checked_sampling(sampling_params)
        batch, defined = checked_list("messages_batch", messages_batch), tool_definitions(tools)
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
        tool_choice: ToolChoice | None = ToolChoice.auto,
        **settings: Unpack[AnswerSettings],
    ) -> ConversationResult:
        """Answer a conversation with the help of functions. Block until the answer; an interrupt stops the work.

        Args:
            tools: functions, which are described to the model by their signatures and docstrings.
            approve: function that gets each ``ToolCall`` before it is run and returns whether to run it; the model
                is informed of calls that are declined. True runs all calls, False none; None returns with the first
                calls without running them.
            max_rounds: maximum number of rounds in which calls are run and their results go back to the model.
            tool_choice: tool choice of the first answer; after a result it is ``auto``.
            settings: ``model``, ``sampling_params``, ``tool_prompt_format``, ``logprobs`` and ``shields`` of every
                answer, as for `chat_completion`. Shields check the results of functions like messages of the user.

        Raises like `chat_completion`. Exceptions of a function are reported to the model instead.
        """
        if unknown := sorted(settings.keys() - AnswerSettings.__optional_keys__):
            raise TypeError(f"converse() got an unexpected keyword argument {unknown[0]!r}")
        by_name = function_tools(tools)
        fixed: dict[str, Any] = {
            **settings,
            "model": self._model(settings.get("model")),
            "sampling_params": checked_sampling(settings.get("sampling_params")),
            "tools": [tool.definition for tool in by_name.values()],
        }

        def start_answer(messages: list[Message], tool_choice: ToolChoice | None, **_: Any) -> ChatRun:
            body = ChatCompletionRequest.model_construct(messages=messages, tool_choice=tool_choice, **fixed)
            return self.start(Request.from_body(body))

        return Loop(start_answer, by_name, approve, max_rounds).run(checked_list("messages", messages), tool_choice)

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

        def start_answer(
            messages: list[Message], tool_choice: ToolChoice | None, *, offers_tools: bool = True, **settings: Any
        ) -> ChatRun:
            return self.chat_completion(
                messages,
                tools=definitions if offers_tools else None,
                tool_choice=tool_choice,
                tool_prompt_format=tool_prompt_format,
                **settings,
            )

        return Conversation(start_answer, functions, tool_choice=tool_choice, tools=described)

    def _start(
        self, body: CompletionRequest | ChatCompletionRequest, breakpoints: Sequence[Breakpoint], capture: Sequence[str]
    ) -> Run[Any, Any]:
        request = Request.from_body(body)
        return self.start(
            replace(request, breakpoints=checked_breakpoints(breakpoints), capture=checked_capture(capture))
        )

    def _host(self, start: Callable[..., Any]) -> RunHost:
        return RunHost(self._loop.start, start, self._render, self.card, self.inference.attribution)

    def _render(self, request: Request) -> Prompt:
        if not request.is_chat:
            return self.render(request.text, model=request.model)
        return self.render(
            list(request.messages),
            tools=list(request.tools),
            tool_prompt_format=request.tool_prompt_format,
            model=request.model,
        )

    def _read(self, request: Request, *_origin: object) -> Reading:
        request = replace(snapshot(request), control=Control(can_pause=False))
        render = partial(self.inference.render, request.model, request.text)
        emissions = reading_emissions(request, self.inference.stream(request), render)
        return Reading(next(self._run_ids), request, emissions=emissions, host=self._host(self._read))


__all__ = ["ChatRun", "CompletionRun", "ConversationResult", "Reading", "Run", "Workbench"]
