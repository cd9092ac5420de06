"""Jacobian lenses of served models: those that were fitted on this machine, and those of the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import catalog
from workbench.catalog.lenses import LENS_MODELS, lens_path
from workbench.engine import memory
from workbench.engine.insides.jacobian_lens import JacobianLens, LensFacts, read_lens
from workbench.records import LensFit

if TYPE_CHECKING:
    from workbench.engine.insides.lens_fitting import FitProgress
    from workbench.engine.loading import LoadedModel

_FOLDER = "lenses"
"""Folder in the cache for lenses that were fitted here."""


def find_lens(model: LoadedModel) -> JacobianLens | None:
    """Return the lens that was fitted to a model's weights here, or else the catalog's; None if there is neither.

    Raises:
        ChecksumError, ModelFormatError: the file is damaged.
    """
    digest = catalog.weights_digest(model.folder)
    fitted = _fitted(digest)
    for path in (fitted, *map(lens_path, LENS_MODELS)):
        if path is not None and path.exists():
            lens = read_lens(path)
            if lens.facts.weights_sha256 == digest:
                lens.check_model(model.decoder.points.layers, model.decoder.points.sizes["resid_post"][0])
                return lens
    return None


def fit(
    model: LoadedModel,
    texts: Sequence[Sequence[int]],
    *,
    seconds: float | None = None,
    progress: Callable[[LensFit], None] | None = None,
) -> JacobianLens:
    """Fit the lens of a model to texts and store it; an interrupted fit of the same texts goes on where it was.

    Args:
        texts: token ids of each text, more than 16.
        seconds: time after which no other text is begun.

    Raises:
        InvalidRequestError: a text is too short.
        ModelFormatError: the model is none that the fused step computes.
        InsufficientMemoryError: its weights do not fit in float32 beside those that are served.
    """
    from workbench.engine.insides.lens_fitting import fit_lens, load_differentiable

    memory.plan(model.folder, "float32", model.name, packed=False)
    digest = catalog.weights_digest(model.folder)
    fitted = _fitted(digest)
    state = fitted.with_suffix(".state.safetensors")

    def report(found: FitProgress) -> None:
        if progress is not None:
            progress(LensFit(found.texts_done, found.texts, found.seconds))

    facts = LensFacts(model.name, digest)
    model_in_float32 = load_differentiable(model.folder)
    lens = fit_lens(model_in_float32, texts, facts, state=state, seconds=seconds, progress=report)
    lens.save(fitted)
    if lens.facts.texts == len(texts):
        state.unlink(missing_ok=True)
    return read_lens(fitted)


def _fitted(digest: str) -> Path:
    return catalog.cache_dir() / _FOLDER / f"{digest}.safetensors"
