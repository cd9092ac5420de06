"""Encoding of texts and chats to token ids, such that nothing a user writes becomes a control token.

A chat template writes control tokens such as ``<|im_start|>`` around each turn. The same characters inside a message
are encoded as plain text, so a message can never open a turn of its own.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from workbench.errors import ContextLengthError, InvalidRequestError, UnsupportedContentError
from workbench.prompts.control_tokens import ControlTokens, EncodedPrompt
from workbench.prompts.templates import ChatTemplate, template_sources, texts_of
from workbench.prompts.texts import plain_text
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.rendering import descriptions
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.prompts.turns import native_turns, text_turns
from workbench.protocol import ToolPromptFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.protocol import InterleavedTextMedia, Message
    from workbench.text_tokenizer import TextTokenizer

_CHARACTERS_OF_A_TOKEN = 8
"""Characters per position of the context up to which a text is encoded without a further check of its length."""


class PromptEncoder:
    """Encoder of prompts for one model; safe from any thread.

    Args:
        tokenizer: the model's tokenizer, with its chat template if it has one.
        name: the model's name, for errors.
        context_length: tokens in the model's context; a text that cannot fit is refused before it is encoded.
    """

    def __init__(self, tokenizer: TextTokenizer, name: str, context_length: int | None = None) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._name = name
        self._context_length = context_length
        self._control_tokens = ControlTokens(self._tokenizer)
        sources = template_sources(tokenizer.chat_template)
        special_tokens = dict(tokenizer.special_tokens_map)
        self.template = ChatTemplate(sources, special_tokens, self._control_tokens, name) if sources else None
        """The model's own chat template; None if it has none."""

    reads_images = False
    """Whether messages of the user may contain images."""

    @property
    def has_chat_template(self) -> bool:
        return self.template is not None

    @property
    def special_ids(self) -> Mapping[str, int]:
        """Ids of the special tokens by their text; these tokens are not part of an answer's text."""
        return self._control_tokens.special_ids

    def tool_syntax(self, tool_prompt_format: ToolPromptFormat | None = None) -> ToolSyntax:
        """Return the syntax of calls in this model's answers: that of its template, else that of the request."""
        native = self.template.native_syntax if self.template else None
        return native or ToolSyntax((tool_prompt_format or ToolPromptFormat.json).value)

    def encode_text(self, content: InterleavedTextMedia, field: str = "content") -> tuple[int, ...]:
        """Return token ids of a text to continue, after the model's beginning-of-text token if it has one."""
        return self.text_prompt(content, field).token_ids

    def text_prompt(self, content: InterleavedTextMedia, field: str = "content") -> EncodedPrompt:
        """Encode a text to continue, after the model's beginning-of-text token if it has one."""
        return self._encoded(content, field, add_special_tokens=True)

    def encode_continuation(
        self, prompt: str | None, prompt_ids: tuple[int, ...], text: str, field: str = "continuation"
    ) -> tuple[int, ...]:
        """Return token ids of a text as they follow those of the prompt, however the tokenizer treats the boundary.

        Args:
            prompt: the prompt's text; None after a conversation, where the template ends at a token boundary.
        """
        alone = self._encoded(text, field, add_special_tokens=False)
        if prompt is not None:
            whole = self.encode_text(prompt + alone.text, field)
            if whole[: len(prompt_ids)] == prompt_ids and len(whole) > len(prompt_ids):
                return whole[len(prompt_ids) :]
        return alone.token_ids

    def encode_chat(self, messages: Sequence[Message], field: str = "messages") -> tuple[int, ...]:
        """Return token ids of a conversation in the model's own template, up to the assistant's turn."""
        return self.chat_prompt(messages, field=field).token_ids

    def chat_prompt(
        self,
        messages: Sequence[Message],
        tools: Toolset | None = None,
        tool_prompt_format: ToolPromptFormat | None = None,
        field: str = "messages",
    ) -> EncodedPrompt:
        """Encode a conversation and tools in the model's own template, up to the assistant's turn.

        Raises:
            InvalidRequestError: a message is invalid, or the template refuses the conversation.
            UnsupportedContentError: the model has no template, or cannot read an image.
            ContextLengthError: the texts are far too long for the model's context.
        """
        if not isinstance(messages, list | tuple) or not messages:
            raise InvalidRequestError(field, messages, "a list with at least one message")
        if self.template is None:
            raise UnsupportedContentError(
                field, f"a chat for {self._name}", "text for `completion`: this model has no chat template"
            )
        tools = tools or Toolset()
        native = self.template.native_syntax
        if native is not None:
            turns = native_turns(messages, native, field, reads_images=self.reads_images)
        else:
            syntax = self.tool_syntax(tool_prompt_format)
            turns = text_turns(messages, tools, syntax, field, reads_images=self.reads_images)
        self._check_length(sum(len(text) for turn in turns for text in texts_of(turn["content"])), field)
        functions = [{"type": "function", "function": one} for one in descriptions(tools)] if native else None
        return self.template.prompt(turns, functions, field)

    def _encoded(self, content: InterleavedTextMedia, field: str, *, add_special_tokens: bool) -> EncodedPrompt:
        text = plain_text(content, field)
        if not text:
            raise InvalidRequestError(field, text, "a text of at least one character")
        self._check_length(len(text), field)
        try:
            return self._control_tokens.encode_text(text, add_special_tokens=add_special_tokens)
        except ValueError as error:
            raise InvalidRequestError(field, text, f"a text that {self._name} can encode ({error})") from error

    def _check_length(self, characters: int, field: str) -> None:
        """Raise `ContextLengthError` if no tokenizer could fit the text into the context, before it is encoded."""
        context = self._context_length
        if context is None or characters <= context * _CHARACTERS_OF_A_TOKEN:
            return
        at_least = characters // self._longest_token
        if at_least >= context:
            raise ContextLengthError(at_least, context, field)

    @cached_property
    def _longest_token(self) -> int:
        return max(map(len, self._tokenizer.get_vocab()))
