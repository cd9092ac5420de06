"""Numbers inside the fused decoder: reading them changes nothing, and changes are known wherever texts are reused.

That they are those of transformers is in `test_insides_general.py`, for all decoders.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.listening import Heard, generate, submit
from tests.tiny_models import FAMILIES
from workbench.engine.fused_cache import FusedCache
from workbench.engine.insides.contributions import contributions
from workbench.engine.insides.lens import LensReader
from workbench.engine.insides.replay import Replay
from workbench.engine.insides.taps import Captured
from workbench.engine.loading import LoadedModel, load
from workbench.engine.logprobs import TokenStats, measured
from workbench.engine.precision import Precision
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.insides import KINDS, ModelPoints, Point, PointEdit

MakeEngine = Callable[..., Engine]
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "int8", "int4")
LOGITS = Point("lm_head")
LENGTH = 70


@pytest.fixture(scope="module")
def model_in(family_folder: Callable[[str], Path]) -> Callable[[str, Precision], LoadedModel]:
    loaded: dict[tuple[str, Precision], LoadedModel] = {}

    def model(family: str, precision: Precision) -> LoadedModel:
        if (family, precision) not in loaded:
            loaded[family, precision] = load(family_folder(family), name=f"tiny-{family}", precision=precision)
        return loaded[family, precision]

    return model


def text_of(seed: int) -> list[int]:
    return [random.Random(f"{seed} {index}").randrange(3, 380) for index in range(LENGTH)]


@torch.inference_mode()
def replayed(
    model: LoadedModel, prompt: int, ids: Sequence[int], points: Sequence[Point], edits: Sequence[PointEdit] = ()
) -> tuple[Captured, torch.Tensor]:
    """The numbers at all positions, and the keys and values, as bytes."""
    captured = Captured(points, range(len(ids)))
    replay = Replay(model.decoder, ids[:prompt], edits=edits)
    while not replay.advance(ids, captured):
        pass
    cache = replay._cache
    assert isinstance(cache, FusedCache)
    return captured, cache.kv[:, :, :, : len(ids)].clone().view(torch.uint8)


@pytest.mark.parametrize("prompt", [2, 9, 61])  # read by the step, by either, and by the prompt's own function
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_reading_and_writing_back_changes_nothing(
    model_in: Callable[[str, Precision], LoadedModel], family: str, precision: Precision, prompt: int
) -> None:
    model, ids = model_in(family, precision), text_of(prompt)
    plain, keys = replayed(model, prompt, ids, [LOGITS])
    everything, same_keys = replayed(model, prompt, ids, model.decoder.points.all())
    assert torch.equal(keys, same_keys)
    assert np.array_equal(plain.array(LOGITS), everything.array(LOGITS))
    for kind in model.decoder.points.sizes:
        lowest = np.finfo(np.float32).min
        edits = [
            PointEdit(point, "set", np.maximum(everything.array(point), lowest), 0, LENGTH)
            for point in model.decoder.points.all()
            if point.kind == kind
        ]
        again, same_keys = replayed(model, prompt, ids, [LOGITS], edits)
        assert torch.equal(keys, same_keys), kind
        assert np.array_equal(plain.array(LOGITS), again.array(LOGITS)), kind


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_change_has_the_effect_that_plain_algebra_gives(
    model_in: Callable[[str, Precision], LoadedModel], family: str, precision: Precision
) -> None:
    """What is set at the last layer's stream comes out of the last norm and the head, whatever was there before."""
    model, ids = model_in(family, precision), text_of(5)
    layers = model.decoder.points.layers
    wish = torch.randn(model.decoder.points.sizes["resid_post"], generator=torch.Generator().manual_seed(1))
    edit = PointEdit(Point("resid_post", layers - 1), "set", wish.numpy(), 20, 25)
    before, _ = replayed(model, 9, ids, [LOGITS])
    after, _ = replayed(model, 9, ids, [LOGITS], [edit])
    with torch.inference_mode():
        expected = model.decoder.unembed(wish.unsqueeze(0)).logits[0].numpy()
    changed, kept = after.array(LOGITS), [index for index in range(LENGTH) if not 20 <= index < 25]
    assert np.array_equal(changed[kept], before.array(LOGITS)[kept])
    assert np.abs(changed[20:25] - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_only_the_changed_head_and_positions_and_what_follows_them_change(
    model_in: Callable[[str, Precision], LoadedModel], family: str
) -> None:
    model, ids = model_in(family, "float32"), text_of(3)
    z, before_it, after_it = Point("z", 1), Point("resid_pre", 1), Point("attn_out", 1)
    plain, _ = replayed(model, 40, ids, [z, before_it, after_it])
    edit = PointEdit(z, "add", np.array(2.0, np.float32), 30, None, 1)
    edited, _ = replayed(model, 40, ids, [z, before_it, after_it], [edit])
    expected = plain.array(z).copy()
    expected[30:, 1] += 2.0
    assert np.array_equal(edited.array(before_it), plain.array(before_it))
    assert np.array_equal(edited.array(z), expected)
    differs = (edited.array(after_it) != plain.array(after_it)).any(-1)
    assert differs[30:].all()
    assert not differs[:30].any()


@pytest.mark.parametrize("prompt", [9, 61])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_changed_attention_is_the_same_as_its_product_with_the_values(
    model_in: Callable[[str, Precision], LoadedModel], family: str, prompt: int
) -> None:
    """All weight on one key gives that key's value; the judge is the definition of attention."""
    model, ids = model_in(family, "float32"), text_of(prompt)
    sizes = model.decoder.points.sizes
    weights = np.zeros(LENGTH, np.float32)
    weights[12] = 1.0
    edit = PointEdit(Point("attn_probs", 1), "set", weights, 14, 20, 2)
    captured, _ = replayed(model, prompt, ids, [Point("z", 1), Point("value", 1)], [edit])
    group = sizes["z"][0] // sizes["value"][0]
    value = captured.array(Point("value", 1))[12, 2 // group]
    assert captured.array(Point("z", 1))[14:20, 2] == pytest.approx(np.tile(value, (6, 1)), abs=2e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_lens_of_the_last_layer_is_what_the_run_said(
    engine_of: MakeEngine, model_in: Callable[[str, Precision], LoadedModel], precision: Precision
) -> None:
    model = model_in("llama", precision)
    prompt = tuple(text_of(8)[:30])
    heard = generate(engine_of(model=model), GenerationRequest(prompt_ids=prompt, max_tokens=20, stop_ids=frozenset()))
    ids, columns = [*prompt, *heard.ids], dict[int, list[TokenStats]]()
    with torch.inference_mode():
        reader = LensReader(model.decoder, prompt, alternatives=3)
        for length in range(len(prompt) + 1, len(ids) + 1):  # while it grows
            while reader.length < length - 1:
                columns |= reader.advance(ids[:length], len(prompt))
    assert sorted(columns) == list(range(len(prompt), len(ids)))
    for index, logprob in zip(range(len(prompt), len(ids)), heard.logprobs, strict=True):
        assert columns[index][-1].logprob == pytest.approx(logprob, abs=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_layer_of_the_lens_is_its_stream_through_norm_and_head(
    model_in: Callable[[str, Precision], LoadedModel], family: str
) -> None:
    model, ids = model_in(family, "float32"), text_of(2)
    points = [Point("resid_post", layer) for layer in range(model.decoder.points.layers)]
    captured, _ = replayed(model, 30, ids, points)
    with torch.inference_mode():
        reader = LensReader(model.decoder, ids[:30], alternatives=2)
        columns: dict[int, list[TokenStats]] = {}
        while reader.length < LENGTH - 1:
            columns |= reader.advance(ids, 40)
        for index in (40, 55, LENGTH - 1):
            rows = torch.stack([torch.from_numpy(captured.array(point)[index - 1]) for point in points])
            logits = model.decoder.unembedding.head(_normed(model, rows))
            cap = model.decoder.unembedding.cap
            logits = torch.tanh(logits / cap) * cap if cap else logits
            for stats, row in zip(columns[index], logits, strict=True):
                assert stats.logprob == pytest.approx(measured(row, ids[index], 0).logprob, abs=1e-4)


def _normed(model: LoadedModel, rows: torch.Tensor) -> torch.Tensor:
    unembedding = model.decoder.unembedding
    shape, weight, eps = rows.shape[-1:], unembedding.weight[: rows.shape[-1]], unembedding.eps
    if unembedding.norm == "rms":
        return torch.nn.functional.rms_norm(rows, shape, weight, eps)
    return torch.nn.functional.layer_norm(rows, shape, weight, unembedding.bias, eps)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_parts_of_a_logit_sum_to_it(
    model_in: Callable[[str, Precision], LoadedModel], family: str, precision: Precision
) -> None:
    model, ids = model_in(family, precision), text_of(4)
    points = model.decoder.points
    middle = ("resid_mid", "resid_post") if "resid_mid" in points.sizes else ("resid_post",)
    stream = [Point("resid_pre", 0), *(Point(kind, layer) for layer in range(points.layers) for kind in middle)]
    captured, _ = replayed(model, 9, ids, [*stream, LOGITS])
    for position in (0, 33, LENGTH - 1):
        rows = torch.stack([torch.from_numpy(captured.array(point)[position]).double() for point in stream])
        parts = torch.cat([rows[:1], rows.diff(dim=0)])
        with torch.inference_mode():
            found = contributions(model.decoder.unembedding, parts, ids[position])
        assert len(found.values) == len(stream)
        assert found.logit == pytest.approx(float(captured.array(LOGITS)[position, ids[position]]), abs=1e-4)


# --------------------------------------------------------------------- changed runs wherever texts are kept and shared


def random_edit(rng: random.Random, points: ModelPoints) -> PointEdit:
    """Any point and operation, over a few positions or all from one on."""
    kind = rng.choice(sorted(points.sizes))
    layer = rng.randrange(points.layers) if KINDS[kind].in_layers else 0
    axes, size = KINDS[kind].axes, points.sizes[kind]
    head = rng.randrange(size[0]) if axes[0] == "head" and rng.random() < 0.5 else None
    shape = size[1:] if head is not None else size
    start = rng.randrange(0, 40)
    stop = start + rng.randrange(1, 20) if rng.random() < 0.6 else None
    numbers = np.random.default_rng(rng.randrange(2**32))
    is_one = "key" in axes or rng.random() < 0.5
    value = np.asarray(numbers.normal(size=() if is_one else shape) * 0.5, np.float32)
    return PointEdit(Point(kind, layer), rng.choice(("set", "add", "scale")), value, start, stop, head)


def random_requests(seed: int, points: ModelPoints) -> list[GenerationRequest]:
    """Requests that share beginnings, some changed in the same way, some in another, some not at all."""
    rng = random.Random(seed)
    texts = [[rng.randrange(3, 380) for _ in range(rng.choice([20, 45, 70]))] for _ in range(2)]
    edits: list[tuple[PointEdit, ...]] = [(), *(tuple(random_edit(rng, points) for _ in range(n)) for n in (1, 2))]
    requests = []
    for _ in range(6):
        text = rng.choice(texts)
        prompt = [
            *text[: rng.randrange(18, len(text) + 1)],
            *(rng.randrange(3, 380) for _ in range(rng.choice([0, 3]))),
        ]
        sampling = Sampling(temperature=0.8, seed=rng.randrange(100)) if rng.random() < 0.5 else Sampling()
        requests.append(
            GenerationRequest(
                prompt_ids=tuple(prompt), max_tokens=8, sampling=sampling, stop_ids=frozenset(), edits=rng.choice(edits)
            )
        )
    return requests


def same(found: Heard, expected: Heard) -> bool:
    return found.ids == expected.ids and found.logprobs == expected.logprobs


@pytest.mark.parametrize("seed", range(200))
def test_changed_runs_are_the_same_cached_together_and_branched(
    engine_of: MakeEngine, model_in: Callable[[str, Precision], LoadedModel], seed: int
) -> None:
    """200 random traces over families and precisions: ids and logprobs are equal bit for bit."""
    family, precision = sorted(FAMILIES)[seed % len(FAMILIES)], PRECISIONS[seed // len(FAMILIES) % len(PRECISIONS)]
    model = model_in(family, precision)
    requests = random_requests(seed, model.decoder.points)
    cold, warm = engine_of(model=model), engine_of(model=model, prefix_cache_bytes=2**26)
    alone = [generate(cold, request) for request in requests]
    together = [submit(cold, request)[1] for request in requests]
    assert all(same(heard.wait(), expected) for heard, expected in zip(together, alone, strict=True))
    for _ in range(2):  # the second time everything is known
        for request, expected in zip(requests, alone, strict=True):
            assert same(generate(warm, request), expected)
    request, expected = requests[0], alone[0]
    kept = tuple(step.stats for step in expected.steps[:4])
    branch: dict[str, Any] = {name: getattr(request, name) for name in GenerationRequest.__slots__} | {"kept": kept}
    assert same(generate(cold, GenerationRequest(**branch)), expected)
