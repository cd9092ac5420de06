"""The numbers inside models of transformers: read and changed where hooks by hand read and change them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.inside_judges import (
    FUSED,
    GENERAL,
    RECURRENT,
    TOLERANCE,
    captured,
    check_captures,
    computed,
    eager,
    hook,
    judged,
    noise,
    write_backs,
)
from tests.zoo_models import VOCAB, small_model
from workbench.engine.decoders import GeneralDecoder
from workbench.engine.families import ARCHITECTURES
from workbench.engine.fused import FusedDecoder
from workbench.engine.insides.taps import Captured, Taps
from workbench.engine.loading import load
from workbench.errors import UnsupportedFieldError
from workbench.insides import KINDS, Point, PointEdit

IDS = [(11 * index + 5) % VOCAB for index in range(18)]

general = cache(lambda kind: GeneralDecoder(small_model(kind)))


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("kind", GENERAL)
def test_captures_are_those_of_hooks_by_hand(kind: str) -> None:
    decoder = general(kind)
    assert type(decoder.model).__name__ not in ARCHITECTURES
    found = captured(decoder, IDS)
    expected = judged(small_model(kind), IDS, GENERAL[kind])
    check_captures(found, expected)
    missing = {"resid_mid"} if GENERAL[kind].is_parallel else set()
    assert {point.kind for point in found} == KINDS.keys() - missing == decoder.points.sizes.keys()
    assert decoder.points.missing.keys() == missing


@pytest.mark.parametrize("kind", [*GENERAL, *RECURRENT])
def test_capturing_and_writing_back_change_nothing(kind: str) -> None:
    decoder = general(kind)
    plain = computed(decoder, IDS, None)
    everything = Captured(decoder.points.all(), range(len(IDS)))
    assert torch.equal(computed(decoder, IDS, Taps((), everything)), plain)
    last = decoder.prefill(IDS, decoder.new_cache())
    watched = decoder.new_cache()
    watched.taps = Taps((), Captured(decoder.points.all(), range(len(IDS))))
    assert torch.equal(decoder.prefill(IDS, watched), last), "the last logits alone"
    found = {point: torch.from_numpy(everything.array(point)) for point in everything.points}
    for edits in write_backs(found).values():
        assert torch.equal(computed(decoder, IDS, Taps(edits)), plain), edits[0].point


@pytest.mark.parametrize("kind", GENERAL)
def test_edits_do_what_hooks_by_hand_do(kind: str) -> None:
    decoder, names, model = general(kind), GENERAL[kind], small_model(kind)
    plain = computed(decoder, IDS, None)
    for name, path in names.paths.items():
        if name in ("attn_in", "mlp_in") and names.is_parallel:
            continue  # one norm for both
        if name in names.taken:
            continue  # scaled below
        size = decoder.points.sizes[name]
        value = noise(size, len(name))
        edited = computed(decoder, IDS, Taps([PointEdit(Point(name, 1), "add", value, 3)]))
        # A norm's input is not the stream after it: what is added to the output of attention is.
        place = names.paths["attn_out"] if name == "resid_mid" else path
        handle = hook(model.get_submodule(names.layers)[1], place, _adding(value, 3))
        with torch.inference_mode():
            expected = model(torch.tensor([IDS]), use_cache=False).logits[0]
        handle.remove()
        assert close(edited, expected), name
        assert torch.equal(edited[:3], plain[:3]), "the future changes no past"
        assert not close(edited, plain), f"an edit of {name} that changes nothing proves nothing"


def _adding(value: Any, start: int) -> Callable[[Tensor], Tensor]:
    def add(tensor: Tensor) -> Tensor:
        rows = tensor.clone().view(-1, tensor.shape[-1])
        rows[start:] += torch.from_numpy(value).flatten()
        return rows.view(tensor.shape)

    return add


@pytest.mark.parametrize("kind", GENERAL)
def test_edits_at_different_points_have_the_effects_that_follow_from_each_other(kind: str) -> None:
    decoder = general(kind)
    heads = decoder.points.sizes["attn_probs"][0]

    def logits(*edits: PointEdit) -> Tensor:
        return computed(decoder, IDS, Taps(edits))

    half = np.float32(0.5)
    halved = logits(PointEdit(Point("z", 1), "scale", np.array(half), head=1))
    assert close(logits(PointEdit(Point("attn_probs", 1), "scale", np.array(half), head=1)), halved)
    all_halved = logits(PointEdit(Point("z", 2), "scale", np.array(half)))
    assert close(logits(PointEdit(Point("value", 2), "scale", np.array(half))), all_halved)
    uniform = np.tril(np.ones((len(IDS), len(IDS)), np.float32))
    uniform = np.repeat((uniform / uniform.sum(1, keepdims=True))[:, None], heads, 1)
    even = logits(PointEdit(Point("attn_probs", 0), "set", uniform, 0, len(IDS)))
    assert close(logits(PointEdit(Point("attn_scores", 0), "set", np.array(np.float32(0)))), even)
    assert close(logits(PointEdit(Point("attn_scores", 0), "add", np.array(np.float32(3)))), logits())
    moved = noise(decoder.points.sizes["resid_pre"], 9)
    assert close(
        logits(PointEdit(Point("resid_post", 0), "add", moved)), logits(PointEdit(Point("resid_pre", 1), "add", moved))
    )
    assert close(logits(PointEdit(Point("lm_head"), "add", np.array(half))), logits() + 0.5)
    assert not close(halved, logits())
    assert not close(all_halved, logits())
    assert not close(even, logits())


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_have_a_residual_stream_and_no_attention(kind: str) -> None:
    decoder = general(kind)
    found = captured(decoder, IDS, parts=(9,))  # these caches take one token at a time
    with torch.inference_mode():
        output = small_model(kind)(torch.tensor([IDS]), output_hidden_states=True)
    for layer in range(decoder.points.layers - 1):  # these models show what each layer returns
        assert close(found[Point("resid_post", layer)], output.hidden_states[layer][0])
        assert torch.equal(found[Point("resid_post", layer)], found[Point("resid_pre", layer + 1)])
    assert close(found[Point("final_norm")], output.hidden_states[-1][0])
    for name in ("attn_in", "value", "attn_scores", "attn_probs", "z", "attn_out"):
        with pytest.raises(UnsupportedFieldError, match="attention"):
            decoder.points.check(Point(name, 0), "points[0]")


@pytest.mark.parametrize("kind", ["bloom", "opt", "olmo"])
def test_positions_are_right_where_the_text_is_computed_again(kind: str) -> None:
    decoder = GeneralDecoder(small_model(kind))
    edits = [PointEdit(Point("resid_mid", 1), "add", noise(decoder.points.sizes["resid_mid"], 3), 4, 7)]
    reference = Captured(decoder.points.all(), [2, 5, 12, 17])
    expected = computed(decoder, IDS, Taps(edits, reference))
    decoder.features.keep = False
    again = Captured(decoder.points.all(), [2, 5, 12, 17])
    assert close(computed(decoder, IDS, Taps(edits, again)), expected)
    for point in again.points:
        found, kept = (torch.from_numpy(one.array(point)) for one in (again, reference))
        assert close(found.nan_to_num(neginf=-1.0), kept.nan_to_num(neginf=-1.0)), point


def test_captures_of_a_recomputed_text_stay_those_of_its_first_computation() -> None:
    decoder, seen = GeneralDecoder(small_model("bloom")), []

    class Watched(Captured):
        def add(self, point: Point, start: int, values: Tensor) -> None:
            seen.append((start, len(values)))
            super().add(point, start, values)

    decoder.features.keep = False
    computed(decoder, IDS, Taps((), Watched([Point("resid_post", 2)], range(len(IDS)))), parts=(9, 1, 5))
    assert seen == [(0, 9), (9, 1), (10, 5), (15, 1), (16, 1), (17, 1)]


def test_hooks_are_there_for_tapped_passes_alone_and_removed_after_an_error() -> None:
    decoder = GeneralDecoder(small_model("gptj"))
    assert not _hooks(decoder)
    assert "_modules" not in vars(decoder), "points are found when they are needed"

    class Failing(Taps):
        def visit(self, point: Point, start: int, values: Tensor) -> Tensor | None:
            assert _hooks(decoder) or point == Point("lm_head"), "logits are visited after the pass"
            raise ZeroDivisionError(point)

    points = decoder.points.all()
    assert not _hooks(decoder)
    for point in points:
        cache = decoder.new_cache()
        cache.taps = Failing((), Captured([point], range(5)))
        with pytest.raises(ZeroDivisionError):
            decoder.prefill(IDS[:5], cache)
        assert not _hooks(decoder)
    assert close(computed(decoder, IDS, None), decoder.full_logits(IDS).detach())


def _hooks(decoder: GeneralDecoder) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in decoder.model.modules())


def test_only_named_points_and_positions_are_hooked() -> None:
    decoder, counts = GeneralDecoder(small_model("opt")), []
    _ = decoder.points
    embedding = decoder.model.get_input_embeddings()
    handle = embedding.register_forward_hook(lambda *_: counts.append(_hooks(decoder) - 1))
    computed(decoder, IDS, Taps((), Captured([Point("mlp_act", 1), Point("resid_post", 0)], [12])), parts=(9, 1, 5))
    handle.remove()
    assert counts == [0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("fast", [True, False])
def test_fused_and_general_decoders_capture_what_hooks_by_hand_do(
    family_folder: Callable[[str], Path], family: str, fast: bool
) -> None:
    decoder: Any = load(family_folder(family), fast=fast).decoder
    assert isinstance(decoder, FusedDecoder if fast else GeneralDecoder)
    ids = [(7 * index + 3) % 380 for index in range(60)]
    found = captured(decoder, ids, parts=(48, 3))
    reference = eager(load(family_folder(family), fast=False).decoder.model)  # type: ignore[attr-defined]
    check_captures(found, judged(reference, ids, FUSED[family]))
    plain = computed(decoder, ids, None, parts=(48, 3))
    for edits in write_backs(found).values():
        assert torch.equal(computed(decoder, ids, Taps(edits), parts=(48, 3)), plain), edits[0].point
