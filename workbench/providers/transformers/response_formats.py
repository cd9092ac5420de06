"""What the protocol's ``response_format`` asks of the engine."""

from __future__ import annotations

import json
from dataclasses import dataclass

from workbench.engine.constraints import Grammar, JsonSchemaGrammar, LarkGrammar, RegexGrammar
from workbench.errors import InvalidRequestError
from workbench.protocol import GrammarResponseFormat, JsonSchemaResponseFormat, RegexResponseFormat
from workbench.schemas.limits import check_size
from workbench.schemas.schema import JsonSchema


@dataclass(frozen=True, slots=True)
class AskedGrammar:
    """A grammar that an answer must follow, and the field of the request that asks for it."""

    grammar: Grammar
    field: str
    schema: JsonSchema | None = None
    """Which the whole answer is judged by."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the format has no effect, or is judged late."""
        return tuple(f"{self.field}: {note}" for note in self.schema.notes) if self.schema else ()

    def late_note(self, text: str, *, is_cut: bool) -> str | None:
        """Return what is to be said of an answer that has ended, where it is not what was asked for."""
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
    """Return what is said of an answer whose tokens did not reach."""
    return f"the answer is cut off: the token limit was reached before {field} was satisfied"


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
            read = JsonSchema.of(schema, field)
            return AskedGrammar(JsonSchemaGrammar.of(read, field), field, read)
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
