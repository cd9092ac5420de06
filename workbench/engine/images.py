"""Images in a prompt: their tokens and tensors, and their positions among the tokens.

Each image is processed and prefilled by itself. Its tensors then depend only on its pixels, so that a cached prefix
with an image can be reused, and a prompt with many images is prefilled one image at a time.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from torch import Tensor

from workbench.engine.decoders import Decoder
from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.insides import PointEdit

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, eq=False)
class PromptImage:
    """A processed image."""

    token_ids: tuple[int, ...]
    """Its tokens in a prompt: placeholders, and those that the processor puts around and between them."""
    tensors: Mapping[str, Tensor]
    """Further arguments of the model's forward."""
    key: int
    """A negative number derived from the pixels, which identifies the image."""

    @property
    def nbytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def placed_at(self, start: int) -> PlacedImage:
        """Return the image with the index of its first token."""
        return PlacedImage(start, self)


_DECODED = 2**40
"""Number that is added to the ids of decoded tokens; vocabularies are smaller."""


class PlacedImage(NamedTuple):
    """An image and the index of its first token in the prompt."""

    start: int
    image: PromptImage

    @property
    def end(self) -> int:
        return self.start + len(self.image.token_ids)


class Part(NamedTuple):
    """A part of a prompt that is prefilled at once: tokens of text, or one image."""

    token_ids: Sequence[int]
    image: PromptImage | None = None


class ImageReader:
    """A model's processor, for one image at a time; thread-safe.

    Args:
        processor: of transformers, with its own tokenizer, because tokenizers are not thread-safe.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._lock = threading.Lock()
        self.token_id = int(processor.tokenizer.convert_tokens_to_ids(processor.image_token))
        """Placeholder token: one per image in a chat template, and one per image token in the prompt."""

    def read(self, image: Image.Image, field: str) -> PromptImage:
        """Process an RGB image.

        Raises:
            InvalidRequestError: the processor does not support this size or shape.
        """
        try:
            with self._lock:
                read = self._processor(
                    text=[self._processor.image_token], images=[[image]], add_special_tokens=False, return_tensors="pt"
                )
        except Exception as error:
            found, allowed = f"{image.width}x{image.height} pixels", "an image that the model's processor accepts"
            raise InvalidRequestError(field, found, f"{allowed} ({error})") from error
        tensors = {name: value for name, value in read.items() if isinstance(value, Tensor)}
        token_ids = tuple(tensors.pop("input_ids")[0].tolist())
        del tensors["attention_mask"]
        return PromptImage(token_ids, tensors, _key(image))


class ImageDecoder(Decoder, Protocol):
    """A decoder with images."""

    def prefill_image(self, image: PromptImage, cache: Any) -> Tensor:
        """Append an image to a sequence; return float32 logits after it, shape (1, vocab)."""


def check_images(
    prompt_ids: Sequence[int], images: Sequence[PlacedImage], reader: ImageReader | None, model: str
) -> None:
    """Refuse images that the model cannot read, and placeholders without an image.

    Args:
        reader: the model's own; None for a text model.
        model: the model's name, for messages.

    Raises:
        UnsupportedContentError: the model reads no images.
        InvalidRequestError: a placeholder has no image, or no text follows the last image.
    """
    if reader is None:
        if images:
            raise UnsupportedContentError("prompt", "an image", f"text: {model} cannot read images")
        return
    if images and images[-1].end >= len(prompt_ids):
        raise InvalidRequestError("prompt", "an image at the end", "content with text after its last image")
    if reader.token_id in cache_keys(prompt_ids, images):
        # Defense in depth: text is never encoded to a placeholder, for which the model would fail.
        raise InvalidRequestError(
            "prompt", "an image placeholder", "free of placeholder tokens other than those of its images"
        )


def cache_keys(
    token_ids: Sequence[int],
    images: Sequence[PlacedImage],
    edits: Sequence[PointEdit] = (),
    read_tokens: int | None = None,
) -> list[int]:
    """Return keys of the prefix cache: the token ids, with those of each image replaced by the image's key.

    From the first position on that edits change, keys are negative numbers that depend on all edits.

    Args:
        read_tokens: number of tokens that are read as a prompt; the others are decoded, which may round in another
            way, so that their keys differ. None for all.
    """
    keys = list(token_ids)
    if read_tokens is not None:
        keys[read_tokens:] = [token_id + _DECODED for token_id in keys[read_tokens:]]
    for placed in images:
        keys[placed.start : placed.end] = [placed.image.key] * len(placed.image.token_ids)
    first = min((edit.start for edit in edits), default=len(keys))
    changed = b"".join(edit.key for edit in edits)
    keys[first:] = [_number(f"{key}".encode() + changed) for key in keys[first:]]
    return keys


def next_part(token_ids: Sequence[int], images: Sequence[PlacedImage], done: int, size: int) -> Part:
    """Return the part after ``done`` tokens: at most ``size`` tokens of text before the next image, or an image."""
    ahead = [placed for placed in images if placed.end > done]
    if ahead and ahead[0].start <= done:
        return Part(ahead[0].image.token_ids, ahead[0].image)
    return Part(token_ids[done : min(done + size, ahead[0].start if ahead else len(token_ids))])


def prefill_part(decoder: Decoder, part: Part, cache: Any) -> Tensor:
    """Append a part to a sequence; return float32 logits of its last token, shape (1, vocab)."""
    if part.image is None:
        return decoder.prefill(part.token_ids, cache)
    return cast("ImageDecoder", decoder).prefill_image(part.image, cache)


def read_part(decoder: Decoder, part: Part, cache: Any) -> None:
    """Append a part to a sequence as `prefill_part` does, without logits if that is faster."""
    if part.image is None:
        decoder.read(part.token_ids, cache)
    else:
        cast("ImageDecoder", decoder).prefill_image(part.image, cache)


def _key(image: Image.Image) -> int:
    return _number(image.tobytes(), f"{image.mode} {image.size}".encode())


def _number(content: bytes, key: bytes = b"") -> int:
    """Return a negative number derived from a content; token ids are 0 or above."""
    return -1 - int.from_bytes(hashlib.blake2b(content, digest_size=16, key=key).digest(), "big")
