"""What an answer has to look like, enforced token by token while it is generated; an addition to the protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from workbench.protocol.base import ProtocolModel


class JsonSchemaResponseFormat(ProtocolModel):
    """The answer is JSON that fits the schema."""

    type: Literal["json_schema"] = "json_schema"
    json_schema: dict[str, Any]


class RegexResponseFormat(ProtocolModel):
    r"""The whole answer matches the regular expression, in the syntax of Rust's regex crate without look-around.

    Classes are Unicode's: Python's ``\s``, for one, takes in the separators from U+001C to U+001F as well.
    """

    type: Literal["regex"] = "regex"
    regex: str = Field(min_length=1)


class GrammarResponseFormat(ProtocolModel):
    """The answer is a sentence of the context-free grammar, written in Lark's syntax."""

    type: Literal["grammar"] = "grammar"
    grammar: str = Field(min_length=1)


ResponseFormat: TypeAlias = Annotated[
    JsonSchemaResponseFormat | RegexResponseFormat | GrammarResponseFormat, Field(discriminator="type")
]
