"""Encoding of conversations with images, for vision-language models.

The template writes a placeholder token for each image, which is replaced here by the tokens of the model's processor. A
user cannot spell a placeholder: in a user's text, its characters have been encoded as text by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import ContextLengthError, InvalidRequestError, UnsupportedContentError
from workbench.prompts.control_tokens import EncodedPrompt
from workbench.prompts.encoding import PromptEncoder
from workbench.prompts.images import MAX_IMAGES, ImageSources, open_image
from workbench.protocol import ImageMedia, UserMessage

if TYPE_CHECKING:
    from PIL import Image

    from workbench.prompts.tools.definitions import Toolset
    from workbench.protocol import InterleavedTextMedia, Message, ToolPromptFormat
    from workbench.text_tokenizer import TextTokenizer


class ReadImage(Protocol):
    """An image as processed for a model; the engine alone reads its contents."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of the image in the prompt."""

    def placed_at(self, start: int) -> Any:
        """Return the image with the index of its first token."""


class ImageReader(Protocol):
    """Processor of a model for one image at a time."""

    @property
    def token_id(self) -> int:
        """Id of the placeholder that the template writes."""

    def read(self, image: Image.Image, field: str) -> ReadImage:
        """Return the image as the model reads it; ``field`` is its path in the request, for errors."""


class VisionEncoder(PromptEncoder):
    """Encoder of prompts for a vision-language model; without images it equals `PromptEncoder`.

    Args:
        reader: the model's processor.
        sources: allowed sources of images.
    """

    reads_images = True

    def __init__(
        self,
        tokenizer: TextTokenizer,
        name: str,
        context_length: int | None = None,
        *,
        reader: ImageReader,
        sources: ImageSources,
    ) -> None:
        super().__init__(tokenizer, name, context_length)
        self._reader = reader
        self._sources = sources

    def text_prompt(self, content: InterleavedTextMedia, field: str = "content") -> EncodedPrompt:
        for _, path in _images_of(content, field):
            allowed = "text: a completion cannot read images; use `chat_completion`"
            raise UnsupportedContentError(path, "an image", allowed)
        return super().text_prompt(content, field)

    def chat_prompt(
        self,
        messages: Sequence[Message],
        tools: Toolset | None = None,
        tool_prompt_format: ToolPromptFormat | None = None,
        field: str = "messages",
    ) -> EncodedPrompt:
        """Encode a conversation as `PromptEncoder` does, and open and process the images of the user's messages.

        Raises:
            InvalidRequestError: also if an image is invalid.
            UnsupportedContentError: also for an image in a message that is not the user's, or if the template shows a
                different number of images.
        """
        images = list(_images(messages, field))
        if len(images) > MAX_IMAGES:
            raise InvalidRequestError(field, f"{len(images)} images", f"a conversation of at most {MAX_IMAGES} images")
        prompt = super().chat_prompt(messages, tools, tool_prompt_format, field)
        positions = [
            index
            for index, (token_id, is_control) in enumerate(zip(prompt.token_ids, prompt.is_control, strict=True))
            if is_control and token_id == self._reader.token_id
        ]
        if len(positions) != len(images):
            allowed = f"as many images as the chat template of {self._name} shows: {len(positions)}"
            raise UnsupportedContentError(field, f"{len(images)} images", allowed)
        return self._with_images(prompt, list(zip(positions, images, strict=True)), field)

    def _with_images(
        self, prompt: EncodedPrompt, positions: list[tuple[int, tuple[ImageMedia, str]]], field: str
    ) -> EncodedPrompt:
        token_ids: list[int] = []
        is_control: list[bool] = []
        encoded_images: list[Any] = []
        done = 0
        for position, (media, path) in positions:
            token_ids += prompt.token_ids[done:position]
            is_control += prompt.is_control[done:position]
            image = self._reader.read(open_image(media, path, self._sources), path)
            encoded_images.append(image.placed_at(len(token_ids)))
            token_ids += image.token_ids
            is_control += [True] * len(image.token_ids)
            done = position + 1
            # Checked before the next image is opened: pixels are large, and a few images may fill the context.
            if self._context_length is not None and len(token_ids) >= self._context_length:
                raise ContextLengthError(len(token_ids) + len(prompt.token_ids) - done, self._context_length, field)
        token_ids += prompt.token_ids[done:]
        is_control += prompt.is_control[done:]
        return EncodedPrompt(prompt.text, tuple(token_ids), tuple(is_control), tuple(encoded_images))


def _images(messages: Sequence[Message], field: str) -> Iterator[tuple[ImageMedia, str]]:
    """Yield every image of the user's messages and its path, in reading order; refuse images in other messages."""
    for index, message in enumerate(messages):
        for name in ("content", "context"):
            content = getattr(message, name, None)
            for media, path in _images_of(content, f"{field}[{index}].{name}"):
                if not isinstance(message, UserMessage):
                    raise UnsupportedContentError(path, "an image", "text: only user messages can contain images")
                yield media, path


def _images_of(content: InterleavedTextMedia | None, field: str) -> Iterator[tuple[ImageMedia, str]]:
    if isinstance(content, ImageMedia):
        yield content, f"{field}.image"
    if isinstance(content, list):
        for index, part in enumerate(content):
            if isinstance(part, ImageMedia):
                yield part, f"{field}[{index}].image"
