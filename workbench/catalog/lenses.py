"""Jacobian lenses of catalog models: files of this package, made by ``scripts/fit_lens.py``.

Importing this module loads no lens; the engine reads the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbench.catalog.digests import read_digest
from workbench.errors import ChecksumError

LENSES = Path(__file__).with_name("lenses")
"""Folder of the files, each named after its model."""

_SHA256: Mapping[str, str] = {
    "smollm2-135m-instruct": "22b2394c81f36a7c1feeab9daf91490a7d09fdfd45a8cf0c134a9108c9913126"
}
"""Lower-case hex digest of each file, by the name of its model."""


LENS_MODELS = tuple(_SHA256)
"""Names of the models that have a lens."""


def lens_path(name: str) -> Path | None:
    """Return the file with the Jacobian lens of a catalog model, its checksum verified; None if there is none.

    Raises:
        ChecksumError: the file is missing, or is another.
    """
    if (expected := _SHA256.get(name)) is None:
        return None
    path = LENSES / f"{name}.safetensors"
    try:
        found = read_digest(path)
    except OSError as error:
        raise ChecksumError(f"{path} cannot be read: {error.strerror}. Install the workbench again.") from error
    if found != expected:
        raise ChecksumError(
            f"{path} was changed: expected SHA-256 {expected}, found {found}. Install the workbench again."
        )
    return path
