"""Checks of the texts and JSON values of a request; errors name the field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.protocol import ImageMedia

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia


def plain_text(content: InterleavedTextMedia, field: str) -> str:
    """Return the text of a content; raise `UnsupportedContentError` for an image instead of dropping it."""
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if isinstance(part, ImageMedia):
            raise UnsupportedContentError(field, "an image", "text: this model cannot read images")
        if not isinstance(part, str):
            raise InvalidRequestError(field, part, "a text, or a list of texts")
    return valid_unicode("".join(cast("list[str]", parts)), field)


def valid_unicode(text: str, field: str) -> str:
    """Return the text; raise `InvalidRequestError` for a lone surrogate, which no tokenizer can encode."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequestError(field, text, "valid Unicode, without half a surrogate pair")
    return text


def plain_json(value: object, field: str) -> Any:
    """Return a copy of a JSON value; raise `InvalidRequestError` for other values."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:  # 1e999 is infinite
        raise InvalidRequestError(field, value, f"a finite JSON value ({error})") from None
    return json.loads(valid_unicode(text, field))
