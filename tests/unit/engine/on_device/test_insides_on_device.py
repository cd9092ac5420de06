"""The numbers inside the decoder of devices, read and changed where hooks by hand read and change them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.inside_judges import FUSED, TOLERANCE, captured, check_captures, computed, eager, judged, noise, write_backs
from workbench.engine.block_structure import BlockStructure
from workbench.engine.insides.taps import Captured, Taps
from workbench.engine.loading import load
from workbench.engine.on_device import step
from workbench.engine.on_device.decoder import DeviceDecoder
from workbench.insides import Point, PointEdit

IDS = [(7 * index + 3) % 380 for index in range(60)]
PARTS = (48, 3)

FolderOf = Callable[[str], Path]


def on_device(folder: Path, device: str) -> DeviceDecoder:
    decoder = load(folder, device="torch:cpu" if device == "cpu" else device).decoder
    assert isinstance(decoder, DeviceDecoder)
    return decoder


def general(folder: Path) -> Any:
    return load(folder, fast=False).decoder


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("family", FUSED)
def test_captures_are_those_of_hooks_by_hand(family_folder: FolderOf, device: str, family: str) -> None:
    found = captured(on_device(family_folder(family), device), IDS, PARTS)
    check_captures(found, judged(eager(general(family_folder(family)).model), IDS, FUSED[family]))


@pytest.mark.parametrize("family", FUSED)
def test_capturing_and_writing_back_change_nothing(family_folder: FolderOf, device: str, family: str) -> None:
    decoder = on_device(family_folder(family), device)
    plain = computed(decoder, IDS, None, PARTS)
    assert torch.equal(computed(decoder, IDS, Taps((), everything(decoder)), PARTS), plain)
    watched = decoder.new_cache()
    watched.taps = Taps((), everything(decoder))
    assert torch.equal(decoder.prefill(IDS, watched), decoder.prefill(IDS, decoder.new_cache()))
    for edits in write_backs(captured(decoder, IDS, PARTS)).values():
        assert torch.equal(computed(decoder, IDS, Taps(edits), PARTS), plain), edits[0].point


def everything(decoder: DeviceDecoder) -> Captured:
    return Captured(decoder.points.all(), range(len(IDS)))


@pytest.mark.parametrize("family", FUSED)
def test_edits_do_what_they_do_to_transformers_model(family_folder: FolderOf, device: str, family: str) -> None:
    decoder, reference = on_device(family_folder(family), device), general(family_folder(family))
    plain = computed(decoder, IDS, None, PARTS)
    for kind, size in decoder.points.sizes.items():
        if kind in ("attn_scores", "attn_probs"):
            edit = PointEdit(Point(kind, 1), "scale", np.array(np.float32(0.5)), 20, 55, head=1)
        else:
            edit = PointEdit(
                Point(kind, 1 if f"{Point(kind, 1)}".endswith("1") else 0), "add", noise(size, len(kind)), 20, 55
            )
        edited = computed(decoder, IDS, Taps([edit]), PARTS)
        assert close(edited, computed(reference, IDS, Taps([edit]), PARTS)), kind
        assert torch.equal(edited[:20], plain[:20])
        assert not close(edited[20:], plain[20:]), f"an edit of {kind} that changes nothing proves nothing"


def test_reading_a_prompt_visits_all_its_logits(family_folder: FolderOf, device: str) -> None:
    decoder = on_device(family_folder("llama"), device)
    found, cache = Captured([Point("lm_head")], range(len(IDS))), decoder.new_cache()
    cache.taps = Taps((), found)
    decoder.read(IDS, cache)
    assert close(torch.from_numpy(found.array(Point("lm_head"))), computed(decoder, IDS, None, (60,)))


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_a_tapped_sequence_leaves_the_others_of_its_batch_alone(
    family_folder: FolderOf, device: str, family: str
) -> None:
    decoder = on_device(family_folder(family), device)
    size = decoder.points.sizes["resid_post"]
    edits = [
        PointEdit(Point("resid_post", 0), "add", noise(size, 1)),
        PointEdit(Point("z", 1), "scale", np.array(np.float32(0))),
    ]

    def batch(*taps: Taps | None) -> list[Tensor]:
        caches = [decoder.new_cache() for _ in taps]
        rows: list[Tensor] = []
        for index, (cache, one) in enumerate(zip(caches, taps, strict=True)):
            cache.taps = one
            decoder.read(IDS[index : index + 30], cache)
        rows.extend(decoder.decode([token_id] * len(caches), caches).logits.cpu().clone() for token_id in IDS[40:44])
        return list(torch.stack(rows, 1))

    batch(None, None, None)  # after which the slots are those of all batches that follow
    plain = batch(None, None, None)
    found = Captured(decoder.points.all(), range(30, 34))
    watched = batch(None, Taps((), found), None)
    edited = batch(None, Taps(edits), None)
    for index, logits in enumerate(plain):
        assert torch.equal(watched[index], logits), "capturing changes nothing"
        assert torch.equal(edited[index], logits) == (index != 1)
    assert torch.equal(torch.from_numpy(found.array(Point("lm_head"))), plain[1])
    alone = computed(decoder, [*IDS[1:31], *IDS[40:44]], Taps(edits), (30,))
    assert close(edited[1], alone[30:])


def test_tapped_steps_are_never_captured_graphs(
    family_folder: FolderOf, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder: Any = on_device(family_folder("llama"), device)

    class Graph:
        def __init__(self, *_: object) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(step, "_Graph", Graph)
    decoder._step._captures = True
    cache = decoder.new_cache()
    decoder.read(IDS[:5], cache)
    cache.taps = Taps((), Captured([Point("resid_post", 0)], [5]))
    decoder.decode([7], [cache])
    with pytest.raises(ZeroDivisionError):  # the position 6 is not read
        decoder.decode([7], [cache])


def test_points_are_those_of_the_structure(family_folder: FolderOf, device: str) -> None:
    decoder = on_device(family_folder("mixtral"), device)
    structure: BlockStructure = decoder._structure
    assert decoder.points.sizes["z"] == (structure.heads, structure.head_dim)
    assert decoder.points.missing.keys() == {"mlp_pre", "mlp_act"}
