"""Conversion of the protocol's ``response_format`` to grammars of the engine."""

from __future__ import annotations

import json
from dataclasses import dataclass

from workbench.engine.constraints import Grammar, JsonSchemaGrammar, LarkGrammar, RegexGrammar
from workbench.errors import InvalidRequestError
from workbench.protocol import GrammarResponseFormat, JsonSchemaResponseFormat, RegexResponseFormat
from workbench.schemas.limits import check_size
from workbench.schemas.schema import JsonSchema


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """A grammar that an answer must follow, and the field of the request that requires it."""

    grammar: Grammar
    field: str
    schema: JsonSchema | None = None
    """Schema that validates the whole answer."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on parts of the format that have no effect, or that only the whole answer is checked for."""
        return tuple(f"{self.field}: {note}" for note in self.schema.notes) if self.schema else ()

    def late_note(self, text: str, *, is_cut: bool) -> str | None:
        """Return a note if an answer that has ended does not satisfy the format."""
        if is_cut:
            return cut_note(self.field)
        if self.schema is None:
            return None
        try:
            value = json.loads(text)
        except ValueError:  # a stop string ended it, or the caller did
            return f"the answer is not complete JSON, which {self.field} requires"
        reason = self.schema.validation_error(value, "answer")
        return f"the answer does not fit {self.field}: {reason}" if reason else None


def cut_note(field: str) -> str:
    """Return the note on an answer that the token limit cut off."""
    return f"the answer is cut off: the token limit was reached before {field} was satisfied"


def answer_grammar(response_format: object) -> AnswerGrammar | None:
    """Return the grammar of a response format, checked as far as is possible without a model.

    Raises:
        InvalidRequestError: not a response format, or its grammar is too large or too deeply nested.
    """
    grammar: Grammar
    match response_format:
        case None:
            return None
        case JsonSchemaResponseFormat(json_schema=schema):
            field = "response_format.json_schema"
            read = JsonSchema.of(schema, field)
            return AnswerGrammar(JsonSchemaGrammar.of(read, field), field, read)
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
    return AnswerGrammar(grammar, field)
