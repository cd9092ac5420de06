"""One file with named tensors and JSON facts, which is mapped into memory instead of being read.

Eight bytes with the length of a JSON header, the header, then the tensors. Unlike in safetensors, each tensor begins at
a cache line, as the kernels' vector loads prefer. A second, small file has the checksum of the first with its size and
time: the checksum is compared again only if one of the two has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.paths import write_whole

if TYPE_CHECKING:
    from torch import Tensor

PACKED = "packed"
"""Folder in the cache for packed models."""

SUFFIX = ".packed"

_ALIGNMENT = 64
"""Bytes of a cache line."""


def write_packed(path: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file that `read_packed` returns, complete or not at all.

    Args:
        facts: JSON values by name.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    entries: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        start = _aligned(end)
        end = start + tensor.nbytes
        entries[name] = {"start": start, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": [*tensor.shape]}
    header = json.dumps({"facts": facts, "tensors": entries, "bytes": end}).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    partial, digest = path.with_suffix(f".{os.getpid()}"), hashlib.sha256()
    try:
        with partial.open("wb") as file:
            position = -len(header) - 8
            for start, content in [
                (position, len(header).to_bytes(8, "little") + header),
                *((entries[name]["start"], _bytes(tensor)) for name, tensor in tensors.items()),
            ]:
                padded = [b"\0" * (start - position), content]
                for part in padded:
                    file.write(part)
                    digest.update(part)
                position = start + len(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _write_checksum(path, digest.hexdigest())


def read_packed(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return the facts of a file and its tensors, which are views of the mapped file; None unless it is whole."""
    import torch

    try:
        if not _is_unchanged(path):
            return None
        header, start = _header(path)
        mapped = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None
    content = mapped[start:]
    return header["facts"], {name: _view(content, entry) for name, entry in header["tensors"].items()}


def packed_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a file without a comparison of its checksum; empty if it cannot be read."""
    try:
        facts: dict[str, Any] = _header(path)[0]["facts"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return facts


def remove_packed(path: Path) -> None:
    """Delete a file and its checksum; on Windows a file that another process has mapped stays."""
    for one in (checksum_path(path), path):
        with suppress(OSError):
            one.unlink(missing_ok=True)


def remove_packed_of(model: Path, folder: Path) -> int:
    """Delete all files in a folder that were packed from one model, in any precision; return their size in bytes."""
    paths = [*folder.glob(f"{model_key(model)}-*{SUFFIX}")]
    freed = sum(path.stat().st_size for path in paths)
    for path in paths:
        remove_packed(path)
    return freed


def model_key(model: Path) -> str:
    """Return the beginning of the names of files that were packed from a model's folder."""
    return hashlib.sha256(os.fsencode(model.resolve())).hexdigest()[:24]


def checksum_path(path: Path) -> Path:
    """Return the path of the small file beside a packed one."""
    return path.with_suffix(".json")


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file, and the position of its first tensor."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(min(length, path.stat().st_size)))
    return header, 8 + length


def _view(content: Tensor, entry: Mapping[str, Any]) -> Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, entry["dtype"])
    shape: list[int] = entry["shape"]
    count = dtype.itemsize * torch.Size(shape).numel()
    return content[entry["start"] : entry["start"] + count].view(dtype).view(shape)


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def _aligned(position: int) -> int:
    return position + -position % _ALIGNMENT


def _is_unchanged(path: Path) -> bool:
    """Return whether a file has the content that was written; hash it only if its size or time is another."""
    recorded = json.loads(checksum_path(path).read_text(encoding="utf-8"))
    stat = path.stat()
    if [stat.st_size, stat.st_mtime_ns] == recorded["stamp"]:
        return True
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != recorded["sha256"]:
        return False
    _write_checksum(path, sha256)
    return True


def _write_checksum(path: Path, sha256: str) -> None:
    stat = path.stat()
    write_whole(checksum_path(path), json.dumps({"sha256": sha256, "stamp": [stat.st_size, stat.st_mtime_ns]}))
