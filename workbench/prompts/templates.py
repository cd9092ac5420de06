"""The chat template of a model: its capabilities, and the prompts that it renders.

A template always comes with the model; no request may set one, or a variable of one. Its capabilities are found by
rendering a few turns: whether it supports a system role, whether it shows tools, and how it writes a call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from workbench.errors import InvalidRequestError
from workbench.prompts.control_tokens import ControlTokens, EncodedPrompt
from workbench.prompts.template_process import PROCESS, Limits, Rendering, TemplateError
from workbench.prompts.tools.syntaxes import SYNTAXES, ToolSyntax

Turn: TypeAlias = dict[str, Any]
"""A message in the form of chat templates: ``role``, ``content``, and further fields of its role."""

_MAX_TEMPLATE_CHARACTERS = 2**18
_EMPTY = Rendering("", (), (), frozenset())
_ESCAPE_CHARACTERS = frozenset("&;%#=\\\"'/")
"""Characters that escaping writes although the text did not contain them."""

_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "Probe.",
        "parameters": {
            "type": "object",
            "properties": {"probe_key": {"type": "string", "description": "Probe."}},
            "required": ["probe_key"],
        },
    },
}
_PROBE_CALL = {
    "id": "probe0000",  # nine letters and digits, as some templates demand
    "type": "function",
    "function": {"name": "probe_tool", "arguments": {"probe_key": "probe value"}},
}


class ChatTemplate:
    """Chat template of one model; safe from any thread.

    Args:
        sources: templates by name; ``tool_use`` is for requests with tools, ``default`` for all others.
        special_tokens: texts of the tokenizer's special tokens by name, ``bos_token`` and so on.
        control_tokens: the control tokens of the tokenizer.
        name: the model's name, for errors.
    """

    def __init__(
        self, sources: Mapping[str, str], special_tokens: Mapping[str, str], control_tokens: ControlTokens, name: str
    ) -> None:
        self.sources = sources
        """The templates by name."""
        self._special_tokens = dict(special_tokens)
        self._control_tokens = control_tokens
        self._name = name

    @cached_property
    def sha256(self) -> str:
        return template_sha256(self.sources)

    @cached_property
    def takes_text(self) -> bool:
        """Whether the template shows a content that is a text; some for vision models show only lists of parts."""
        text, parts = ([{"role": "user", "content": content}] for content in ("probe", _parts("probe")))
        return self._rendered(text).shows(0) or not self._rendered(parts).shows(0)

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template shows a system message, instead of refusing or omitting it."""
        return self._probe([{"role": "system", "content": "probe"}, {"role": "user", "content": "probe"}]).shows(0)

    @cached_property
    def native_syntax(self) -> ToolSyntax | None:
        """The syntax in which the template writes calls; None if it takes no tools, or writes an unsupported syntax."""
        question: list[Turn] = [{"role": "user", "content": "probe"}]
        if "probe_tool" not in self._probe(question, [_PROBE_TOOL]).text:
            return None
        call: Turn = {"role": "assistant", "content": "", "tool_calls": [_PROBE_CALL]}
        result = {"role": "tool", "name": "probe_tool", "tool_call_id": _PROBE_CALL["id"], "content": "probe result"}
        shown = self._probe([*question, call, result], [_PROBE_TOOL]).text
        if "probe result" not in shown:
            return None
        return next((syntax for syntax, form in SYNTAXES.items() if form.is_shown(shown)), None)

    def prompt(self, turns: Sequence[Turn], tools: Sequence[dict[str, Any]] | None, field: str) -> EncodedPrompt:
        """Return the prompt, up to the assistant's turn.

        A leading system message that the template refuses or omits is put before the first turn of the user.

        Raises:
            InvalidRequestError: the template refuses the turns, omits one, or fails; the message lists the roles.
            TemplateProcessError: the process that renders it failed.
        """
        folded = _without_system(turns)
        attempts = [turns, folded] if self.takes_system and folded != turns else [folded]
        errors = []
        for attempt in attempts:
            try:
                return self._prompt(self._shaped(attempt), tools or None)
            except (TemplateError, ValueError) as error:
                errors.append(error)
        roles = [turn["role"] for turn in turns]
        allowed = f"turns that the chat template of {self._name} accepts ({errors[0]})"
        raise InvalidRequestError(field, roles, allowed) from errors[0]

    def _prompt(self, turns: Sequence[Turn], tools: Sequence[dict[str, Any]] | None) -> EncodedPrompt:
        rendering = self._render(turns, tools)
        _check_shown(turns, rendering)
        known = [*rendering.own, *self._own_of_lost(rendering, json.dumps([turns, tools], ensure_ascii=False))]
        return self._control_tokens.encode_written(rendering.text, sorted(known))

    def _own_of_lost(self, rendering: Rendering, request: str) -> Sequence[tuple[int, int]]:
        """Return characters of unknown origin that are the template's own: those of a control token that cannot come
        from the request, which lacks one of its punctuation marks.
        """
        if not rendering.lost:
            return ()
        text, lost = rendering.text, {index for span in rendering.lost for index in range(*span)}
        found = self._control_tokens.find(text, sorted([*rendering.own, *rendering.lost]))
        own = set(self._control_tokens.find(text, rendering.own))
        unsure = [span for span in found if span not in own]
        for start, end in unsure:
            marks = {text[index] for index in range(start, end) if index in lost and not text[index].isalnum()}
            if not marks - _ESCAPE_CHARACTERS - set(request):
                raise TemplateError(
                    f"it is unclear whether {text[start:end]!r} in its output is its own or from a message"
                )
        return [(index, index + 1) for span in unsure for index in range(*span) if index in lost]

    def _shaped(self, turns: Sequence[Turn]) -> list[Turn]:
        return [turn if self.takes_text else turn | {"content": _parts(turn["content"])} for turn in turns]

    def _probe(self, turns: Sequence[Turn], tools: Sequence[dict[str, Any]] | None = None) -> Rendering:
        """Return the rendering of the turns; an empty one if the template refuses them."""
        return self._rendered(self._shaped(turns), tools)

    def _rendered(self, turns: Sequence[Turn], tools: Sequence[dict[str, Any]] | None = None) -> Rendering:
        try:
            return self._render(turns, tools)
        except TemplateError:
            return _EMPTY

    def _render(self, turns: Sequence[Turn], tools: Sequence[dict[str, Any]] | None) -> Rendering:
        source = self.sources.get("tool_use") if tools else None
        source = source or self.sources.get("default")
        if source is None:
            raise TemplateError(f"it has templates only for {', '.join(self.sources)}")
        if len(source) > _MAX_TEMPLATE_CHARACTERS:
            raise TemplateError(f"it has more than {_MAX_TEMPLATE_CHARACTERS:,} characters")
        variables = self._special_tokens | {
            "messages": turns,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": True,
        }
        return PROCESS.render(source, variables, Limits.of(len(turns), len(json.dumps([turns, tools]))))


