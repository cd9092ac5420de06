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
    last, field = messages[-1], f"messages[{len(messages) - 1}]"
    parts = [message_text(last.content, f"{field}.content")]
    if isinstance(last, UserMessage) and last.context is not None:
        parts.append(message_text(last.context, f"{field}.context"))
    if isinstance(last, CompletionMessage):
        parts += [json.dumps(call.arguments, ensure_ascii=False, default=str) for call in last.tool_calls]
    return valid_unicode("\n".join(parts), f"{field}.content")


def message_text(content: InterleavedTextMedia, field: str) -> str:
    """Return the text of a content; raise `UnsupportedContentError` for an image."""
    parts = content if isinstance(content, list) else [content]
    texts = [part for part in parts if isinstance(part, str)]
    if any(isinstance(part, ImageMedia) for part in parts):
        raise UnsupportedContentError(field, "an image", "text: this shield judges text only")
    return "".join(texts)
