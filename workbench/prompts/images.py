"""Opening of the images of messages, from allowed sources and within limits of size.

Limits are checked on the file's header before its pixels are decoded. The result is RGB, upright (EXIF orientation
applied), on white where the image is transparent, and the first frame of an animation.

==============  ====================================================================================================
``data:`` URL   always allowed: ``data:image/png;base64,...`` with bytes of the type that the URL names
``file:`` URL   allowed for files under ``ImageSources.root`` once every link is followed; off without a root
``http(s):``    allowed for the hosts of ``ImageSources.web``; off without it
==============  ====================================================================================================
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image, ImageOps

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.protocol import URL
from workbench.urls.sources import UrlSources

if TYPE_CHECKING:
    from workbench.protocol import ImageMedia

MAX_IMAGES = 16
"""Images in one request."""
MAX_BYTES = 20 * 10**6
MAX_PIXELS = 25 * 10**6
MAX_RATIO = 100
"""Ratio of the longer side to the shorter: many processors scale the shorter side up, and the longer one with it."""

MEDIA_TYPES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
"""Supported media types and Pillow's names of their formats; no other decoder of Pillow is ever called."""

_FORMATS = "an undamaged PNG, JPEG, WebP or GIF image"
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>[A-Za-z0-9+/]*={0,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageSources(UrlSources):
    """Allowed sources of images besides ``data:`` URLs and decoded images."""

    noun: ClassVar[str] = "an image"
    example: ClassVar[str] = "name.png"
    setting: ClassVar[str] = "image_root"
    always: ClassVar[str] = "a data: URL or a decoded image"


def open_image(media: ImageMedia, field: str, sources: ImageSources) -> Image.Image:
    """Return the image in RGB; a decoded one is copied, so that later changes to it do not affect the request.

    Raises:
        InvalidRequestError: the image is too large or damaged, or its URL is malformed; ``field`` names it.
        UnsupportedContentError: its source is not allowed, or its format is not supported.
    """
    image = media.image
    if isinstance(image, Image.Image):
        _check_size(image.size, field)
        return _decoded(image, field)
    if not isinstance(image, URL):
        raise InvalidRequestError(field, image, "an image or a URL")
    if image.uri.partition(":")[0].lower() == "data":
        media_type, data = _data_of(image.uri, field)
        return decode(data, field, only=MEDIA_TYPES[media_type])
    return decode(sources.read(image.uri, field, MAX_BYTES).data, field)


def decode(data: bytes, field: str, *, only: str | None = None) -> Image.Image:
    """Return the first frame of an encoded image, in RGB.

    Args:
        only: Pillow's name of the only format that is accepted.
    """
    check_bytes(len(data), field)
    try:
        # Pillow warns of large images; `_check_size` refuses them all.
        image = Image.open(io.BytesIO(data), formats=tuple(MEDIA_TYPES.values()))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidRequestError(field, "a decompression bomb", _pixels_allowed()) from None
    except Exception:  # noqa: BLE001 - a decoder that is fed damaged bytes raises anything
        raise UnsupportedContentError(field, f"{len(data)} bytes in another format", _FORMATS) from None
    with image:
        if only is not None and image.format != only:
            raise InvalidRequestError(field, f"a {image.format} image", f"a {only} image, as its URL says")
        _check_size(image.size, field)
        return _decoded(image, field)


def check_bytes(count: int, field: str) -> None:
    """Raise `InvalidRequestError` for more encoded bytes than `MAX_BYTES`."""
    ImageSources.check_size(count, field, MAX_BYTES)


def _check_size(size: tuple[int, int], field: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidRequestError(field, f"{width}x{height} pixels", "an image of at least one pixel")
    if width * height > MAX_PIXELS:
        raise InvalidRequestError(
            field, f"{width}x{height} pixels ({width * height / 10**6:.1f} megapixels)", _pixels_allowed()
        )
    if max(size) > MAX_RATIO * min(size):
        raise InvalidRequestError(
            field, f"{width}x{height} pixels", f"an image at most {MAX_RATIO} times as long as it is wide"
        )


def _pixels_allowed() -> str:
    return f"an image of at most {MAX_PIXELS // 10**6} megapixels"


def _decoded(image: Image.Image, field: str) -> Image.Image:
    """Return the pixels of an image as an RGB copy; its size has been checked before."""
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)  # a copy, whether it is turned or not
    except Exception:  # noqa: BLE001 - a decoder that is fed damaged bytes raises anything
        raise InvalidRequestError(field, "a damaged or truncated image", _FORMATS) from None
    try:
        return _rgb(upright, field)
    except ValueError as error:
        if isinstance(error, InvalidRequestError):
            raise
        raise UnsupportedContentError(field, f"mode {image.mode}", "an image in a mode that converts to RGB") from None


def _rgb(image: Image.Image, field: str) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255, which gives white
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        lowest, highest = (float(bound) for bound in image.getextrema())  # type: ignore[arg-type]
        if not 0 <= lowest <= highest <= 255:
            raise InvalidRequestError(
                field, f"mode {image.mode}, values from {lowest:g} to {highest:g}", "an image with values from 0 to 255"
            )
    if not image.has_transparency_data:
        return image.convert("RGB")
    solid = Image.new("RGBA", image.size, "white")
    solid.alpha_composite(image.convert("RGBA"))
    return solid.convert("RGB")


def _data_of(uri: str, field: str) -> tuple[str, bytes]:
    check_bytes(len(uri) * 3 // 4 - len("data:image/jpeg;base64,"), field)
    match = _DATA_URL.fullmatch(uri)
    if match is None:
        raise InvalidRequestError(field, uri, "a data: URL of the form data:image/png;base64,...")
    media_type = match["type"].lower()
    if media_type not in MEDIA_TYPES:
        raise UnsupportedContentError(field, media_type, f"a data: URL of {', '.join(MEDIA_TYPES)}")
    try:
        return media_type, base64.b64decode(match["data"], validate=True)
    except binascii.Error:
        raise InvalidRequestError(field, uri, "a data: URL with complete, padded base64") from None
