"""Small random vision-language models of every family that is read, as folders with their processors."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from tests.tiny_models import bpe_tokenizer, llama_like, make_generation_config

ROWS_AND_COLUMNS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
IDEFICS_TOKENS = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *ROWS_AND_COLUMNS)
QWEN_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
INTERNVL_TOKENS = {
    "context_image_token": "<IMG_CONTEXT>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "video_token": "<video>",
}

TEXT = llama_like(hidden_size=64, intermediate_size=128)  # of widths that the 4- and 8-bit kernels take
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
GRID = [[28, 56], [56, 28], [56, 56]]

PLACES = {"internvl": "<IMG_CONTEXT>"} | dict.fromkeys(
    ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), "<|vision_start|><|image_pad|><|vision_end|>"
)
"""What the template writes where an image goes, in families in which it is not ``<image>``."""


def template(family: str) -> str:
    """Turns as of text models, whose content is a list of parts."""
    place = PLACES.get(family, "<image>")
    part = "{% if part['type'] == 'image' %}" + place + "{% else %}{{ part['text'] }}{% endif %}"
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}" + part + "{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """An image of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save_vision_model(folder: Path, family: str) -> Path:
    """Write a random model of the family with its processor's settings, and return the folder."""
    config, image_processor, tokenizer, settings = FAMILIES[family]()
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(sum(family.encode()))
        model = transformers.AutoModelForImageTextToText.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.3)
    finally:
        torch.random.set_rng_state(state)
    model.generation_config = make_generation_config(eos_token_id=0, pad_token_id=0, do_sample=False)
    model.save_pretrained(folder)
    tokenizer.chat_template = template(family)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder


Made = tuple[Any, Any, Any, dict[str, Any]]
"""Config, image processor, tokenizer, and the processor's settings."""


def _tokenizer(*tokens: str) -> tuple[Any, Callable[[str], int]]:
    tokenizer = bpe_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer, tokenizer.convert_tokens_to_ids


def _pillow(module: str, name: str) -> Any:
    """transformers keeps the Pillow forms of its image processors in modules of their own."""
    return getattr(importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}"), name)


def _llama(tokenizer: Any) -> Any:
    return transformers.LlamaConfig(vocab_size=len(tokenizer), **TEXT)


def _llava() -> Made:
    tokenizer, id_of = _tokenizer("<image>")
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(projection_dim=32, **VISION),
        text_config=_llama(tokenizer),
        image_token_index=id_of("<image>"),
        vision_feature_layer=-1,
    )
    images = _pillow("clip", "CLIPImageProcessorPil")(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return config, images, tokenizer, _llava_settings("LlavaProcessor")


def _llava_next() -> Made:
    tokenizer, id_of = _tokenizer("<image>")
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(projection_dim=32, **VISION),
        text_config=_llama(tokenizer),
        image_token_index=id_of("<image>"),
        vision_feature_layer=-1,
        image_grid_pinpoints=GRID,
    )
    images = _pillow("llava_next", "LlavaNextImageProcessorPil")(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=GRID
    )
    return config, images, tokenizer, _llava_settings("LlavaNextProcessor")


def _llava_settings(processor: str) -> dict[str, Any]:
    return {
        "processor_class": processor,
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }


def _idefics3(name: str, processor: str) -> Callable[[], Made]:
    def make() -> Made:
        tokenizer, id_of = _tokenizer(*IDEFICS_TOKENS)
        config = getattr(transformers, f"{name}Config")(
            vision_config=VISION, text_config=_llama(tokenizer), image_token_id=id_of("<image>"), scale_factor=2
        )
        images = _pillow(name.lower(), f"{name}ImageProcessorPil")(
            size={"longest_edge": 56}, max_image_size={"longest_edge": 28}
        )
        return config, images, tokenizer, {"processor_class": processor, "image_seq_len": 1}

    return make


def _qwen(name: str, **vision: Any) -> Callable[[], Made]:
    def make() -> Made:
        tokenizer, id_of = _tokenizer(*QWEN_TOKENS.values())
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
        text = TEXT | {"vocab_size": len(tokenizer), "rope_parameters": rope}
        if name == "Qwen3VL":
            rope["mrope_interleaved"] = True
            text["head_dim"] = 16
        sizes = {"depth": 2, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
        config = getattr(transformers, f"{name}Config")(
            text_config=text, vision_config=sizes | vision, **{key: id_of(token) for key, token in QWEN_TOKENS.items()}
        )
        images = _pillow("qwen2_vl", "Qwen2VLImageProcessorPil")(
            min_pixels=64, max_pixels=1024, patch_size=4, merge_size=2, temporal_patch_size=2
        )
        return config, images, tokenizer, {"processor_class": f"{name}Processor"}

    return make


def _internvl() -> Made:
    tokenizer, id_of = _tokenizer(*INTERNVL_TOKENS.values())
    tokenizer.init_kwargs["extra_special_tokens"] = INTERNVL_TOKENS
    tokenizer._set_model_specific_special_tokens(INTERNVL_TOKENS)
    config = transformers.InternVLConfig(
        vision_config=VISION | {"image_size": [28, 28], "patch_size": [14, 14]},
        text_config=transformers.Qwen2Config(vocab_size=len(tokenizer), **TEXT),
        image_token_id=id_of("<IMG_CONTEXT>"),
        downsample_ratio=0.5,
    )
    images = _pillow("got_ocr2", "GotOcr2ImageProcessorPil")(
        size={"height": 28, "width": 28}, crop_to_patches=True, max_patches=4
    )
    return config, images, tokenizer, {"processor_class": "InternVLProcessor", "image_seq_length": 1}


_SMALL = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}

FAMILIES: dict[str, Callable[[], Made]] = {
    "idefics3": _idefics3("Idefics3", "Idefics3Processor"),
    "internvl": _internvl,
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_vl": _qwen("Qwen2VL", embed_dim=32, hidden_size=64, mlp_ratio=2),
    "qwen2_5_vl": _qwen("Qwen2_5_VL", window_size=16, fullatt_block_indexes=[1], **_SMALL),
    "qwen3_vl": _qwen("Qwen3VL", deepstack_visual_indexes=[0, 1], num_position_embeddings=16, **_SMALL),
    "smolvlm": _idefics3("SmolVLM", "SmolVLMProcessor"),
}
