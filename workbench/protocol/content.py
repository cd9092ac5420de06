"""Content of messages: text, images, or both."""

from __future__ import annotations

import base64
import io
from typing import Annotated, TypeAlias

from PIL import Image
from pydantic import ConfigDict, field_serializer
from pydantic.json_schema import WithJsonSchema

from workbench.protocol.base import ProtocolModel

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


class URL(ProtocolModel):
    """URL of an image. Providers always read ``data:`` URLs, but files and the web only if that is switched on."""

    uri: str

    def __str__(self) -> str:
        return self.uri


# Written out, because a decoded image has no schema, and deriving this one would slow the import.
_URL_SCHEMA = {
    "title": "URL",
    "type": "object",
    "properties": {"uri": {"type": "string"}},
    "required": ["uri"],
    "additionalProperties": False,
}


class ImageMedia(ProtocolModel):
    """Image in a message, decoded or as a URL.

    In JSON, a decoded image becomes a ``data:`` URL with a lossless PNG, which is read back as a ``URL``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    image: Annotated[Image.Image | URL, WithJsonSchema(_URL_SCHEMA)]

    @field_serializer("image", when_used="json")
    def _image_as_url(self, image: Image.Image | URL) -> URL:
        return image if isinstance(image, URL) else URL(uri=_png_data_url(image))


InterleavedTextMedia: TypeAlias = str | ImageMedia | list[str | ImageMedia]
"""Text, an image, or a list of both in reading order."""


def _png_data_url(image: Image.Image) -> str:
    writable = image if image.mode in _PNG_MODES else image.convert("RGB")
    with io.BytesIO() as file:
        writable.save(file, format="PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
