"""Exact conversion of a GGUF file of the Llama architecture to a folder in Hugging Face layout.

It writes two weight files. ``model.safetensors`` has dequantized float32 weights, for every reader of the layout.
``blocks.safetensors`` has the file's own quantized blocks (see ``blocks``) as ``<parameter>.q``, ``.scale`` and
``.minimum``, so that int4 computes with the numbers of the file, and nothing is quantized a second time.

llama.cpp stores the rows of the query and key projections in the order of its own rotary embedding; here they are in
transformers' order, in both files. Matrices are converted in chunks of rows, which bounds the memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.catalog import blocks
from workbench.catalog.gguf_tokenizer import write_tokenizer
from workbench.catalog.progress import Progress
from workbench.catalog.safetensors_file import SafetensorsWriter
from workbench.errors import ModelFormatError
from workbench.gguf_files import config_of, read_gguf_model
from workbench.gguf_files.tensor_names import LAYOUTS, row_order

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

_CHUNK_ELEMENTS = 4 * 2**20  # 16 MB of float32

_LAYOUT = LAYOUTS["llama"]

_CONFIG_KEYS = (
    *("architectures", "model_type", "dtype", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings"),
    *("rms_norm_eps", "rope_parameters", "attention_bias", "mlp_bias", "tie_word_embeddings", "vocab_size"),
    *("bos_token_id", "eos_token_id", "unk_token_id", "pad_token_id"),
)


def convert_gguf(source: Path, folder: Path, progress: Progress) -> None:
    """Write config, tokenizer and both weight files into ``folder``.

    Raises ValueError, KeyError or IndexError if the file is damaged or not a Llama, OSError if writing fails.
    """
    from gguf import GGUFReader

    reader = GGUFReader(source)
    architecture = _field(reader, "general.architecture")
    if architecture != "llama":
        raise ValueError(f"architecture {architecture!r}; only llama can be converted")
    fields = {name: _field(reader, name) for name in reader.fields}
    tensors = _in_order(reader.tensors)
    config = _config(source)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", _generation_config(config))
    write_tokenizer(fields, folder, config["max_position_embeddings"])
    _write_weights(tensors, config, folder, progress)


def hf_name(gguf_name: str) -> str:
    """Return the parameter's name in LlamaForCausalLM; raise ValueError for a tensor that it does not have."""
    name = _LAYOUT.name_in_transformers(gguf_name)
    if name == gguf_name or not name.endswith(".weight"):
        raise ValueError(f"tensor {gguf_name!r} has no place in a Llama model")
    return name


def _field(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise KeyError(f"the file has no field {name!r}")
    return field.contents()


def _in_order(tensors: list[ReaderTensor]) -> dict[str, ReaderTensor]:
    """Return tensors by parameter name, in the order of transformers' state dict."""
    leaves = list(_LAYOUT.layers.values())

    def position(name: str) -> tuple[int, int]:
        match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        if match:
            return int(match[1]), leaves.index(match[2])
        return (-1, 0) if name.startswith("model.embed") else (10**9, int(name.startswith("lm_head")))

    named = {hf_name(tensor.name): tensor for tensor in tensors}
    return dict(sorted(named.items(), key=lambda item: position(item[0])))


def _config(source: Path) -> dict[str, Any]:
    """Return the config that transformers' own GGUF loading derives from the same fields.

    Which keys there are, and in which order, never changes: capsules compare the checksums of a model's files.
    """
    try:
        model = read_gguf_model(source)
        found = config_of(model) | {"unk_token_id": model.header.whole("tokenizer.ggml.unknown_token_id")}
    except ModelFormatError as error:
        raise ValueError(str(error)) from error
    found["rope_parameters"] = dict(sorted(found["rope_parameters"].items(), reverse=True))
    return {key: found[key] for key in _CONFIG_KEYS if found[key] is not None}


def _generation_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in config}


def _write_weights(
    tensors: Mapping[str, ReaderTensor], config: Mapping[str, Any], folder: Path, progress: Progress
) -> None:
    shapes = {name: tuple(int(size) for size in reversed(tensor.shape)) for name, tensor in tensors.items()}
    kinds = {n: t.tensor_type.name for n, t in tensors.items() if t.tensor_type.name in blocks.BLOCK_TYPES}
    full = {name: ("float32", shape) for name, shape in shapes.items()}
    parts = {
        f"{name}.{key}": layout
        for name, kind in kinds.items()
        for key, layout in blocks.part_layouts(kind, *shapes[name]).items()
    }
    metadata = {
        "format": "workbench-blocks",
        "format_version": blocks.FORMAT_VERSION,
        "group_size": str(blocks.GROUP_SIZE),
        "types": json.dumps(kinds),
    }
    total = sum(int(np.prod(shape)) * 4 for shape in shapes.values())
    done = 0
    with (
        SafetensorsWriter(folder / "model.safetensors", full, {"format": "pt"}) as model_file,
        SafetensorsWriter(folder / "blocks.safetensors", parts, metadata) as blocks_file,
    ):
        for name, tensor in tensors.items():
            data = tensor.data if len(shapes[name]) == 1 else _in_hf_row_order(name, tensor.data, config)
            step = max(1, _CHUNK_ELEMENTS // (shapes[name][-1] if len(shapes[name]) > 1 else 1))
            for first in range(0, shapes[name][0], step):
                rows = _dequantized(tensor, data[first : first + step])
                model_file.write_rows(name, first, rows)
                if name in kinds:
                    split = _split_exactly(name, kinds[name], data[first : first + step], rows)
                    for key, part in split.items():
                        blocks_file.write_rows(f"{name}.{key}", first, part)
                done += rows.nbytes
                progress("convert", done, total)


def _in_hf_row_order(name: str, data: NDArray[Any], config: Mapping[str, Any]) -> NDArray[Any]:
    """Undo llama.cpp's interleaving of each head's two rotary halves; this moves whole rows and no block."""
    if name.endswith("q_proj.weight"):
        heads = config["num_attention_heads"]
    elif name.endswith("k_proj.weight"):
        heads = config["num_key_value_heads"]
    else:
        return data
    return data[row_order(data.shape[0], heads)]


def _dequantized(tensor: ReaderTensor, data: NDArray[Any]) -> NDArray[np.float32]:
    from gguf import dequantize

    return np.asarray(dequantize(data, tensor.tensor_type), dtype=np.float32)


def _split_exactly(name: str, kind: str, data: NDArray[Any], expected: NDArray[np.float32]) -> blocks.Parts:
    """Split blocks into tensors; raise ValueError unless these reproduce the same float32 numbers bit for bit."""
    parts = blocks.split_blocks(kind, data)
    if not np.array_equal(blocks.dequantize(parts).view(np.uint32), expected.view(np.uint32)):
        raise ValueError(f"the {kind} blocks of {name} do not reproduce its dequantized values")
    return parts


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    # The same bytes on every system: capsules compare the checksums of a model's files.
    path.write_text(json.dumps(content, indent=2), encoding="utf-8", newline="\n")
