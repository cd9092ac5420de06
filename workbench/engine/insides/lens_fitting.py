"""Fitting of a model's Jacobian lens to texts, with torch's autograd over the forward pass of devices.

Row k of ``J_i`` is the gradient of component k of the last residual stream, summed over all target positions, by the
residual stream after layer i, averaged over source positions and texts. One backward pass gives a row for all layers;
a text takes as many of them as the stream has components. They are independent, so each thread computes its own, in
parts that go through the graph together. Positions that every text begins with are no sources and no targets: their
streams are unlike all others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.engine import memory
from workbench.engine.insides.jacobian_lens import (
    JacobianLens,
    LensFacts,
    checked_facts,
    damaged,
    read_tensors,
    write_tensors,
)
from workbench.engine.model_folder import check_folder
from workbench.engine.model_reading import WeightReader
from workbench.engine.on_device.angles import AngleTable
from workbench.engine.on_device.attention import Span, masks
from workbench.engine.on_device.dense import DenseReader, DenseWeights
from workbench.engine.on_device.forward import Forward
from workbench.engine.packing import opened, rotary_versions, served_structure
from workbench.engine.rotary_table import Rotary
from workbench.engine.transformers_loading import format_errors, load_config
from workbench.errors import InvalidRequestError, ModelFormatError
from workbench.machine import thread_count

SKIPPED = 16
"""First positions of a text that are neither sources nor targets."""

ROWS_PER_PASS = 8
"""Rows of a Jacobian that are computed together; more leave the CPU's cache."""

STATE_FORMAT = "jacobian-lens-state-1"

Products = Literal["float32", "bf16"]
"""Arithmetic of the matrix products of backward passes."""


