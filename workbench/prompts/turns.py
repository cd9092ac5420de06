"""Conversion of the protocol's messages to the turns that chat templates take, with tools and their calls."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError
from workbench.prompts.templates import Turn
from workbench.prompts.texts import plain_json, plain_text, valid_unicode
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.rendering import AFTER_RESULTS, Call, calls_text, instructions, result_text
from workbench.prompts.tools.syntaxes import SYNTAXES, ToolSyntax
from workbench.protocol import CompletionMessage, ImageMedia, SystemMessage, ToolCall, ToolResponseMessage, UserMessage

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, Message


def native_turns(
    messages: Sequence[Message], syntax: ToolSyntax, field: str, *, reads_images: bool = False
) -> list[Turn]:
    """Return the turns for a template with support for tools: calls and results in its own fields."""
    nine_characters = SYNTAXES[syntax].short_call_ids
    turns = []
    for index, message in enumerate(messages):
        turn = _turn(message, f"{field}[{index}]", reads_images=reads_images)
        if isinstance(message, ToolResponseMessage):
            turn["tool_call_id"] = _call_id(message.call_id, nine_characters)
        if isinstance(message, CompletionMessage) and message.tool_calls:
            calls = _calls(message, f"{field}[{index}]")
            turn["tool_calls"] = [
                {
                    "id": _call_id(call.call_id, nine_characters),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for call, (name, arguments) in zip(message.tool_calls, calls, strict=True)
            ]
        turns.append(turn)
    return turns


def text_turns(
    messages: Sequence[Message], tools: Toolset, syntax: ToolSyntax, field: str, *, reads_images: bool = False
) -> list[Turn]:
    """Return the turns for a template without support for tools.

    A system message describes the tools, calls are part of the model's text, and their results are a turn of the user
    that requests the answer.
    """
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        turn = _turn(message, f"{field}[{index}]", reads_images=reads_images)
        if isinstance(message, CompletionMessage) and message.tool_calls:
            call_text = calls_text(_calls(message, f"{field}[{index}]"), syntax)
            turn["content"] = f"{turn['content']}\n{call_text}" if turn["content"] else call_text
        if isinstance(message, ToolResponseMessage):
            turn = {"role": "user", "content": result_text(turn["name"], turn["content"])}
            if index and isinstance(messages[index - 1], ToolResponseMessage):
                turn["content"] = f"{turns.pop()['content']}\n\n{turn['content']}"
            following = messages[index + 1 : index + 2]
            if not following or isinstance(following[0], CompletionMessage):
                turn["content"] = f"{turn['content']}\n\n{AFTER_RESULTS}"
        turns.append(turn)
    if not tools:
        return turns
    instruction_text = instructions(tools, syntax)
    if turns[0]["role"] == "system":
        return [{"role": "system", "content": f"{turns[0]['content']}\n\n{instruction_text}"}, *turns[1:]]
    return [{"role": "system", "content": instruction_text}, *turns]


def _turn(message: Message, field: str, *, reads_images: bool) -> Turn:
    match message:
        case UserMessage():
            return {"role": "user", "content": _user_content(message, field, reads_images=reads_images)}
        case SystemMessage(content=content):
            return {"role": "system", "content": plain_text(content, f"{field}.content")}
        case CompletionMessage(content=content):
            return {"role": "assistant", "content": plain_text(content, f"{field}.content")}
        case ToolResponseMessage(content=content, tool_name=str(name)):
            name = valid_unicode(str(name), f"{field}.tool_name")
            return {"role": "tool", "content": plain_text(content, f"{field}.content"), "name": name}
    raise InvalidRequestError(field, message, "a user, system, assistant or ipython message")


def _user_content(message: UserMessage, field: str, *, reads_images: bool) -> str | list[dict[str, str]]:
    """Return a text or, if there are images to read, a list of parts in the form of chat templates."""
    contents = [(content, f"{field}.content") for content in _contents(message.content)]
    if message.context is not None:
        contents += [("\n", field), *((content, f"{field}.context") for content in _contents(message.context))]
    parts: list[dict[str, str]] = []
    for content, path in contents:
        if reads_images and isinstance(content, ImageMedia):
            parts.append({"type": "image"})
        elif parts and "text" in parts[-1]:
            parts[-1]["text"] += plain_text(content, path)
        else:
            parts.append({"type": "text", "text": plain_text(content, path)})
    if any(part["type"] == "image" for part in parts):
        return parts
    return "".join(part["text"] for part in parts)


def _contents(content: InterleavedTextMedia) -> list[str | ImageMedia]:
    return content if isinstance(content, list) else [content]


def _calls(message: CompletionMessage, field: str) -> list[Call]:
    calls = []
    for index, call in enumerate(message.tool_calls):
        path = f"{field}.tool_calls[{index}]"
        if not isinstance(call, ToolCall):
            raise InvalidRequestError(path, call, "a ToolCall")
        name = valid_unicode(str(call.tool_name), f"{path}.tool_name")
        calls.append((name, plain_json(call.arguments, f"{path}.arguments")))
    return calls


def _call_id(call_id: str, nine_characters: bool) -> str:
    """Return the id itself, or one of nine letters and digits derived from it, for templates that demand those."""
    if not nine_characters or (len(call_id) == 9 and call_id.isascii() and call_id.isalnum()):
        return valid_unicode(call_id, "call_id")
    return hashlib.sha256(call_id.encode(errors="surrogatepass")).hexdigest()[:9]