def template_sources(chat_template: object) -> dict[str, str]:
    """Return a tokenizer's templates by name; it has one, several, or none, and files list several as name and text."""
    if isinstance(chat_template, str) and chat_template:
        return {"default": chat_template}
    if isinstance(chat_template, list):
        chat_template = {one.get("name"): one.get("template") for one in chat_template if isinstance(one, dict)}
    return {str(name): str(text) for name, text in chat_template.items()} if isinstance(chat_template, dict) else {}


def template_sha256(sources: Mapping[str, str]) -> str:
    """Return the digest of the template's text; of several templates, with their names."""
    named = json.dumps(dict(sorted(sources.items())), ensure_ascii=False) if len(sources) > 1 else ""
    return hashlib.sha256((named or next(iter(sources.values()))).encode(errors="surrogatepass")).hexdigest()


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with a leading system message moved into the first turn of the user."""
    if not turns or turns[0]["role"] != "system":
        return list(turns)
    system, *rest = turns
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    first = rest[0]
    if isinstance(system["content"], str) and isinstance(first["content"], str):
        content: Any = f"{system['content']}\n\n{first['content']}"
    else:
        content = [*_parts(system["content"]), {"type": "text", "text": "\n\n"}, *_parts(first["content"])]
    return [first | {"content": content}, *rest[1:]]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _check_shown(turns: Sequence[Turn], rendering: Rendering) -> None:
    """Raise `TemplateError` if a message is not shown; a template may omit the thoughts in the model's own turns."""
    for index, turn in enumerate(turns):
        said = any(text.strip() for text in texts_of(turn["content"]))
        if said and turn["role"] != "assistant" and not rendering.shows(index):
            raise TemplateError(f"it leaves out the content of a {turn['role']} message")


def texts_of(content: Any) -> list[str]:
    """Return the texts of a turn's content, which is a text or a list of parts."""
    return [content] if isinstance(content, str) else [part.get("text", "") for part in content]
