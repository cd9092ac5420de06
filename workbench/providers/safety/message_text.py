"""Text of the message that a shield judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import UnsupportedContentError
from workbench.prompts.texts import valid_unicode
from workbench.protocol import CompletionMessage, ImageMedia, UserMessage

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, Message


def judged_text(messages: Sequence[Message]) -> str:
    """Return the text of the last message: its content, its context, and the arguments of its tool calls, by line.

    Raises:
        UnsupportedContentError: the message contains an image, which must not pass unjudged.
    """
    last = messages[-1]
    text = content_text(messages)
    if isinstance(last, CompletionMessage) and last.tool_calls:
        arguments = "\n".join(json.dumps(call.arguments, ensure_ascii=False) for call in last.tool_calls)
        text += "\n" + valid_unicode(arguments, f"messages[{len(messages) - 1}].tool_calls")
    return text


def content_text(messages: Sequence[Message]) -> str:
    """Return the content and the context of the last message, by line; raise `UnsupportedContentError` for an image."""
    last, field = messages[-1], f"messages[{len(messages) - 1}]"
    text = message_text(last.content, f"{field}.content")
    if isinstance(last, UserMessage) and last.context is not None:
        text += "\n" + message_text(last.context, f"{field}.context")
    return text


def message_text(content: InterleavedTextMedia, field: str) -> str:
    """Return the text of a content; raise `UnsupportedContentError` for an image."""
    parts = content if isinstance(content, list) else [content]
    if any(isinstance(part, ImageMedia) for part in parts):
        raise UnsupportedContentError(field, "an image", "text: this shield judges text only")
    return valid_unicode("".join(part for part in parts if isinstance(part, str)), field)
