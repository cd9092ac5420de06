"""One request as a provider gets it, checked as far as that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from workbench.errors import InvalidRequestError
from workbench.prompts.texts import plain_text
from workbench.protocol import (
    CompletionMessage,
    ImageMedia,
    LogProbConfig,
    ResponseFormat,
    SamplingParams,
    SystemMessage,
    ToolChoice,
    ToolDefinition,
    ToolPromptFormat,
    ToolResponseMessage,
    UserMessage,
    validate_sampling,
)
from workbench.protocol.sampling import is_count

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, Message
    from workbench.records import Beginning, Breakpoint, Control


@dataclass(frozen=True, slots=True)
class Request:
    """A text to continue or a conversation to answer, with all that it asks for. Made by the two functions below."""

    model: str
    """A model of the provider, under its plain name."""
    content: InterleavedTextMedia | None = None
    """What to continue; None for a conversation."""
    messages: Sequence[Message] = ()
    """What to answer; empty for a text."""
    sampling_params: SamplingParams = field(default_factory=SamplingParams)
    logprobs: LogProbConfig | None = None
    response_format: ResponseFormat | None = None
    tools: Sequence[ToolDefinition] = ()
    tool_choice: ToolChoice | None = None
    tool_prompt_format: ToolPromptFormat | None = None
    parallel_tool_calls: bool = True
    """Whether an answer that has to be a call may be several."""
    field: str = "content"
    """Path of the text or of the conversation, for errors: ``messages``, or in a batch ``content_batch[2]``."""
    beginning: Beginning | None = None
    """Tokens with which the answer begins; given only where the provider declares ``branch``."""
    breakpoints: tuple[Breakpoint, ...] = ()
    """Where the answer pauses; given only where the provider declares ``pause``."""
    control: Control | None = None
    """By which the answer is paused and resumed, where the provider can, and to which it reports its progress."""

    @property
    def is_chat(self) -> bool:
        return self.content is None

    @property
    def text(self) -> str:
        """The text to continue, or that of the last message; an image in it is refused."""
        if self.content is not None:
            return plain_text(self.content, self.field)
        return plain_text(self.messages[-1].content, f"{self.field}[{len(self.messages) - 1}].content")

    @property
    def has_images(self) -> bool:
        contents = [self.content] if not self.is_chat else [message.content for message in self.messages]
        contents += [message.context for message in self.messages if isinstance(message, UserMessage)]
        parts = (part for content in contents for part in (content if isinstance(content, list) else [content]))
        return any(isinstance(part, ImageMedia) for part in parts)


def completion_request(
    model: str,
    content: InterleavedTextMedia,
    sampling_params: SamplingParams | None = None,
    logprobs: LogProbConfig | None = None,
    response_format: ResponseFormat | None = None,
    *,
    field: str = "content",
) -> Request:
    """A text to continue.

    Raises:
        InvalidRequestError: for the first parameter that is wrong in itself, with its path.
    """
    _check_content(content, field)
    _check_parameters(sampling_params, logprobs)
    return Request(
        model=model,
        content=content,
        sampling_params=sampling_params or SamplingParams(),
        logprobs=logprobs,
        response_format=response_format,
        field=field,
    )


def chat_request(
    model: str,
    messages: list[Message],
    sampling_params: SamplingParams | None = None,
    tools: list[ToolDefinition] | None = None,
    tool_choice: ToolChoice | None = None,
    tool_prompt_format: ToolPromptFormat | None = None,
    logprobs: LogProbConfig | None = None,
    response_format: ResponseFormat | None = None,
    *,
    field: str = "messages",
) -> Request:
    """A conversation to answer; raises as `completion_request` does."""
    _check_messages(messages, field)
    _check_parameters(sampling_params, logprobs)
    check_tools(tools, tool_choice, tool_prompt_format)
    return Request(
        model=model,
        messages=messages,
        sampling_params=sampling_params or SamplingParams(),
        logprobs=logprobs,
        response_format=response_format,
        tools=tools or (),
        tool_choice=tool_choice,
        tool_prompt_format=tool_prompt_format,
        field=field,
    )


def snapshot(request: Request) -> Request:
    """A copy that no later assignment of its caller reaches; an image's pixels are not copied."""
    return replace(
        request,
        content=_as_it_is(request.content),
        messages=_as_it_is(list(request.messages)),
        sampling_params=_as_it_is(request.sampling_params),
        logprobs=_as_it_is(request.logprobs),
        response_format=_as_it_is(request.response_format),
        tools=_as_it_is(list(request.tools)),
    )


def _as_it_is(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_copy()
    return [_as_it_is(item) for item in value] if isinstance(value, list) else value


def check_tools(
    tools: list[ToolDefinition] | None, tool_choice: ToolChoice | None, tool_prompt_format: ToolPromptFormat | None
) -> None:
    """Raises `InvalidRequestError` for the first that is none of its type; the tools' own fields are not looked at."""
    if tools is not None and not isinstance(tools, list | tuple):
        raise InvalidRequestError("tools", tools, "a list of ToolDefinition")
    if tool_choice is not None and tool_choice not in tuple(ToolChoice):
        raise InvalidRequestError("tool_choice", tool_choice, f"one of {', '.join(ToolChoice)}")
    if tool_prompt_format is not None and tool_prompt_format not in tuple(ToolPromptFormat):
        raise InvalidRequestError("tool_prompt_format", tool_prompt_format, f"one of {', '.join(ToolPromptFormat)}")
    if tool_choice == ToolChoice.required and not tools:
        raise InvalidRequestError("tools", tools, "a list of at least one tool, because tool_choice is required")


def check_list(field: str, value: object) -> None:
    """Raises `InvalidRequestError` for anything but a list with something in it."""
    if not isinstance(value, list) or not value:
        raise InvalidRequestError(field, value, "a list with at least one text")


def texts_of(contents: list[InterleavedTextMedia]) -> list[str]:
    """The texts to embed; raises `InvalidRequestError` for no list of them, and for what is no text, with its place."""
    check_list("contents", contents)
    return [plain_text(content, f"contents[{index}]") for index, content in enumerate(contents)]


def _check_parameters(params: SamplingParams | None, logprobs: LogProbConfig | None) -> None:
    """Their own checks once more, because fields can be assigned after construction."""
    if params is not None:
        validate_sampling(params)
    if logprobs is None:
        return
    if not isinstance(logprobs, LogProbConfig):
        raise InvalidRequestError("logprobs", logprobs, "a LogProbConfig")
    if logprobs.top_k is not None and not is_count(logprobs.top_k):
        raise InvalidRequestError("logprobs.top_k", logprobs.top_k, "a whole number, 0 or above")


def _check_messages(messages: object, field: str) -> None:
    if not isinstance(messages, list | tuple) or not messages:
        raise InvalidRequestError(field, messages, "a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, UserMessage | SystemMessage | CompletionMessage | ToolResponseMessage):
            raise InvalidRequestError(f"{field}[{index}]", message, "a user, system, assistant or ipython message")
        _check_content(message.content, f"{field}[{index}].content")


def _check_content(content: object, field: str) -> None:
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, str | ImageMedia):
            raise InvalidRequestError(field, part, "a text, an image, or a list of them")
