from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from workbench.engine.packed_file import (
    checksum_path,
    model_key,
    packed_facts,
    read_packed,
    remove_packed_of,
    write_packed,
)

TENSORS = {
    "codes": torch.arange(37, dtype=torch.uint8),
    "scales": torch.randn(5, 3),
    "half": torch.ones(2, 2).bfloat16(),
}


def written(folder: Path, tensors: dict[str, Tensor] | None = None) -> Path:
    path = folder / "model.packed"
    write_packed(path, {"name": "model"}, TENSORS if tensors is None else tensors)
    return path


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.tuples(
            st.sampled_from([torch.uint8, torch.int8, torch.int64, torch.bfloat16, torch.float32]),
            st.lists(st.integers(0, 5), max_size=3),
        ),
        max_size=4,
    )
)
def test_what_is_read_is_what_was_written_and_begins_at_a_cache_line(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[torch.dtype, list[int]]]
) -> None:
    tensors = {name: (torch.rand(shape) * 100).to(dtype) for name, (dtype, shape) in shapes.items()}
    found = read_packed(written(tmp_path_factory.mktemp("packed"), tensors))
    assert found is not None
    facts, read = found
    assert facts == {"name": "model"}
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read[name], tensor)
        assert tensor.numel() == 0 or read[name].data_ptr() % 64 == 0


def test_a_file_whose_content_has_changed_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    assert read_packed(path) is None


def test_a_file_that_was_only_copied_is_read_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    os.utime(path, ns=(0, 0))
    assert read_packed(path) is not None
    monkeypatch.setattr("hashlib.sha256", None)
    assert read_packed(path) is not None


@pytest.mark.parametrize("kept", [0, 4, 100])
def test_a_truncated_file_is_not_read(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    assert read_packed(path) is None


def test_a_file_without_its_checksum_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    checksum_path(path).write_text(json.dumps({"stamp": [0, 0]}))
    assert read_packed(path) is None
    checksum_path(path).unlink()
    assert read_packed(path) is None
    assert read_packed(tmp_path / "absent.packed") is None


def test_a_write_that_fails_leaves_nothing_and_keeps_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    before = sorted(tmp_path.iterdir())

    def fail(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        written(tmp_path, {"other": torch.zeros(3)})
    assert sorted(tmp_path.iterdir()) == before
    found = read_packed(path)
    assert found is not None
    assert list(found[1]) == list(TENSORS)


def test_facts_are_read_alone_and_those_of_a_damaged_file_are_empty(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert packed_facts(path) == {"name": "model"}
    path.write_bytes(b"\xff" * 20)
    assert packed_facts(path) == {}


def test_removing_a_model_frees_its_files_in_every_precision_and_no_others(tmp_path: Path) -> None:
    model, other = tmp_path / "model", tmp_path / "other"
    paths = [tmp_path / f"{model_key(one)}-{name}.packed" for one in (model, other) for name in ("int4-a", "int8-b")]
    for path in paths:
        write_packed(path, {}, TENSORS)
    sizes = [path.stat().st_size for path in paths]
    assert remove_packed_of(model, tmp_path) == sum(sizes[:2])
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert [checksum_path(path).exists() for path in paths] == [False, False, True, True]
    assert remove_packed_of(model, tmp_path) == 0
