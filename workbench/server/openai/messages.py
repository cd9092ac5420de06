"""Conversion of OpenAI's messages to the protocol's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from workbench.errors import InvalidRequestError
from workbench.protocol import (
    URL,
    CompletionMessage,
    ImageMedia,
    Message,
    StopReason,
    SystemMessage,
    ToolResponseMessage,
    UserMessage,
)
from workbench.server.bodies import RequestModel
from workbench.server.openai.tools import OpenAIToolCall


class TextPart(RequestModel):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class RefusalPart(RequestModel):
    """Refusal of the model in place of an answer."""

    type: Literal["refusal"]
    refusal: str


class ImageAddress(RequestModel):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None
    """Has no effect: each model has only one way to read images."""


class ImagePart(RequestModel):
    type: Literal["image_url"]
    image_url: ImageAddress
    prompt_cache_breakpoint: dict[str, Any] | None = None


UserParts: TypeAlias = list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]
AssistantParts: TypeAlias = list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]]


class OpenAISystem(RequestModel):
    role: Literal["system", "developer"]
    content: str | list[TextPart]
    name: str | None = None


class OpenAIUser(RequestModel):
    role: Literal["user"]
    content: str | UserParts
    name: str | None = None


class OpenAIAssistant(RequestModel):
    """Message of the model. Fields that must be None are accepted because clients send back what they received."""

    role: Literal["assistant"]
    content: str | AssistantParts | None = None
    tool_calls: list[OpenAIToolCall] | None = None
    refusal: str | None = None
    """Refusal in place of the content, or after it."""
    name: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class OpenAIToolResult(RequestModel):
    role: Literal["tool"]
    tool_call_id: str
    content: str | list[TextPart]
    name: str | None = None
    """Has no effect: the tool is known from the call's id."""


OpenAIMessage: TypeAlias = Annotated[
    OpenAISystem | OpenAIUser | OpenAIAssistant | OpenAIToolResult, Field(discriminator="role")
]


def protocol_messages(messages: list[OpenAIMessage]) -> list[Message]:
    """Return the conversation in the protocol's types.

    Raises:
        InvalidRequestError: a tool's result has no call in the turns before it, or a call is not JSON.
    """
    converted: list[Message] = []
    names: dict[str, str] = {}  # tool names by the id of the call
    for index, message in enumerate(messages):
        field = f"messages[{index}]"
        match message:
            case OpenAISystem():
                converted.append(SystemMessage(content=_content(message.content)))
            case OpenAIUser():
                converted.append(UserMessage(content=_content(message.content)))
            case OpenAIAssistant():
                converted.append(answer := _assistant(message, field))
                names |= {call.call_id: str(call.tool_name) for call in answer.tool_calls}
            case OpenAIToolResult():
                if message.tool_call_id not in names:
                    allowed = "the id of a tool call in an earlier assistant message"
                    raise InvalidRequestError(f"{field}.tool_call_id", message.tool_call_id, allowed)
                converted.append(
                    ToolResponseMessage(
                        call_id=message.tool_call_id,
                        tool_name=names[message.tool_call_id],
                        content=_content(message.content),
                    )
                )
    return converted


def _assistant(message: OpenAIAssistant, field: str) -> CompletionMessage:
    calls = [call.protocol_form(f"{field}.tool_calls[{index}]") for index, call in enumerate(message.tool_calls or ())]
    stop_reason = StopReason.end_of_message if calls else StopReason.end_of_turn
    content = _content(message.content or "")
    if message.refusal:
        content = f"{content}{message.refusal}" if isinstance(content, str) else [*content, message.refusal]
    return CompletionMessage(content=content, stop_reason=stop_reason, tool_calls=calls)


def _content(content: str | list[TextPart] | UserParts | AssistantParts) -> str | list[str | ImageMedia]:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: TextPart | ImagePart | RefusalPart) -> str | ImageMedia:
    match part:
        case TextPart():
            return part.text
        case RefusalPart():
            return part.refusal
    return ImageMedia(image=URL(uri=part.image_url.url))
