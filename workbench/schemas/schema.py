"""A JSON schema that was read, with its grammar, its notes and its validation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.schemas.documents import Document
from workbench.schemas.grammars import Rules
from workbench.schemas.normal import Normaliser
from workbench.schemas.rules import OPEN, Writer

if TYPE_CHECKING:
    from workbench.schemas.argument_validation import ArgumentValidator


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A schema whose values can be generated and validated, as returned by `JsonSchema.of`."""

    root: dict[str, Any]
    """The schema as a JSON value."""
    text: str
    """The schema as JSON text."""
    field: str
    """The field of the request, for errors."""
    grammar: str
    """The grammar of the values that fit, in llguidance's dialect of Lark."""
    notes: tuple[str, ...]
    """Parts of the schema that have no effect, or are checked once the answer is complete."""
    _document: Document = dataclasses.field(repr=False, compare=False)
    _validator: ArgumentValidator = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, root: object, field: str) -> JsonSchema:
        """Read a schema.

        Raises:
            InvalidRequestError: it is not a schema of draft 2020-12, no value fits it, or a keyword cannot be enforced.
        """
        document = Document(root, field)
        rules, normaliser = Rules(), Normaliser(document)
        try:
            grammar = rules.lark([Writer(rules, OPEN).value(normaliser)])
        except RecursionError:
            document.refuse("a longer chain", "a schema with shorter chains of references")
        if grammar is None:
            document.refuse(document.root, "a schema that at least one value fits")
        late = [f"{keyword!r} is checked once the answer is complete" for keyword in sorted(normaliser.unenforced)]
        notes = (*document.notes, *late)
        return cls(document.root, document.text, field, grammar, notes, document, normaliser.validator)

    def normaliser(self) -> Normaliser:
        return Normaliser(self._document)

    def validation_error(self, value: Any, path: str) -> str | None:
        """Return where and why a JSON value does not fit; None if it fits."""
        return self._validator.validation_error(value, path)
