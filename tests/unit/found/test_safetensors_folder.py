"""Folders of safetensors are read by their headers, and damaged ones end in a typed error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.budget import budget
from tests.fakes.found_models import write_folder
from workbench.engine.quantization_settings import layout_of, quantization_method
from workbench.errors import ModelFormatError
from workbench.found.safetensors_folder import read_folder


def with_header(folder: Path, header: bytes, length: int | None = None) -> Path:
    size = len(header) if length is None else length
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + header)
    return folder


def test_a_folder_has_what_its_config_and_headers_say(tmp_path: Path) -> None:
    facts = read_folder(write_folder(tmp_path))
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.shapes == {"model.embed_tokens.weight": (32, 64), "model.norm.weight": (64,)}
    assert facts.weights_by_type == {"F16": 2112}
    assert facts.size_bytes == (tmp_path / "model.safetensors").stat().st_size
    assert quantization_method(facts.config) is None


def test_shards_are_added_up(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    entry = {"dtype": "F32", "shape": [100, 64], "data_offsets": [0, 25600]}
    with_header(tmp_path, json.dumps({"__metadata__": {"format": "pt"}, "lm_head.weight": entry}).encode())
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(bytes(25600))
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "others.safetensors").write_bytes(b"not of the model")
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(enumerate(names * 2))}))
    assert read_folder(tmp_path).weights_by_type == {"F16": 2112, "F32": 6400}
    for name in ("../model.safetensors", "/model.safetensors", "..", "", 5, None):
        index.write_text(json.dumps({"weight_map": {"a": names[0], "b": name}}))
        with pytest.raises(ModelFormatError, match=r"index\.json is damaged"):
            read_folder(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "missing.safetensors"}}))
    with pytest.raises(ModelFormatError, match=r"missing\.safetensors cannot be read"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "header, length",
    [
        (b"", 0),
        (b"{}", 2**63),
        (b"{}", 100),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b'{"a": 1}', None),
        (b'{"a": {}}', None),
        (b'{"a": {"dtype": "F32", "shape": 5}}', None),
        (b'{"a": {"dtype": "F32", "shape": [-1]}}', None),
        (b'{"a": {"dtype": "F32", "shape": [1e400]}}', None),
        (b'{"a": {"dtype": "F32", "shape": [99999999999999999999999]}}', None),
        (b'{"a": {"dtype": [], "shape": [1]}}', None),
        (b"\xff\xfe{}", None),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, header: bytes, length: int | None) -> None:
    with pytest.raises(ModelFormatError, match=r"model\.safetensors is damaged"):
        read_folder(with_header(write_folder(tmp_path), header, length))


@pytest.mark.parametrize("config", ["", "[]", "{", '{"a": ' * 100_000, "\x00"])
def test_a_damaged_config_is_refused(tmp_path: Path, config: str) -> None:
    write_folder(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        read_folder(tmp_path)


def test_a_config_of_odd_types_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path)
    values: tuple[object, ...] = (None, 5, "text", [], [5], {})
    for value in values:
        config = dict.fromkeys(("architectures", "quantization_config", "quantization"), value)
        (tmp_path / "config.json").write_text(json.dumps(config))
        facts = read_folder(tmp_path)
        assert facts.architecture is None
        assert isinstance(layout_of(facts.config), str) is (quantization_method(facts.config) is not None)
    options = ("bits", "checkpoint_format", "desc_act", "version", "format", "config_groups", "kv_cache_scheme")
    for method in ("gptq", "awq", "compressed-tensors", "mxfp4", *values):
        for value in (*values, {"group_0": 5}, {"group_0": {"weights": 5}}, {"group_0": {"weights": {"num_bits": []}}}):
            sound = {"quant_method": method, "bits": 4, "format": "pack-quantized"}
            for settings in ({**sound, option: value} for option in options):
                layout = layout_of({"quantization_config": settings})
                assert not isinstance(layout, str) or (layout.isprintable() and len(layout) < 250)


def test_damaged_headers_end_in_a_typed_error_or_are_read(tmp_path: Path) -> None:
    path = write_folder(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    source = random.Random(20)
    refused = 0
    for _ in range(budget(1000)):
        damaged = bytearray(whole)
        for _ in range(source.randint(1, 3)):
            damaged[source.randrange(200)] = source.randrange(256)
        path.write_bytes(damaged)
        try:
            read_folder(tmp_path)
        except ModelFormatError:
            refused += 1
    assert refused > budget(1000) // 3