@dataclass(frozen=True, slots=True)
class FitProgress:
    """How far a fit is."""

    texts_done: int
    texts: int
    seconds: float
    """Time that the texts took so far, in all processes that worked on them."""

    @property
    def remaining_s(self) -> float:
        """Estimate of the time that the other texts take."""
        return self.seconds / max(1, self.texts_done) * (self.texts - self.texts_done)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the texts so far have added up to."""

    jacobians: Tensor
    """Float32, shape (layers - 1, hidden, hidden)."""
    facts: LensFacts
    texts_sha256: str = ""
    """Digest of the token ids of the texts."""

    def lens(self) -> JacobianLens:
        return JacobianLens(self.jacobians / max(1, self.facts.positions), self.facts)


class DifferentiableModel(Forward):
    """The forward pass of a model in float32 on the CPU, through which gradients flow from stream to stream.

    Args:
        rotary: the sets of rotary angles, in each version.
    """

    def __init__(self, weights: DenseWeights, rotary: Sequence[Sequence[Rotary]]) -> None:
        super().__init__(weights)
        self._rotary_angles = AngleTable(rotary, self.device)

    @torch.enable_grad()
    def residual_streams(self, token_ids: Sequence[int]) -> list[Tensor]:
        """Return the residual stream after each layer, shape (1, tokens, hidden) each, with their graph."""
        structure, count = self.structure, len(token_ids)
        structure.check_indices(token_ids, count)
        positions = torch.arange(count).unsqueeze(0)
        version = int(bool(structure.rotary_border) and count > structure.rotary_border)
        self._rotary_angles.reserve(count)
        angles = self._rotary_angles.rows(positions, torch.full((1, 1), version))
        shape = (2, 1, structure.kv_heads, count, structure.head_dim)
        span = Span([torch.zeros(shape) for _ in structure.layers], positions)
        allowed, streams = masks(structure, span), []
        hidden = self._embed(torch.tensor([token_ids]), positions, None).requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # the others have no gradients of several rows at once
            for index, layer in enumerate(structure.layers):
                hidden = self._run_block(index, hidden, angles, span, allowed[layer.window, layer.chunk], None)
                streams.append(hidden)
        return streams


def load_differentiable(folder: Path) -> DifferentiableModel:
    """Load the model of a folder in float32.

    Raises:
        ModelFormatError: the folder is incomplete or damaged, or the model is none that the fused step computes.
    """
    check_folder(folder)
    config = load_config(folder)
    structure = served_structure(folder, config, memory.tensor_shapes(folder))
    if structure is None or len(structure.layers) < 2:
        raise ModelFormatError(
            f"a Jacobian lens cannot be fitted to {folder.name}: its architecture must be one that the fused step "
            f"computes, with at least two layers"
        )
    with format_errors(folder, "a causal language model"), opened(folder, structure.full_name) as files:
        reader = DenseReader(structure, files, torch.device("cpu"), torch.float32)
        return DifferentiableModel(WeightReader(structure, files, reader).weights(), rotary_versions(config, structure))


def fit_lens(
    model: DifferentiableModel,
    texts: Sequence[Sequence[int]],
    facts: LensFacts,
    *,
    state: Path | None = None,
    products: Products = "float32",
    seconds: float | None = None,
    progress: Callable[[FitProgress], None] | None = None,
) -> JacobianLens:
    """Fit the Jacobian lens of a model.

    Args:
        texts: token ids of each text; those of any length count by their positions.
        facts: name and digest of the model.
        state: file that is rewritten after each text, and from which an interrupted fit goes on. The result is the same
            to the bit.
        products: ``bf16`` rounds the factors of backward products, on CPUs that multiply them faster.
        seconds: time after which no other text is begun; at least one is read.
        progress: called after each text.

    Raises:
        InvalidRequestError: a text is too short, or the file's texts are not the first of these.
        ModelFormatError: the file is damaged, or of another model.
    """
    _check_texts(texts)
    sums = _start(model, facts, state, texts)
    began = time.perf_counter()
    with _one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        for token_ids in texts[sums.facts.texts :]:
            started = time.perf_counter()
            if sums.facts.texts and seconds is not None and started - began > seconds:
                break
            with _rounded(products):
                found = jacobian_sums(model, token_ids, pool)
            sums = _added(sums, found, token_ids, time.perf_counter() - started)
            if state is not None:
                _write_state(state, sums)
            if progress is not None:
                progress(FitProgress(sums.facts.texts, len(texts), sums.facts.seconds))
    return sums.lens()


def jacobian_sums(model: DifferentiableModel, token_ids: Sequence[int], pool: ThreadPoolExecutor) -> Tensor:
    """Return the Jacobians of all layers but the last, summed over sources and targets of one text.

    Returns:
        Float32, shape (layers - 1, hidden, hidden).
    """
    *earlier, last = model.residual_streams(token_ids)  # (1, tokens, hidden) each
    hidden = model.structure.hidden
    sums = torch.empty(len(earlier), hidden, hidden)

    def add(first: int) -> None:
        rows = torch.arange(first, min(first + ROWS_PER_PASS, hidden))
        cotangents = torch.zeros(len(rows), *last.shape)
        cotangents[torch.arange(len(rows)), :, SKIPPED:, rows] = 1.0
        gradients = torch.autograd.grad(last, earlier, cotangents, is_grads_batched=True, retain_graph=True)
        for layer, gradient in enumerate(gradients):  # (rows, 1, tokens, hidden)
            sums[layer, rows] = gradient[:, 0, SKIPPED:].sum(1)

    for _ in pool.map(add, range(0, hidden, ROWS_PER_PASS)):
        pass
    return sums


def _check_texts(texts: Sequence[Sequence[int]]) -> None:
    if not texts:
        raise InvalidRequestError("texts", [], "at least one text")
    for index, token_ids in enumerate(texts):
        if len(token_ids) <= SKIPPED:
            raise InvalidRequestError(f"texts[{index}]", f"{len(token_ids)} tokens", f"longer than {SKIPPED} tokens")


def _start(model: DifferentiableModel, facts: LensFacts, state: Path | None, texts: Sequence[Sequence[int]]) -> _Sums:
    """Return the sums in a file, or zeros if there is none."""
    layers, hidden = len(model.structure.layers), model.structure.hidden
    shape = (layers - 1, hidden, hidden)
    if state is None or not state.exists():
        return _Sums(torch.zeros(shape), replace(facts, texts=0, positions=0, seconds=0.0))
    sums = _read_state(state)
    if sums.jacobians.shape != shape or sums.facts.weights_sha256 != facts.weights_sha256:
        raise ModelFormatError(f"{state} has the fit of another model, {sums.facts.model}. Choose another file.")
    if sums.texts_sha256 != _digest(texts[: sums.facts.texts]):
        raise InvalidRequestError(
            "texts", f"{len(texts)} texts", f"those that the fit in {state} began with; or choose another file"
        )
    return sums


def _added(sums: _Sums, found: Tensor, token_ids: Sequence[int], seconds: float) -> _Sums:
    facts = replace(
        sums.facts,
        texts=sums.facts.texts + 1,
        positions=sums.facts.positions + len(token_ids) - SKIPPED,
        seconds=sums.facts.seconds + seconds,
    )
    return _Sums(sums.jacobians + found, facts, _digest([token_ids], sums.texts_sha256))


def _digest(texts: Sequence[Sequence[int]], digest: str = "") -> str:
    """Return the digest of texts that follow those of a digest."""
    for token_ids in texts:
        digest = hashlib.sha256(f"{digest}{list(token_ids)}".encode()).hexdigest()
    return digest


def _write_state(path: Path, sums: _Sums) -> None:
    facts = asdict(sums.facts) | {"texts_sha256": sums.texts_sha256}
    write_tensors(path, {"jacobians": sums.jacobians}, STATE_FORMAT, facts)


def _read_state(path: Path) -> _Sums:
    tensors, facts = read_tensors(path, STATE_FORMAT)
    try:
        digest = facts.pop("texts_sha256")
        return _Sums(tensors["jacobians"], checked_facts(facts), digest)
    except (KeyError, TypeError) as error:
        raise damaged(path, f"it lacks a tensor or metadata: {error}") from None


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Give each thread that calls torch one core in the context; yield how many threads there may be."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield thread_count()
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _rounded(products: Products) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if products == "bf16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
