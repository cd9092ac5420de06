"""Formats of an answer, enforced token by token during generation; an addition to the protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from workbench.protocol.base import ProtocolModel


class JsonSchemaResponseFormat(ProtocolModel):
    """Response format: JSON that matches a JSON schema."""

    type: Literal["json_schema"] = "json_schema"
    json_schema: dict[str, Any]


class RegexResponseFormat(ProtocolModel):
    r"""Response format: text that a regular expression matches as a whole.

    The syntax is that of Rust's regex crate, without look-around. Character classes follow Unicode: ``\s`` does not
    match the separators U+001C to U+001F, which Python's ``\s`` does.
    """

    type: Literal["regex"] = "regex"
    regex: str = Field(min_length=1)


class GrammarResponseFormat(ProtocolModel):
    """Response format: text that a context-free grammar in Lark's syntax generates."""

    type: Literal["grammar"] = "grammar"
    grammar: str = Field(min_length=1)


ResponseFormat: TypeAlias = Annotated[
    JsonSchemaResponseFormat | RegexResponseFormat | GrammarResponseFormat, Field(discriminator="type")
]
