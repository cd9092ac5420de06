"""Interface of a tokenizer that prompts and the engine share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextTokenizer(Protocol):
    """A tokenizer with its special tokens and chat template; a fast tokenizer of transformers is one."""

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The Rust tokenizer."""

    @property
    def special_tokens_map(self) -> Mapping[str, Any]:
        """Texts of the special tokens by name, ``bos_token`` and so on."""

    @property
    def chat_template(self) -> Any:
        """The template, or several by name; None without one."""

    @property
    def eos_token_id(self) -> Any:
        """Token that ends a text; None without one."""
