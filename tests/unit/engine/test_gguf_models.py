"""GGUF files are served as transformers computes the numbers that the format's own package reads from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from tests.fakes.gguf_models import ARCHITECTURES, MIXED, write_gguf_model
from tests.fakes.listening import generate
from workbench import catalog
from workbench.engine import memory
from workbench.engine.loading import load
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.errors import InsufficientMemoryError, ModelFormatError
from workbench.gguf_files import read_gguf_header

MakeEngine = Callable[..., Engine]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def mixed_types(seed: int) -> Callable[[str], str]:
    """Types drawn for each matrix alone, so that matrices which are held as one differ in theirs."""
    source = random.Random(seed)
    return lambda _: source.choice(MIXED)


def logprobs(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        answer: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    return answer


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_ids_and_logprobs_equal_transformers_over_the_dequantized_file(
    tmp_path: Path, engine_of: MakeEngine, architecture: str
) -> None:
    reference = write_gguf_model(tmp_path / "tiny.gguf", architecture, types=mixed_types(1), seed=1)
    engine = engine_of(model=load(catalog.resolve(str(tmp_path / "tiny.gguf")), precision="float32"))
    for length in (1, 9, 60):
        prompt = [(11 * index + length) % 370 + 3 for index in range(length)]
        request = GenerationRequest(
            prompt_ids=tuple(prompt), max_tokens=12, alternatives=3, stop_ids=frozenset(), prompt_logprobs=True
        )
        heard = generate(engine, request)
        exact = logprobs(reference, [*prompt, *heard.ids])
        assert heard.ids == exact[length - 1 : -1].argmax(-1).tolist()
        stats = [*heard.started.prompt_stats, *(step.stats for step in heard.steps)]
        for position, one in enumerate(stats):
            assert one.logprob == pytest.approx(float(exact[position, one.token_id]), abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "phi3"])
def test_the_files_own_precision_differs_by_rounding_alone(
    tmp_path: Path, engine_of: MakeEngine, architecture: str
) -> None:
    reference = write_gguf_model(tmp_path / "tiny.gguf", architecture, types=mixed_types(2), seed=2)
    loaded = load(catalog.resolve(str(tmp_path / "tiny.gguf")), precision="file")
    assert loaded.memory_bytes == pytest.approx(loaded.predicted_memory_bytes, rel=0.02)
    prompt = [(7 * index) % 370 + 3 for index in range(40)]
    heard = generate(
        engine_of(model=loaded), GenerationRequest(prompt_ids=tuple(prompt), max_tokens=16, stop_ids=frozenset())
    )
    exact = logprobs(reference, [*prompt, *heard.ids])
    for position, step in enumerate(heard.steps, len(prompt) - 1):
        assert step.stats.logprob == pytest.approx(float(exact[position, step.stats.token_id]), abs=0.1)


def test_a_stored_model_gives_the_ids_of_the_first_load(tmp_path: Path, engine_of: MakeEngine) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf_model(path, "llama", types=lambda _: "Q4_0")
    request = GenerationRequest(prompt_ids=(5, 9, 200), max_tokens=16, stop_ids=frozenset())
    answers = []
    for _ in range(2):
        loaded = load(catalog.resolve(str(path)), precision="file", packed_models=tmp_path / "packed")
        answers.append(generate(engine_of(model=loaded), request).ids)
    assert answers[0] == answers[1]
    write_gguf_model(path, "llama", types=lambda _: "Q4_0", seed=5)
    loaded = load(catalog.resolve(str(path)), precision="file", packed_models=tmp_path / "packed")
    assert generate(engine_of(model=loaded), request).ids != answers[0]


def test_a_split_model_is_read_from_all_of_its_parts(tmp_path: Path, engine_of: MakeEngine) -> None:
    whole = tmp_path / "whole.gguf"
    write_gguf_model(whole, "qwen2", types=lambda _: "Q8_0")
    parts = [tmp_path / f"split-0000{number}-of-00002.gguf" for number in (1, 2)]
    reader = gguf.GGUFReader(whole)
    halves = (reader.tensors[:9], reader.tensors[9:])

    def moved(half: Any) -> Callable[[gguf.GGUFWriter, dict[str, Any]], None]:
        def change(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
            for name in set(tensors) - {tensor.name for tensor in half}:
                del tensors[name]

        return change

    for part, half in zip(parts, halves, strict=True):
        write_gguf_model(part, "qwen2", types=lambda _: "Q8_0", changed=moved(half))
    request = GenerationRequest(prompt_ids=(5, 9, 200), max_tokens=8, stop_ids=frozenset())
    answers = [
        generate(engine_of(model=load(catalog.resolve(str(path)), precision="file")), request).ids
        for path in (whole, parts[0])
    ]
    assert answers[0] == answers[1]
    with pytest.raises(ModelFormatError, match="later part of a split model; name the first, split-00001-of-00002"):
        catalog.resolve(str(parts[1]))
    parts[1].unlink()
    with pytest.raises(ModelFormatError, match=r"cannot be read.*split-00002-of-00002\.gguf"):
        catalog.resolve(str(parts[0]))


def renamed(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
    tensors["blk.0.odd.weight"] = tensors.pop("blk.0.ffn_up.weight")


def narrowed(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
    data, kind = tensors["blk.1.ffn_down.weight"]
    tensors["blk.1.ffn_down.weight"] = (data[:-8], kind)


def added(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
    tensors["blk.0.attn_q.scale"] = (np.ones(1, np.float32), "F32")


def scaled(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
    tensors["rope_freqs.weight"] = (np.linspace(1, 5, 16, dtype=np.float32), "F32")


@pytest.mark.parametrize(
    "changed, message",
    [
        (renamed, r"lacks the tensor blk\.0\.ffn_up\.weight; download it again"),
        (narrowed, r"has blk\.1\.ffn_down\.weight in the shape \(248, 256\); \(256, 256\) is expected"),
        (added, r"has the tensor blk\.0\.attn_q\.scale, which cannot be served in this architecture yet"),
        (scaled, "scales rotary angles .* in another way than Llama 3.1"),
    ],
)
def test_wrong_tensors_are_refused_by_name(tmp_path: Path, changed: Any, message: str) -> None:
    write_gguf_model(tmp_path / "tiny.gguf", "llama", changed=changed)
    with pytest.raises(ModelFormatError, match=message):
        load(catalog.resolve(str(tmp_path / "tiny.gguf")), precision="file")


def test_a_file_that_changes_after_it_was_resolved_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf_model(path, "llama")
    folder = catalog.resolve(str(path))
    write_gguf_model(path, "llama", seed=1, types=lambda _: "F16")
    with pytest.raises(ModelFormatError, match="was changed after it was registered; register it again"):
        load(folder, precision="file")


def test_a_load_reads_the_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf_model(tmp_path / "tiny.gguf", "llama")
    folder, count = catalog.resolve(str(tmp_path / "tiny.gguf")), 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return read_gguf_header(*args, **options)

    monkeypatch.setattr("workbench.gguf_files.model.read_gguf_header", counted)
    for _ in range(2):
        load(folder, precision="file")
    assert count == 1


def test_weights_stay_in_the_mapped_file(tmp_path: Path, engine_of: MakeEngine) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf_model(path, "qwen2", types=mixed_types(3), seed=3)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    loaded = load(catalog.resolve(str(path)), precision="file")
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert not mapped
    (line,) = [line for line in maps if str(path) in line]
    first, last = (int(place, 16) for place in line.split()[0].split("-"))
    decoder: Any = loaded.decoder
    addresses = [row[1] for row in decoder._step._addresses.linears.reshape(-1, 5)]
    kept = sum(first <= place < last for place in addresses)
    assert kept >= len(addresses) // 2
    path.unlink()  # what is mapped stays
    request = GenerationRequest(prompt_ids=(5, 9, 200), max_tokens=4, stop_ids=frozenset())
    assert len(generate(engine_of(model=loaded), request).ids) == 4


def test_llamas_scaled_angles_are_recognized(tmp_path: Path, engine_of: MakeEngine) -> None:
    """The factors that llama.cpp writes, from the formula of transformers, which is another program's."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    frequencies: dict[str, Any] = {}

    def with_factors(_: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
        width = 32
        plain = 1.0 / 500_000.0 ** (torch.arange(0, width, 2).float() / width)
        tensors["rope_freqs.weight"] = ((plain / frequencies["scaled"]).numpy(), "F32")

    from tests.fakes.gguf_models import make_reference

    frequencies["scaled"], _ = ROPE_INIT_FUNCTIONS["llama3"](make_reference("llama", rope_parameters=rope).config, None)
    path = tmp_path / "tiny.gguf"
    reference = write_gguf_model(path, "llama", changed=with_factors, rope_parameters=rope)
    engine = engine_of(model=load(catalog.resolve(str(path)), precision="float32"))
    prompt = [(11 * index) % 370 + 3 for index in range(300)]
    heard = generate(engine, GenerationRequest(prompt_ids=tuple(prompt), max_tokens=8, stop_ids=frozenset()))
    exact = logprobs(reference, [*prompt, *heard.ids])
    for position, step in enumerate(heard.steps, len(prompt) - 1):
        assert step.stats.logprob == pytest.approx(float(exact[position, step.stats.token_id]), abs=1e-4)


def test_a_model_that_does_not_fit_is_refused_from_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf_model(tmp_path / "tiny.gguf", "llama", types=lambda _: "Q4_K")
    folder = catalog.resolve(str(tmp_path / "tiny.gguf"))
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: 2**20)
    with pytest.raises(InsufficientMemoryError, match="tiny as its file is needs 1 MiB"):
        memory.check_limit(folder, "file", "tiny", packed=True)
