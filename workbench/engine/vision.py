"""Vision-language models: the families that are read, their processors without torchvision, and their decoder.

transformers has many more families than stand here. Each of these is proven, in the tests, to compute for images read
one at a time and tokens read in pieces what its own forward computes for all of them at once; what is not proven is
refused. Videos are never read, so that the parts of a processor that are for them alone may be missing.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from workbench.engine.decoders import GeneralCache, GeneralDecoder, Ways
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
    """How one family of vision-language models is read."""

    processor: str
    """Its processor's class in transformers."""
    also: frozenset[str] = frozenset()
    """Other classes that a folder may name, for which ``processor`` stands in."""
    on_grid: bool = False
    """Whether the tokens of an image have positions of height and width, of which the text after it must know."""


FAMILIES = {
    "idefics3": Family("Idefics3Processor"),
    "internvl": Family("InternVLProcessor"),
    "llava": Family("LlavaProcessor"),
    "llava_next": Family("LlavaNextProcessor"),
    "qwen2_5_vl": Family("Qwen2_5_VLProcessor", on_grid=True),
    "qwen2_vl": Family("Qwen2VLProcessor", on_grid=True),
    "qwen3_vl": Family("Qwen3VLProcessor", on_grid=True),
    # SmolVLM's own processor differs in its videos alone, for which it wants a package to spell numbers.
    "smolvlm": Family("Idefics3Processor", also=frozenset({"SmolVLMProcessor"})),
}
"""By ``model_type`` of the config."""


def family_of(config: PreTrainedConfig, folder: Path) -> Family | None:
    """The family of a vision-language model; None for a text model, and for one that also loads as a text model.

    Raises:
        ModelFormatError: a vision-language model of a family that is not read.
    """
    kind = config.model_type
    if kind in FAMILIES or kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return FAMILIES.get(kind)
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return None
    raise ModelFormatError(
        f"{folder} holds a vision-language model of the family {kind}, which is not supported; "
        f"supported families: {', '.join(FAMILIES)}"
    )


def load_reader(folder: Path, family: Family, tokenizer: PreTrainedTokenizerFast) -> ImageReader:
    """The folder's processor, with the Pillow form of its image processor.

    Args:
        tokenizer: for the processor's own use; it may be given tokens that the folder's files leave out.

    Raises:
        ModelFormatError: the folder lacks a processor, or names one of another family.
    """
    paths = (folder / "processor_config.json", folder / "preprocessor_config.json")  # in older folders the second alone
    settings, of_images = (read_json(path) if path.exists() else {} for path in paths)
    named = settings.get("processor_class") or of_images.get("processor_class") or family.processor
    if named not in {family.processor, *family.also}:
        raise ModelFormatError(f"{folder} asks for {named}, but for this family only {family.processor} is supported")
    from transformers import AutoImageProcessor  # takes its time, and text models do without

    try:
        images = AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        reader = ImageReader(_processor(getattr(transformers, family.processor), images, tokenizer, settings))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelFormatError(f"{folder} has no image processor that can be loaded: {reason}") from error
    return reader


def processor_template(folder: Path) -> str | None:
    """The chat template where older folders of these families have it: beside the processor, not the tokenizer."""
    path = folder / "chat_template.json"
    if not path.exists() or (folder / "chat_template.jinja").exists():
        return None
    return str(read_json(path).get("chat_template") or "") or None


def _processor(kind: Any, images: Any, tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any]) -> Any:
    """A processor for still images: one for videos cannot even be made without torchvision."""
    taken = inspect.signature(kind.__init__).parameters
    options = {name: settings[name] for name in taken.keys() & settings.keys() if not name.endswith("processor")}
    if "video_processor" in taken:
        options["video_processor"] = None

    class StillImages(kind):  # type: ignore[misc]  # the parts that it has are told by this signature
        def __init__(self, image_processor: Any, tokenizer: PreTrainedTokenizerFast) -> None:
            super().__init__(image_processor=image_processor, tokenizer=tokenizer, **options)

    return StillImages(images, tokenizer)


def vision_decoder(model: PreTrainedModel, family: Family) -> VisionDecoder:
    """The decoder for a model of the family."""
    return GridDecoder(model) if family.on_grid else VisionDecoder(model)


class VisionDecoder(GeneralDecoder):
    """A vision-language model through its own ``forward``; satisfies `images.ImageDecoder`."""

    def prefill_image(self, image: PromptImage, cache: GeneralCache) -> Tensor:
        tensors = {name: tensor.to(self.model.device) for name, tensor in image.tensors.items()}
        return self._forward(image.token_ids, cache, logits_to_keep=1, **tensors)


class GridDecoder(VisionDecoder):
    """For the Qwen-VL families, whose positions are triples: an image takes up fewer of them than it has tokens.

    transformers keeps the difference in the model, for one sequence at a time; here each cache knows its own.
    """

    model: Any

    def new_cache(self) -> GridCache:
        return GridCache(self._new_past(), self.ways)

    def _forward(self, token_ids: Sequence[int], cache: GeneralCache, **options: Any) -> Tensor:
        assert isinstance(cache, GridCache), "a cache goes back only to the decoder that made it"
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
    """Tokens of an image in a cache, and how many more they are than the positions that they take up."""

    start: int
    end: int
    skipped: int


class GridCache(GeneralCache):
    """Knows how many positions its images have left out."""

    def __init__(self, past: Any, ways: Ways, token_ids: Sequence[int] = ()) -> None:
        super().__init__(past, ways, token_ids)
        self.images: list[_Span] = []

    @property
    def next_position(self) -> int:
        return self.length - sum(span.skipped for span in self.images)

    def fork(self, length: int) -> Self | None:
        kept = [span for span in self.images if span.start < length]
        if any(span.end > length for span in kept):  # within an image: what lies left of the cut cannot be told
            return None
        copy = super().fork(length)
        if copy is not None:
            copy.images = kept
        return copy
