"""Text and chat turns to token ids, such that nothing a user writes becomes a control token.

A chat template writes control tokens such as ``<|im_start|>`` around each turn. The same characters inside a message
are only characters: they are encoded as plain text, so a message can never open a turn of its own.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.protocol import CompletionMessage, ImageMedia, SystemMessage, ToolResponseMessage, UserMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import BatchEncoding, PreTrainedTokenizerFast

    from workbench.protocol import InterleavedTextMedia, Message


class PromptEncoder:
    """Encodes for one model; safe to call from several threads.

    Args:
        tokenizer: the model's tokenizer, with its chat template if it has one.
        name: the model's name, for messages.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        # Encoding switches a flag on the shared Rust tokenizer, so two threads must not do it at once.
        self._lock = threading.Lock()

    @property
    def has_chat_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def encode_text(self, content: InterleavedTextMedia, field: str = "content") -> tuple[int, ...]:
        """Token ids of a text to be continued, with the model's own beginning-of-text token where it has one."""
        text = plain_text(content, field)
        if not text:
            raise InvalidRequestError(field, text, "a text of at least one character")
        with self._lock:
            return tuple(self._tokenizer(text, split_special_tokens=True, verbose=False).input_ids)

    def encode_continuation(
        self, prompt: str | None, prompt_ids: tuple[int, ...], text: str, field: str = "continuation"
    ) -> tuple[int, ...]:
        """Token ids of a text as they would follow the prompt's, however the tokenizer treats the seam.

        Args:
            prompt: the prompt's text; None after a conversation, where the template closes the seam.
        """
        text = plain_text(text, field)
        if not text:
            raise InvalidRequestError(field, text, "a text of at least one character")
        if prompt is not None:
            whole = self.encode_text(prompt + text, field)
            if whole[: len(prompt_ids)] == prompt_ids and len(whole) > len(prompt_ids):
                return whole[len(prompt_ids) :]
        with self._lock:
            encoded = self._tokenizer(text, split_special_tokens=True, add_special_tokens=False, verbose=False)
        return tuple(encoded.input_ids)

    def encode_chat(self, messages: Sequence[Message], field: str = "messages") -> tuple[int, ...]:
        """Token ids of a conversation in the model's own template, ready for the assistant's turn."""
        if not messages:
            raise InvalidRequestError(field, [], "a list with at least one message")
        if not self.has_chat_template:
            raise UnsupportedContentError(
                field, f"a chat for {self._name}", "text for `completion`: this model has no chat template"
            )
        turns = [_turn(message, f"{field}[{index}]") for index, message in enumerate(messages)]
        with self._lock:
            try:
                encoded = self._tokenizer.apply_chat_template(
                    turns,
                    add_generation_prompt=True,
                    sanitize_control_tokens=True,
                    return_dict=True,
                    tokenizer_kwargs={"verbose": False},  # the engine knows the true limit, and refuses by it
                )
            except Exception as error:
                raise InvalidRequestError(
                    field, [turn["role"] for turn in turns], f"turns that the template of {self._name} takes ({error})"
                ) from error
        return tuple(cast("BatchEncoding", encoded).input_ids)


def plain_text(content: InterleavedTextMedia, field: str) -> str:
    """The text of some content; an image is refused by name, never dropped."""
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if isinstance(part, ImageMedia):
            raise UnsupportedContentError(field, "an image", "text: this model cannot read images")
        if not isinstance(part, str):
            raise InvalidRequestError(field, part, "a text, or a list of texts")
    text = "".join(cast("list[str]", parts))
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequestError(field, text, "valid Unicode: it holds a half of a surrogate pair")
    return text


def _turn(message: Message, field: str) -> dict[str, Any]:
    match message:
        case UserMessage(content=content, context=None):
            return {"role": "user", "content": plain_text(content, f"{field}.content")}
        case UserMessage(content=content, context=context):
            text = plain_text(content, f"{field}.content") + "\n" + plain_text(context or "", f"{field}.context")
            return {"role": "user", "content": text}
        case SystemMessage(content=content):
            return {"role": "system", "content": plain_text(content, f"{field}.content")}
        case CompletionMessage(content=content):
            return {"role": "assistant", "content": plain_text(content, f"{field}.content")}
        case ToolResponseMessage(content=content):
            return {"role": "tool", "content": plain_text(content, f"{field}.content")}
    raise InvalidRequestError(field, message, "a user, system, assistant or ipython message")
