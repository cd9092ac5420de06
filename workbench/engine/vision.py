"""Vision-language models: the supported families, their processors without torchvision, and their decoders.

transformers has more families. For each one here the tests prove that images prefilled one at a time and text in chunks
give what its own forward gives for all of them together; the others are refused. Videos are not supported, so the video
part of a processor may be missing.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from workbench.engine.decoders import CacheFeatures, GeneralCache, GeneralDecoder
from workbench.engine.images import ImageReader
from workbench.engine.model_folder import read_json
from workbench.errors import ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from workbench.engine.images import PromptImage


@dataclass(frozen=True, slots=True)
class Family:
    """A supported family of vision-language models."""

    processor: str
    """Name of its processor class in transformers."""
    also: frozenset[str] = frozenset()
    """Other processor classes that a folder may name, and that ``processor`` replaces."""
    on_grid: bool = False
    """Whether image tokens have positions of height and width, on which the positions of later text depend."""


FAMILIES = {
    "idefics3": Family("Idefics3Processor"),
    "internvl": Family("InternVLProcessor"),
    "llava": Family("LlavaProcessor"),
    "llava_next": Family("LlavaNextProcessor"),
    "qwen2_5_vl": Family("Qwen2_5_VLProcessor", on_grid=True),
    "qwen2_vl": Family("Qwen2VLProcessor", on_grid=True),
    "qwen3_vl": Family("Qwen3VLProcessor", on_grid=True),
    # SmolVLM's own processor differs only in videos, and needs num2words for them.
    "smolvlm": Family("Idefics3Processor", also=frozenset({"SmolVLMProcessor"})),
}
"""Supported families by the config's ``model_type``."""


def family_of(config: PreTrainedConfig, folder: Path) -> Family | None:
    """Return the family of a vision-language model; None for models that transformers can load as text models.

    Raises:
        ModelFormatError: the family is not supported.
    """
    kind = config.model_type
    if kind in FAMILIES:
        return FAMILIES[kind]
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return None
    raise ModelFormatError(
        f"{folder} holds a vision-language model of the family {kind}, which is not supported; "
        f"supported families: {', '.join(FAMILIES)}"
    )


def load_reader(folder: Path, family: Family, tokenizer: PreTrainedTokenizerFast) -> ImageReader:
    """Return the folder's processor, with its Pillow image processor.

    Args:
        tokenizer: for the processor alone, which may add tokens to it.

    Raises:
        ModelFormatError: the folder lacks a processor, or names one of another family.
    """
    paths = (folder / "processor_config.json", folder / "preprocessor_config.json")  # older ones lack the first
    settings, of_images = (read_json(path) if path.exists() else {} for path in paths)
    named = settings.get("processor_class") or of_images.get("processor_class") or family.processor
    if named not in {family.processor, *family.also}:
        raise ModelFormatError(f"{folder} asks for {named}, but for this family only {family.processor} is supported")
    import transformers

    try:
        images = transformers.AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        reader = ImageReader(_processor(getattr(transformers, family.processor), images, tokenizer, settings))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelFormatError(f"{folder} has no image processor that can be loaded: {reason}") from error
    return reader


def processor_template(folder: Path) -> str | None:
    """Return the processor's chat template, which older folders of these families have in a file of its own."""
    path = folder / "chat_template.json"
    if not path.exists() or (folder / "chat_template.jinja").exists():
        return None
    return str(read_json(path).get("chat_template") or "") or None


def _processor(kind: Any, images: Any, tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any]) -> Any:
    """Return a processor for images only; its video processor would need torchvision."""
    parameters = inspect.signature(kind.__init__).parameters
    options = {name: settings[name] for name in parameters.keys() & settings.keys() if not name.endswith("processor")}
    if "video_processor" in parameters:
        options["video_processor"] = None

    class ImagesOnly(kind):  # type: ignore[misc]  # transformers reads a processor's parts from this signature
        def __init__(self, image_processor: Any, tokenizer: PreTrainedTokenizerFast) -> None:
            super().__init__(image_processor=image_processor, tokenizer=tokenizer, **options)

    return ImagesOnly(images, tokenizer)


def vision_decoder(model: PreTrainedModel, family: Family) -> VisionDecoder:
    """Return the decoder for a model of the family."""
    return GridDecoder(model) if family.on_grid else VisionDecoder(model)


class VisionDecoder(GeneralDecoder):
    """A vision-language model, run through its own ``forward``; satisfies `images.ImageDecoder`."""

    def prefill_image(self, image: PromptImage, cache: GeneralCache) -> Tensor:
        tensors: dict[str, Any] = {name: tensor.to(self.model.device) for name, tensor in image.tensors.items()}
        return self._forward(image.token_ids, cache, logits_to_keep=1, **tensors)


class GridDecoder(VisionDecoder):
    """Decoder of the Qwen-VL families, whose positions are triples; an image has fewer positions than tokens.

    transformers stores the difference in the model, for one sequence; here each cache stores its own.
    """

    model: Any

    def new_cache(self) -> GridCache:
        return GridCache(self._new_past(), self.features)

    def _forward(self, token_ids: Sequence[int], cache: GeneralCache, **options: Any) -> Tensor:
        assert isinstance(cache, GridCache), "a cache may only be passed to the decoder that made it"
        first, count = cache.next_position, len(token_ids)
        if "image_grid_thw" in options:
            positions, _ = self.model.model.get_rope_index(
                torch.tensor([token_ids], device=self.model.device),
                mm_token_type_ids=options["mm_token_type_ids"],
                image_grid_thw=options["image_grid_thw"],
            )
        else:
            positions = torch.arange(count, device=self.model.device).expand(3, 1, count)
        logits = super()._forward(token_ids, cache, position_ids=positions + first, **options)  # (3, 1, tokens)
        if "image_grid_thw" in options:
            skipped = count - int(positions.max()) - 1
            cache.images.append(_Span(cache.length - count, cache.length, skipped))
        return logits


@dataclass(frozen=True, slots=True)
class _Span:
    """The tokens of an image in a cache; ``skipped`` is their number minus that of their positions."""

    start: int
    end: int
    skipped: int


class GridCache(GeneralCache):
    """A cache with the spans of its images, from which the next position follows."""

    def __init__(self, past: Any, features: CacheFeatures, token_ids: Sequence[int] = ()) -> None:
        super().__init__(past, features, token_ids)
        self.images: list[_Span] = []

    @property
    def next_position(self) -> int:
        return self.length - sum(span.skipped for span in self.images)

    def fork(self, length: int) -> Self | None:
        images = [span for span in self.images if span.start < length]
        if any(span.end > length for span in images):  # an image cannot be cropped
            return None
        copy = super().fork(length)
        if copy is not None:
            copy.images = images
        return copy
