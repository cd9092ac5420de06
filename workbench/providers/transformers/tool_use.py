"""Tools of a request: checked before any work, then rendered into the prompt and parsed from the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workbench.engine.constraints import LarkGrammar
from workbench.prompts.control_tokens import EncodedPrompt
from workbench.prompts.encoding import PromptEncoder
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.grammar import required_call
from workbench.prompts.tools.parsing import ToolCallParser, call_ids_after
from workbench.protocol import Message, ToolChoice, ToolDefinition, ToolPromptFormat
from workbench.providers.transformers.response_formats import AnswerGrammar


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one request, and how they may be used."""

    tools: Toolset = field(default_factory=Toolset)
    prompt_format: ToolPromptFormat = ToolPromptFormat.json
    must_call: bool = False
    may_call_twice: bool = True
    """Whether an answer that must be a call may contain several."""

    def prompt(self, encoder: PromptEncoder, messages: list[Message], field: str) -> EncodedPrompt:
        return encoder.chat_prompt(messages, self.tools, self.prompt_format, field)

    def parser(self, encoder: PromptEncoder, prompt: EncodedPrompt) -> ToolCallParser | None:
        """Return a parser of one answer's calls; None without tools."""
        if not self.tools:
            return None
        return ToolCallParser(self.tools, encoder.tool_syntax(self.prompt_format), call_ids_after(prompt.token_ids))

    def grammar(self, encoder: PromptEncoder) -> AnswerGrammar | None:
        """Return the grammar of an answer that must be a call; None if it need not be one."""
        if not self.must_call:
            return None
        syntax = encoder.tool_syntax(self.prompt_format)
        grammar = required_call(self.tools, syntax, encoder.special_ids, parallel=self.may_call_twice)
        return AnswerGrammar(LarkGrammar(grammar), "tools")

    def notes(self, encoder: PromptEncoder) -> list[str]:
        """Return notes on how the tools were interpreted."""
        notes = [f"{schema.field}: {note}" for schema in self.tools.read.values() for note in schema.notes]
        return notes + ([note] if (note := self._syntax_note(encoder)) else [])

    def _syntax_note(self, encoder: PromptEncoder) -> str | None:
        """Return a note if the model's own call syntax replaces the requested one."""
        syntax = encoder.tool_syntax(self.prompt_format)
        if not self.tools or syntax.value == self.prompt_format.value or self.prompt_format is ToolPromptFormat.json:
            return None
        return f"tool_prompt_format {self.prompt_format} is ignored: the model's chat template writes calls as {syntax}"


def checked_tools(
    tools: Sequence[ToolDefinition] | None,
    tool_choice: ToolChoice | None,
    tool_prompt_format: ToolPromptFormat | None,
    *,
    parallel: bool = True,
) -> ToolUse:
    """Return the tools of a request; raise `InvalidRequestError` for the first invalid field of a tool."""
    prompt_format = ToolPromptFormat(tool_prompt_format or ToolPromptFormat.json)
    return ToolUse(Toolset.of(tools), prompt_format, tool_choice == ToolChoice.required, parallel)
