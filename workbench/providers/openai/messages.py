"""Conversations in the form of OpenAI's API."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from workbench.prompts.images import ImageSources, open_image
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.rendering import descriptions
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.prompts.turns import native_turns
from workbench.protocol import ImageMedia, Message, UserMessage


def wire_messages(messages: Sequence[Message], field: str) -> list[dict[str, Any]]:
    """Convert messages; images become ``data:`` URLs, so that the server fetches no URL of a message.

    Raises:
        InvalidRequestError: content is neither text nor image; names the field.
        UnsupportedContentError: an image is neither decoded nor a ``data:`` URL, or its turn may have no images.
    """
    turns = native_turns(messages, ToolSyntax.json, field, reads_images=True)
    return [
        _wire(turn, _images(message, f"{field}[{index}]"))
        for index, (turn, message) in enumerate(zip(turns, messages, strict=True))
    ]


def wire_tools(tools: Toolset) -> list[dict[str, Any]]:
    """Return the name, description and schema of each tool."""
    return [{"type": "function", "function": description} for description in descriptions(tools)]


def _wire(turn: Any, images: Iterator[str]) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": turn["role"], "content": turn["content"]}
    if "tool_call_id" in turn:
        wire["tool_call_id"] = turn["tool_call_id"]
    if "tool_calls" in turn:
        wire["tool_calls"] = [
            call | {"function": {"name": call["function"]["name"], "arguments": _json(call["function"]["arguments"])}}
            for call in turn["tool_calls"]
        ]
    if isinstance(turn["content"], list):
        wire["content"] = [
            {"type": "image_url", "image_url": {"url": next(images)}} if part["type"] == "image" else part
            for part in turn["content"]
        ]
    return wire


def _images(message: Message, field: str) -> Iterator[str]:
    if not isinstance(message, UserMessage):
        return
    for name, content in (("content", message.content), ("context", message.context)):
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, ImageMedia):
                yield _data_url(part, f"{field}.{name}")


def _data_url(image: ImageMedia, field: str) -> str:
    with io.BytesIO() as file:
        open_image(image, field, ImageSources()).save(file, format="PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
