"""Markers of the fields in OpenAI's requests that are ignored or refused, and the requests' base classes."""

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
    """Marker of a field that changes no answer: it is accepted and ignored."""


@dataclass(frozen=True, slots=True, init=False)
class Refused:
    """Marker of an unsupported field that would change the answer: only neutral values are accepted."""

    neutral: tuple[object, ...]

    def __init__(self, *neutral: object) -> None:
        object.__setattr__(self, "neutral", neutral)

    @property
    def allowed(self) -> str:
        return " or ".join(["absent", *(repr(value) for value in self.neutral)])


class OpenAIModel(RequestModel):
    """Part of OpenAI's requests. The docstring of a field is its row in the documentation."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class OpenAIRequest(OpenAIModel):
    """Whole request of OpenAI's API."""

    def names(self) -> Mapping[str, str]:
        """Return OpenAI's field names by regular expressions of the protocol's paths; the first match counts."""
        return {}

    def check(self) -> None:
        """Raise `UnsupportedFieldError` for the first field with an unsupported value."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            for mark in field.metadata:
                if isinstance(mark, Refused) and value is not None and value not in mark.neutral:
                    raise UnsupportedFieldError(name, value, mark.allowed)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Replace the field of errors raised in the block by OpenAI's name for it."""
        try:
            yield
        except InvalidRequestError as error:
            renamed = (re.sub(f"^{ours}", theirs, error.field) for ours, theirs in self.names().items())
            name = next((name for name in renamed if name != error.field), error.field)
            error.args = (str(error).replace(error.field, name, 1),)
            error.field = name
            raise
