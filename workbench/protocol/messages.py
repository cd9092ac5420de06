"""The turns of a conversation, told apart by their ``role``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from workbench.protocol.base import ProtocolModel
from workbench.protocol.content import InterleavedTextMedia
from workbench.protocol.tools import BuiltinTool, ToolCall, known_tool


class Role(StrEnum):
    """Who speaks; ``ipython`` is the answer of a tool, by the name that Llama's prompt format gives it."""

    system = "system"
    user = "user"
    assistant = "assistant"
    ipython = "ipython"


class StopReason(StrEnum):
    """Why a generation ended.

    ``end_of_turn``: an end-of-turn or EOS token, or a stop string. ``end_of_message``: the model waits for the answer
    to its tool calls. ``out_of_tokens``: ``max_tokens`` or the context ran out.
    """

    end_of_turn = "end_of_turn"
    end_of_message = "end_of_message"
    out_of_tokens = "out_of_tokens"


class SystemMessage(ProtocolModel):
    """Instructions that stand above the conversation."""

    role: Literal["system"] = "system"
    content: InterleavedTextMedia


class UserMessage(ProtocolModel):
    """A turn of the user; ``context`` is material to read along with it, such as retrieved passages."""

    role: Literal["user"] = "user"
    content: InterleavedTextMedia
    context: InterleavedTextMedia | None = None


class ToolResponseMessage(ProtocolModel):
    """The answer of a tool to the call of that id."""

    role: Literal["ipython"] = "ipython"
    call_id: str
    tool_name: BuiltinTool | str
    content: InterleavedTextMedia

    _known_tool = field_validator("tool_name", mode="before")(known_tool)


class CompletionMessage(ProtocolModel):
    """A turn of the model: in a response what it said, in a request what it said before."""

    role: Literal["assistant"] = "assistant"
    content: InterleavedTextMedia
    stop_reason: StopReason
    tool_calls: list[ToolCall] = Field(default_factory=list)


Message: TypeAlias = Annotated[
    UserMessage | SystemMessage | ToolResponseMessage | CompletionMessage, Field(discriminator="role")
]
