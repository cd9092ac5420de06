"""OpenAI's messages as the protocol's."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from workbench.errors import InvalidRequestError
from workbench.protocol import (
    URL,
    CompletionMessage,
    ImageMedia,
    InterleavedTextMedia,
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


class ImageAddress(RequestModel):
    url: str
    detail: Literal["auto"] | None = None


class ImagePart(RequestModel):
    type: Literal["image_url"]
    image_url: ImageAddress


Parts: TypeAlias = list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class OpenAISystem(RequestModel):
    role: Literal["system", "developer"]
    content: str | list[TextPart]


class OpenAIUser(RequestModel):
    role: Literal["user"]
    content: str | Parts


class OpenAIAssistant(RequestModel):
    """What the model said; the fields that are None alone are there because clients send back what they received."""

    role: Literal["assistant"]
    content: str | list[TextPart] | None = None
    tool_calls: list[OpenAIToolCall] | None = None
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None


class OpenAIToolResult(RequestModel):
    role: Literal["tool"]
    tool_call_id: str
    content: str | list[TextPart]


OpenAIMessage: TypeAlias = Annotated[
    OpenAISystem | OpenAIUser | OpenAIAssistant | OpenAIToolResult, Field(discriminator="role")
]


def protocol_messages(messages: list[OpenAIMessage]) -> list[Message]:
    """The conversation in the protocol's types.

    Raises:
        InvalidRequestError: a tool's result answers no call of the turns before it, or a call is no JSON.
    """
    converted: list[Message] = []
    names: dict[str, str] = {}  # of the tools called so far, by the id of the call
    for index, message in enumerate(messages):
        field = f"messages[{index}]"
        match message:
            case OpenAISystem():
                converted.append(SystemMessage(content=_content(message.content)))
            case OpenAIUser():
                converted.append(UserMessage(content=_content(message.content)))
            case OpenAIAssistant():
                converted.append(said := _said(message, field))
                names |= {call.call_id: str(call.tool_name) for call in said.tool_calls}
            case OpenAIToolResult():
                if message.tool_call_id not in names:
                    allowed = "the id of a call in an assistant's message before it"
                    raise InvalidRequestError(f"{field}.tool_call_id", message.tool_call_id, allowed)
                converted.append(
                    ToolResponseMessage(
                        call_id=message.tool_call_id,
                        tool_name=names[message.tool_call_id],
                        content=_content(message.content),
                    )
                )
    return converted


def _said(message: OpenAIAssistant, field: str) -> CompletionMessage:
    calls = [call.protocol_form(f"{field}.tool_calls[{index}]") for index, call in enumerate(message.tool_calls or ())]
    stop_reason = StopReason.end_of_message if calls else StopReason.end_of_turn
    return CompletionMessage(content=_content(message.content or ""), stop_reason=stop_reason, tool_calls=calls)


def _content(content: str | list[TextPart] | Parts) -> InterleavedTextMedia:
    if isinstance(content, str):
        return content
    return [
        part.text if isinstance(part, TextPart) else ImageMedia(image=URL(uri=part.image_url.url)) for part in content
    ]
