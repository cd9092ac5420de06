"""What becomes of those fields of OpenAI's requests that are not honoured, said beside each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ConfigDict

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.server.bodies import RequestModel


@dataclass(frozen=True, slots=True)
class NoEffect:
    """A field that tells OpenAI something, and changes no answer: it is taken."""


@dataclass(frozen=True, slots=True, init=False)
class Refused:
    """A field that would change the answer and cannot be honoured: only values that ask for nothing are taken."""

    neutral: tuple[object, ...]

    def __init__(self, *neutral: object) -> None:
        object.__setattr__(self, "neutral", neutral)

    @property
    def allowed(self) -> str:
        return " or ".join(["absent", *(repr(value) for value in self.neutral)])


class OpenAIModel(RequestModel):
    """A part of OpenAI's requests. The docstring of a field is its row in the documentation."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class OpenAIRequest(OpenAIModel):
    """A whole request."""

    def names(self) -> Mapping[str, str]:
        """The protocol's paths, as regular expressions, and what OpenAI calls them; the first that fits counts."""
        return {}

    def check(self) -> None:
        """Raise `UnsupportedFieldError` for the first field that cannot be honoured."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            for mark in field.metadata:
                if isinstance(mark, Refused) and value is not None and value not in mark.neutral:
                    raise UnsupportedFieldError(name, value, mark.allowed)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let errors that are raised inside name the field by which the client knows it."""
        try:
            yield
        except InvalidRequestError as error:
            renamed = (re.sub(f"^{ours}", theirs, error.field) for ours, theirs in self.names().items())
            name = next((name for name in renamed if name != error.field), error.field)
            error.args = (str(error).replace(error.field, name, 1),)
            error.field = name
            raise
