"""The internal form of a request, and the checks that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from workbench.errors import InvalidRequestError
from workbench.prompts.texts import plain_text
from workbench.protocol import (
    ChatCompletionRequest,
    CompletionMessage,
    CompletionRequest,
    Edit,
    ImageMedia,
    LogProbConfig,
    ResponseFormat,
    RetrievalConfig,
    RetrievedChunks,
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
    from workbench.records import AnswerPrefix, Breakpoint, Control

PromptInput: TypeAlias = "str | list[Message]"
"""A text or a conversation."""
Tools: TypeAlias = "list[ToolDefinition] | None"


@dataclass(frozen=True, slots=True)
class Request:
    """Text to continue or conversation to answer, with its parameters.

    The only internal form of a request: `from_body` converts the protocol's bodies to it, and `body` converts it back.
    """

    model: str
    """Plain name of a model of the provider."""
    content: InterleavedTextMedia | None = None
    """Content to continue; None for a conversation."""
    messages: Sequence[Message] = ()
    """Conversation to answer; empty for a text."""
    sampling_params: SamplingParams = field(default_factory=SamplingParams)
    logprobs: LogProbConfig | None = None
    response_format: ResponseFormat | None = None
    tools: Sequence[ToolDefinition] = ()
    tool_choice: ToolChoice | None = None
    tool_prompt_format: ToolPromptFormat | None = None
    parallel_tool_calls: bool = True
    """Whether an answer that must be a tool call may contain several."""
    retrieval: RetrievalConfig | None = None
    """Bank to query before answering; the router replaces it by ``retrieved``."""
    retrieved: RetrievedChunks | None = None
    """Chunks in the context of the last message."""
    shields: tuple[str, ...] = ()
    """Shields that check the conversation and the answer. The router runs them; providers refuse them."""
    edits: tuple[Edit, ...] = ()
    """Changes of the numbers inside the model, in this order."""
    capture: tuple[str, ...] = ()
    """Names of points whose numbers the run has when it has ended; providers ignore them."""
    field: str = "content"
    """Path of the text or the conversation in errors: ``messages``, or in a batch ``content_batch[2]``."""
    answer_prefix: AnswerPrefix | None = None
    """Tokens with which the answer begins; set only for providers that declare ``branch``."""
    breakpoints: tuple[Breakpoint, ...] = ()
    """Conditions at which the answer pauses; set only for providers that declare ``pause``."""
    control: Control | None = None
    """Connection that pauses and resumes the answer, if the provider can, and receives its progress."""

    @classmethod
    def from_body(cls, body: CompletionRequest | ChatCompletionRequest, *, field: str | None = None) -> Request:
        """Return the request of a body, after the checks that need no model; its ``stream`` is ignored.

        Args:
            field: path of the text or the conversation in errors; None uses its name in the body.

        Raises:
            InvalidRequestError: a parameter is invalid in itself; the error has the path of the first one.
        """
        if isinstance(body, ChatCompletionRequest):
            field = field or "messages"
            check_messages(body.messages, field)
        else:
            field = field or "content"
            check_content(body.content, field)
        _check_parameters(body.sampling_params, body.logprobs)
        shared: dict[str, Any] = {
            "model": body.model,
            "sampling_params": body.sampling_params or SamplingParams(),
            "logprobs": body.logprobs,
            "response_format": body.response_format,
            "edits": _checked_edits(body.edits),
            "field": field,
        }
        if not isinstance(body, ChatCompletionRequest):
            return cls(content=body.content, **shared)
        check_tools(body.tools, body.tool_choice, body.tool_prompt_format)
        return cls(
            messages=body.messages,
            tools=body.tools or (),
            tool_choice=body.tool_choice,
            tool_prompt_format=body.tool_prompt_format,
            retrieval=checked_retrieval(body.retrieval, body.messages, field),
            shields=_checked_shields(body.shields),
            **shared,
        )

    def body(self) -> CompletionRequest | ChatCompletionRequest:
        """Return the protocol's body of the request, unchecked and without the fields beyond the protocol."""
        shared: dict[str, Any] = {
            "model": self.model,
            "sampling_params": self.sampling_params,
            "logprobs": self.logprobs,
            "response_format": self.response_format,
            "edits": list(self.edits) or None,
        }
        if self.content is not None:
            return CompletionRequest.model_construct(content=self.content, **shared)
        return ChatCompletionRequest.model_construct(
            messages=list(self.messages),
            tools=list(self.tools),
            tool_choice=self.tool_choice,
            tool_prompt_format=self.tool_prompt_format,
            retrieval=self.retrieval,
            shields=list(self.shields) or None,
            **shared,
        )

    @property
    def is_chat(self) -> bool:
        return self.content is None

    @property
    def text(self) -> str:
        """Text to continue, or that of the last message; raises `UnsupportedContentError` if it contains an image."""
        if self.content is not None:
            return plain_text(self.content, self.field)
        return plain_text(self.messages[-1].content, f"{self.field}[{len(self.messages) - 1}].content")

    @property
    def has_images(self) -> bool:
        contents = [self.content] if not self.is_chat else [message.content for message in self.messages]
        contents += [message.context for message in self.messages if isinstance(message, UserMessage)]
        parts = (part for content in contents for part in (content if isinstance(content, list) else [content]))
        return any(isinstance(part, ImageMedia) for part in parts)


