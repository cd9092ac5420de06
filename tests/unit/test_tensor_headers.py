"""Headers of safetensors files are read as the format's own package reads them, and hostile ones are refused."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tests.budget import budget
from workbench.catalog.folders import check_folder
from workbench.engine.adapters import read_adapter
from workbench.engine.memory import file_shapes
from workbench.engine.model_folder import check_folder as check_engine_folder
from workbench.errors import ModelFormatError
from workbench.found.safetensors_folder import LONGEST_JSON_BYTES, read_folder
from workbench.tensor_headers import read_safetensors_header

TENSORS: dict[str, Any] = {
    "a.weight": np.ones((2, 3), np.float32),
    "b": np.ones(4, np.float16),
    "scalar": np.ones((), np.int64),
    "empty": np.ones((0, 5), np.uint8),
}


def judged(path: Path) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Return what the package reads; None if it refuses the file."""
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except SafetensorError:
        return None


def test_a_header_is_read_as_the_package_reads_it_or_refused(tmp_path: Path) -> None:
    path, source = tmp_path / "x.safetensors", random.Random(8)
    save_file(TENSORS, path, {"format": "pt"})
    assert read_safetensors_header(path) == judged(path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + length], whole[8 + length :]
    words = [b"F16", b"F4", b"F6_E2M3", b"BOOL", b"I8", b"-1", b"1.0", b"true", b"null", b"[]", b"{}", b"9" * 30, b"0"]
    read = 0
    for number in range(budget(1500)):
        damaged, path = bytearray(header), tmp_path / f"{number}.safetensors"
        for _ in range(source.choice([1, 1, 2])):
            place = source.randrange(len(damaged))
            if number % 2:
                damaged[place : place + source.choice([1, 1, 2, 5])] = source.choice(words)
            else:
                damaged[place] = source.randrange(256)
        rest = data[: source.choice([len(data), len(data), len(data) - 1, 0])]
        path.write_bytes(len(damaged).to_bytes(8, "little") + damaged + rest)
        try:
            found = read_safetensors_header(path)
        except ModelFormatError:
            continue
        assert found == judged(path), bytes(damaged)
        read += 1
    assert read > budget(1500) // 100


def test_a_long_header_is_loaded_but_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, {"notes": "x" * LONGEST_JSON_BYTES})
    (tmp_path / "config.json").write_text("{}")
    assert read_safetensors_header(path) == judged(path)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors is damaged: it declares"):
        read_folder(tmp_path)


def test_hostile_sizes_are_refused_by_all_who_read_headers(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: list[tuple[Any, int | None, bytes]] = [
        ({"a": entry}, 2**63, bytes(8)),
        ({"a": entry}, LONGEST_JSON_BYTES + 1, bytes(LONGEST_JSON_BYTES)),
        ({"a": entry}, None, bytes(9)),
        ({"a": entry | {"shape": [2**62] * 50_000}}, None, bytes(8)),
        ({"a": entry | {"shape": [2**47] * 50_000}}, None, bytes(8)),
        ({"a": entry | {"shape": [2**64, 0], "data_offsets": [0, 0]}}, None, b""),
        ({"a": entry | {"data_offsets": [0, 2**70]}}, None, bytes(8)),
        ({"a": entry, "b": entry}, None, bytes(8)),
        ({"a": entry | {"data_offsets": [8, 16]}}, None, bytes(16)),
        ({"__metadata__": {"a": 5}, "b": entry}, None, bytes(8)),
    ]
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    for folder in (model, adapter):
        folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "tokenizer.json").write_text("{}")
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    paths = model / "model.safetensors", adapter / "adapter_model.safetensors"
    readers: list[Callable[[], object]] = [
        lambda: check_folder(model),
        lambda: check_engine_folder(model),
        lambda: file_shapes(paths[0]),
        lambda: read_folder(model),
        lambda: read_adapter(adapter, model, {}),
    ]
    for header, declared, data in headers:
        encoded = json.dumps(header).encode()
        for path in paths:
            path.write_bytes((declared or len(encoded)).to_bytes(8, "little") + encoded + data)
        start = time.thread_time()
        for read in readers:
            with pytest.raises(ModelFormatError, match=r"model\.safetensors is damaged"):
                read()
        assert time.thread_time() - start < 1.0
