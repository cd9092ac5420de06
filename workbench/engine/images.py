"""Images in a prompt: what a model's processor makes of one, and where it stands among the tokens.

An image is read by itself, never together with others of its prompt: what it is to the model then depends on nothing
but its pixels, so that a kept prefix with an image in it can serve another prompt, and a prompt with many images is
read one image at a time.
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

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, eq=False)
class PromptImage:
    """An image as a model reads it."""

    token_ids: tuple[int, ...]
    """What stands for it in a prompt: its place-holders, and whatever the processor puts around and between them."""
    tensors: Mapping[str, Tensor]
    """What the model's forward takes beside them."""
    key: int
    """A number below zero that no other image has."""

    @property
    def nbytes(self) -> int:
        """Memory that the tensors hold."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def placed_at(self, start: int) -> PlacedImage:
        """The image with the index of its first token."""
        return PlacedImage(start, self)


class PlacedImage(NamedTuple):
    """An image and the index of its first token in the prompt."""

    start: int
    image: PromptImage

    @property
    def end(self) -> int:
        return self.start + len(self.image.token_ids)


class Part(NamedTuple):
    """What is read of a prompt at once: some tokens of text, or one image."""

    token_ids: Sequence[int]
    image: PromptImage | None = None


class ImageReader:
    """A model's processor, for one image at a time; safe to call from several threads.

    Args:
        processor: of transformers, with a tokenizer of its own: tokenizers are not safe to share between threads.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._lock = threading.Lock()
        self.token_id = int(processor.tokenizer.convert_tokens_to_ids(processor.image_token))
        """What a chat template writes where an image goes, and what stands for each piece of it in the prompt."""

    def read(self, image: Image.Image, field: str) -> PromptImage:
        """What the model reads of an RGB image.

        Raises:
            InvalidRequestError: the processor cannot take an image of this size or shape.
        """
        try:
            with self._lock:
                read = self._processor(
                    text=[self._processor.image_token], images=[[image]], add_special_tokens=False, return_tensors="pt"
                )
        except Exception as error:
            given, allowed = f"{image.width}x{image.height} pixels", "an image that the model's processor accepts"
            raise InvalidRequestError(field, given, f"{allowed} ({error})") from error
        tensors = {name: value for name, value in read.items() if isinstance(value, Tensor)}
        token_ids = tuple(tensors.pop("input_ids")[0].tolist())
        del tensors["attention_mask"]
        return PromptImage(token_ids, tensors, _key(image))


class ImageDecoder(Decoder, Protocol):
    """A decoder that reads images too."""

    def prefill_image(self, image: PromptImage, cache: Any) -> Tensor:
        """Append an image to a sequence; float32 logits after it, shape (1, vocab)."""


def check_images(
    prompt_ids: Sequence[int], images: Sequence[PlacedImage], reader: ImageReader | None, model: str
) -> None:
    """Refuse images that the model cannot read, and place-holders that no image stands behind.

    Args:
        reader: the model's own; None for a model of text alone.
        model: its name, for messages.

    Raises:
        UnsupportedContentError: this model reads no images.
        InvalidRequestError: a place-holder without its image, or no text after the last image.
    """
    if reader is None:
        if images:
            raise UnsupportedContentError("prompt", "an image", f"text: {model} cannot read images")
        return
    if images and images[-1].end >= len(prompt_ids):
        raise InvalidRequestError("prompt", "an image at the end", "content with text after its last image")
    if reader.token_id in cache_keys(prompt_ids, images):
        # In depth, for no text is ever encoded to one: the model would read what is not there, or fail in its midst.
        raise InvalidRequestError(
            "prompt", "an image placeholder", "free of placeholder tokens other than those of its images"
        )


def cache_keys(token_ids: Sequence[int], images: Sequence[PlacedImage]) -> list[int]:
    """What tells sequences apart: token ids, and for each token of an image the image's own number instead."""
    told = list(token_ids)
    for placed in images:
        told[placed.start : placed.end] = [placed.image.key] * len(placed.image.token_ids)
    return told


def next_part(token_ids: Sequence[int], images: Sequence[PlacedImage], done: int, size: int) -> Part:
    """What to read after ``done`` tokens: the text up to the next image, at most ``size`` of it, or an image whole."""
    ahead = [placed for placed in images if placed.end > done]
    if ahead and ahead[0].start <= done:
        return Part(ahead[0].image.token_ids, ahead[0].image)
    return Part(token_ids[done : min(done + size, ahead[0].start if ahead else len(token_ids))])


def prefill_part(decoder: Decoder, part: Part, cache: Any, *, every_position: bool = False) -> Tensor:
    """Append a part to a sequence; logits as of `Decoder.prefill`, after an image always of its last token alone."""
    if part.image is None:
        return decoder.prefill(part.token_ids, cache, every_position=every_position)
    return cast("ImageDecoder", decoder).prefill_image(part.image, cache)


def _key(image: Image.Image) -> int:
    content = hashlib.blake2b(image.tobytes(), digest_size=16, key=f"{image.mode} {image.size}".encode())
    return -1 - int.from_bytes(content.digest(), "big")
