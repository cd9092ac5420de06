"""Opening of the images of messages, from allowed sources and within limits of size.

Limits are checked on the file's header before its pixels are decoded. The result is RGB, upright (EXIF orientation
applied), on white where the image is transparent, and the first frame of an animation.

==============  ====================================================================================================
``data:`` URL   always allowed: ``data:image/png;base64,...`` with bytes of the type that the URL names
``file:`` URL   allowed for files under ``ImageSources.root`` once every link is followed; off without a root
``http(s):``    allowed for the hosts of ``ImageSources.web``, see `image_fetching`; off without it
==============  ====================================================================================================
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import Image, ImageOps

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.protocol import URL

if TYPE_CHECKING:
    from workbench.prompts.image_fetching import WebImages
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
_FILE_URL = re.compile(r"file://(?:localhost)?(?P<path>/[^?#\x00-\x20\x7f]*)", re.IGNORECASE)
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>[A-Za-z0-9+/]*={0,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageSources:
    """Allowed sources of images besides ``data:`` URLs and decoded images."""

    root: Path | None = None
    """The folder whose files ``file:`` URLs may name."""
    web: WebImages | None = None
    """The client for ``http:`` and ``https:`` URLs."""


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
    scheme = image.uri.partition(":")[0].lower()
    match scheme:
        case "data":
            media_type, data = _data_of(image.uri, field)
            return decode(data, field, only=MEDIA_TYPES[media_type])
        case "file":
            return decode(_file_of(image.uri, field, sources.root), field)
        case "http" | "https" if sources.web is not None:
            return decode(sources.web.fetch(image.uri, field, MAX_BYTES), field)
        case "http" | "https":
            raise UnsupportedContentError(
                field, f"an {scheme}: URL", "a data: URL or a decoded image: fetching from the web is switched off"
            )
    raise UnsupportedContentError(field, image.uri, "a data: URL or a decoded image")


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
    if count > MAX_BYTES:
        raise InvalidRequestError(field, f"{count / 10**6:.1f} MB", f"an image of at most {MAX_BYTES // 10**6} MB")


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


def _file_of(uri: str, field: str, root: Path | None) -> bytes:
    """Return the bytes of a ``file:`` URL's file, which must lie under ``root`` once every link is followed."""
    if root is None:
        allowed = "a data: URL or a decoded image: reading files is switched off"
        raise UnsupportedContentError(field, "a file: URL", allowed)
    match = _FILE_URL.fullmatch(uri)
    path = unquote_to_bytes(match["path"]) if match else b""
    if not path.startswith(b"/") or path.startswith(b"//") or b"\0" in path:
        raise InvalidRequestError(field, uri, "a file: URL of the form file:///folder/name.png")
    real_root, real_path = os.path.realpath(os.fsencode(root)), os.path.realpath(path)
    if os.path.commonpath([real_root, real_path]) != real_root:
        # The same message whether the file exists or not: a caller must learn nothing about files outside the root.
        raise InvalidRequestError(field, uri, "a file inside the folder that the run config sets as image_root")
    try:
        descriptor = _open_beneath(real_root, os.path.relpath(real_path, real_root))
    except OSError:
        raise InvalidRequestError(field, uri, "a file that can be read") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequestError(field, uri, "a regular file")
        check_bytes(status.st_size, field)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)  # one more, to detect a file that grows meanwhile
    finally:
        os.close(descriptor)


def _open_beneath(root: bytes, path: bytes) -> int:
    """Open a file for reading, folder by folder from ``root``: links created since the check are not followed."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    *parents, name = path.split(b"/")
    try:
        for parent in parents:
            below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        # Without O_NONBLOCK a pipe would block until another process writes to it.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
