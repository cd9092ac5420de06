"""A JSON schema as everybody asks for it: what it says, whether it can be kept, and what fits it."""

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
    """A schema whose values can be generated and judged; made by `JsonSchema.of`."""

    root: dict[str, Any]
    """As it came."""
    text: str
    """The same as JSON."""
    field: str
    """Of the request, for messages."""
    grammar: str
    """Of the values that fit, in llguidance's dialect of Lark."""
    notes: tuple[str, ...]
    """What of it has no effect, or is judged once the answer is whole."""
    _document: Document = dataclasses.field(repr=False, compare=False)
    _validator: ArgumentValidator = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, root: object, field: str) -> JsonSchema:
        """Read a schema.

        Raises:
            InvalidRequestError: it is none of draft 2020-12, no value fits it, or a keyword cannot be kept; by name.
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
        """Return what says which values may stand where."""
        return Normaliser(self._document)

    def validation_error(self, value: Any, path: str) -> str | None:
        """Return where and why a JSON value does not fit, in words; None where it fits."""
        return self._validator.validation_error(value, path)
