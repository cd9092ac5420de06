"""LoRA adapters written without peft, whose import takes seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file


def write_adapter(folder: Path, shapes: Mapping[str, tuple[int, int]], *, rank: int = 8) -> Path:
    """Write an adapter with small random weights in peft's layout, and return its folder.

    Args:
        shapes: the adapted modules' shapes, (out, in), by their names in the base model.
    """
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for module, (out, inputs) in shapes.items():
        for part, shape in (("A", (rank, inputs)), ("B", (out, rank))):
            tensors[f"base_model.model.{module}.lora_{part}.weight"] = torch.randn(shape, generator=generator) / 100
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 16}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": sorted(shapes)}))
    return folder
