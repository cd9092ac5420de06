"""What the protocol's ``response_format`` asks of the engine."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.engine.constraints import Grammar, JsonSchemaGrammar, LarkGrammar, RegexGrammar
from workbench.engine.grammar_limits import check_size
from workbench.errors import InvalidRequestError
from workbench.protocol import GrammarResponseFormat, JsonSchemaResponseFormat, RegexResponseFormat


@dataclass(frozen=True, slots=True)
class AskedGrammar:
    """A grammar that an answer must follow, and the field of the request that asks for it."""

    grammar: Grammar
    field: str


def asked_grammar(response_format: object) -> AskedGrammar | None:
    """The grammar of a response format, as far as it can be checked without a model.

    Raises:
        InvalidRequestError: it is no response format, or its grammar is too large or nested too deeply.
    """
    grammar: Grammar
    match response_format:
        case None:
            return None
        case JsonSchemaResponseFormat(json_schema=schema):
            field = "response_format.json_schema"
            grammar = JsonSchemaGrammar.of(schema, field)
        case RegexResponseFormat(regex=text):
            field, grammar = "response_format.regex", RegexGrammar(text)
        case GrammarResponseFormat(grammar=text):
            field, grammar = "response_format.grammar", LarkGrammar(text)
        case _:
            raise InvalidRequestError(
                "response_format",
                response_format,
                "a JsonSchemaResponseFormat, a RegexResponseFormat or a GrammarResponseFormat",
            )
    check_size(grammar.text, field)
    return AskedGrammar(grammar, field)
