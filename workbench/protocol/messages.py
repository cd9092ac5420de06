"""Messages of a conversation, which differ by ``role``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from workbench.protocol.base import ProtocolModel
from workbench.protocol.content import InterleavedTextMedia
from workbench.protocol.tools import BuiltinTool, ToolCall, known_tool


class Role(StrEnum):
    """Role of a message's author; ``ipython`` is a tool response, as in Llama's prompt format."""

    system = "system"
    user = "user"
    assistant = "assistant"
    ipython = "ipython"


class StopReason(StrEnum):
    """Reason why a generation ended.

    ``end_of_turn``: an end-of-turn or EOS token, or a stop string. ``end_of_message``: the model expects the results
    of its tool calls. ``out_of_tokens``: ``max_tokens`` or the context length was reached.
    """

    end_of_turn = "end_of_turn"
    end_of_message = "end_of_message"
    out_of_tokens = "out_of_tokens"


class SystemMessage(ProtocolModel):
    """Instructions for the whole conversation."""

    role: Literal["system"] = "system"
    content: InterleavedTextMedia


class UserMessage(ProtocolModel):
    """Turn of the user; ``context`` is additional material, such as retrieved passages."""

    role: Literal["user"] = "user"
    content: InterleavedTextMedia
    context: InterleavedTextMedia | None = None


class ToolResponseMessage(ProtocolModel):
    """Result of the tool call with that id."""

    role: Literal["ipython"] = "ipython"
    call_id: str
    tool_name: BuiltinTool | str
    content: InterleavedTextMedia

    _known_tool = field_validator("tool_name", mode="before")(known_tool)


class CompletionMessage(ProtocolModel):
    """Turn of the model, in a response or in the history of a request."""

    role: Literal["assistant"] = "assistant"
    content: InterleavedTextMedia
    stop_reason: StopReason
    tool_calls: list[ToolCall] = Field(default_factory=list)


Message: TypeAlias = Annotated[
    UserMessage | SystemMessage | ToolResponseMessage | CompletionMessage, Field(discriminator="role")
]