def snapshot(request: Request) -> Request:
    """Return a copy that later assignments by the caller do not change; an image's pixels are not copied."""
    return replace(
        request,
        content=_copy(request.content),
        messages=_copy(list(request.messages)),
        sampling_params=_copy(request.sampling_params),
        logprobs=_copy(request.logprobs),
        response_format=_copy(request.response_format),
        tools=_copy(list(request.tools)),
    )


def _copy(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_copy()
    return [_copy(item) for item in value] if isinstance(value, list) else value


def check_tools(tools: Tools, tool_choice: ToolChoice | None, tool_prompt_format: ToolPromptFormat | None) -> None:
    """Raise `InvalidRequestError` for the first argument of a wrong type; fields of the tools are not checked."""
    if tools is not None and not isinstance(tools, list | tuple):
        raise InvalidRequestError("tools", tools, "a list of ToolDefinition")
    if tool_choice is not None and tool_choice not in tuple(ToolChoice):
        raise InvalidRequestError("tool_choice", tool_choice, f"one of {', '.join(ToolChoice)}")
    if tool_prompt_format is not None and tool_prompt_format not in tuple(ToolPromptFormat):
        raise InvalidRequestError("tool_prompt_format", tool_prompt_format, f"one of {', '.join(ToolPromptFormat)}")
    if tool_choice == ToolChoice.required and not tools:
        raise InvalidRequestError("tools", tools, "a list of at least one tool, because tool_choice is required")


def checked_retrieval(
    retrieval: RetrievalConfig | None, messages: Sequence[Message], field: str
) -> RetrievalConfig | None:
    """Return the retrieval of a chat; raise `InvalidRequestError` unless its last message can get a context."""
    if retrieval is None:
        return None
    if not isinstance(retrieval, RetrievalConfig):
        raise InvalidRequestError("retrieval", retrieval, "a RetrievalConfig")
    last, path = messages[-1], f"{field}[{len(messages) - 1}]"
    if not isinstance(last, UserMessage):
        raise InvalidRequestError(path, last.role, "a user's message, because retrieval answers it")
    if last.context is not None:
        raise InvalidRequestError(f"{path}.context", last.context, "absent, because retrieval fills it")
    return retrieval


def check_list(field: str, value: object) -> None:
    """Raise `InvalidRequestError` unless the value is a list of at least one item."""
    if not isinstance(value, list) or not value:
        raise InvalidRequestError(field, value, "a list with at least one text")


def check_params(params: object) -> None:
    """Raise `InvalidRequestError` unless the parameters of a shield or a query are absent or a mapping by name."""
    if params is not None and not (isinstance(params, dict) and all(isinstance(name, str) for name in params)):
        raise InvalidRequestError("params", params, "a mapping of parameters by name, or absent")


def texts_of(contents: list[InterleavedTextMedia]) -> list[str]:
    """Return the texts to embed; raise `InvalidRequestError` with the path of the first item that is not a text."""
    check_list("contents", contents)
    return [plain_text(content, f"contents[{index}]") for index, content in enumerate(contents)]


def _check_parameters(params: SamplingParams | None, logprobs: LogProbConfig | None) -> None:
    """Repeat the checks of both types, because fields can be assigned after construction."""
    if params is not None:
        validate_sampling(params)
    if logprobs is None:
        return
    if not isinstance(logprobs, LogProbConfig):
        raise InvalidRequestError("logprobs", logprobs, "a LogProbConfig")
    if logprobs.top_k is not None and not is_count(logprobs.top_k):
        raise InvalidRequestError("logprobs.top_k", logprobs.top_k, "a whole number, 0 or above")


def _checked_shields(shields: object) -> tuple[str, ...]:
    """Return the names without repetitions."""
    if shields is None:
        return ()
    if not isinstance(shields, list | tuple) or not all(isinstance(name, str) and name for name in shields):
        raise InvalidRequestError("shields", shields, "a list of names of served shields, or None")
    return tuple(dict.fromkeys(shields))


def _checked_edits(edits: object) -> tuple[Edit, ...]:
    """Return the edits, which were checked when they were made and are checked again."""
    if edits is None:
        return ()
    if not isinstance(edits, list | tuple) or not all(isinstance(edit, Edit) for edit in edits):
        raise InvalidRequestError("edits", edits, "a list of Edit, or None")
    return tuple(Edit.model_validate(dict(edit)) for edit in edits)


def check_messages(messages: object, field: str) -> None:
    """Raise `InvalidRequestError` unless the value is a list of at least one message."""
    if not isinstance(messages, list | tuple) or not messages:
        raise InvalidRequestError(field, messages, "a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, UserMessage | SystemMessage | CompletionMessage | ToolResponseMessage):
            raise InvalidRequestError(f"{field}[{index}]", message, "a user, system, assistant or ipython message")
        check_content(message.content, f"{field}[{index}].content")


def check_content(content: object, field: str) -> None:
    """Raise `InvalidRequestError` unless the value is a text, an image, or a list of them."""
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, str | ImageMedia):
            raise InvalidRequestError(field, part, "a text, an image, or a list of them")
