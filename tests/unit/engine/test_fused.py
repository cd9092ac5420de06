"""The fused step computes what transformers' own forward computes, for every structure that is sent through it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.exact_logits import (
    check_equal,
    check_rows_on_both_sides_of_longropes_border,
    logits_by,
    some_ids,
    transformers_model,
)
from tests.fakes.listening import generate
from tests.tiny_models import bpe_tokenizer
from tests.tiny_structures import FAMILIES, FUSED, GENERAL, VOCAB, FolderOf, saved_structures
from workbench.engine.decoders import Decoder, GeneralDecoder
from workbench.engine.fused import FusedDecoder
from workbench.engine.loading import load
from workbench.engine.model_reading import head_order
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.errors import ModelFormatError


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    return saved_structures(tmp_path_factory.mktemp("structures"))


@pytest.fixture(scope="session", params=list(FUSED))
def both(request: pytest.FixtureRequest, folder_of: FolderOf) -> tuple[FusedDecoder, GeneralDecoder]:
    """The fused decoder of a case, and transformers' own."""
    folder = folder_of(request.param)
    return fused_of(folder), oracle(folder)


def fused_of(folder: Path) -> FusedDecoder:
    fused = load(folder).decoder
    assert isinstance(fused, FusedDecoder), f"{folder.name} must take the fast way"
    return fused


def oracle(folder: Path) -> GeneralDecoder:
    general = load(folder, fast=False).decoder
    assert isinstance(general, GeneralDecoder)
    return general


def logits_of(decoder: Decoder, token_ids: list[int]) -> Tensor:
    """One forward over the whole text, logits of every position, shape (tokens, vocab)."""
    with torch.inference_mode():
        return decoder.prefill(token_ids, decoder.new_cache(), every_position=True)


Both = tuple[FusedDecoder, GeneralDecoder]

few = pytest.mark.parametrize(
    "both", ["grouped", "multi-query", "both-biases", "wide-heads", "qwen3-bias", "gemma2", "gpt2"], indirect=True
)
"""For laws about rows, caches and order, which do not depend on the rest of the structure."""


def test_the_angles_are_to_the_bit_those_of_transformers(both: Both) -> None:
    fused, general = both
    base: Any = general.model.base_model
    positions = torch.arange(512)
    for mine, layer_type in zip(fused._step._rotary._tables[-1]._rotary, fused._structure.rotary, strict=True):
        theirs = base.rotary_emb(torch.empty(0), positions.unsqueeze(0), *([layer_type] if layer_type else []))
        order = head_order(fused._structure)[: fused._structure.rotary_dim]
        for found, exact in zip(mine(positions), theirs, strict=True):
            assert torch.equal(found, exact[0][:, order] if fused._structure.is_interleaved else exact[0])


# --------------------------------------------------------------------------------------------------- one sequence


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_prompt_read_in_one_piece_has_the_logits_of_transformers_at_every_position(both: Both, count: int) -> None:
    fused, general = both
    token_ids = some_ids(count)
    expected = logits_of(general, token_ids)
    assert float(expected.abs().max()) > 1, "a model that says nothing proves nothing"
    check_equal(logits_of(fused, token_ids), expected)
    with torch.inference_mode():
        check_equal(fused.prefill(token_ids, fused.new_cache()), expected[-1:])


@few
@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_any_size_give_what_one_piece_gives(both: Both, seed: int) -> None:
    fused, general = both
    rng, token_ids = random.Random(seed), some_ids(120, seed)
    expected, cache, done = logits_of(general, token_ids), fused.new_cache(), 0
    while done < len(token_ids):
        size = rng.choice([1, 2, 7, 40, 90])
        with torch.inference_mode():
            found = fused.prefill(token_ids[done : done + size], cache, every_position=True)
        check_equal(found, expected[done : done + size])
        done += len(found)
        assert cache.length == done


@few
def test_tokens_one_by_one_beyond_the_first_room_of_the_cache(both: Both) -> None:
    """The cache has room for 256 tokens at first, and is moved when they are full."""
    fused, general = both
    token_ids = some_ids(300, 5)
    expected, cache = logits_of(general, token_ids), fused.new_cache()
    with torch.inference_mode():
        fused.prefill(token_ids[:230], cache)
        small = cache.nbytes
        for at in range(230, 300):
            check_equal(fused.decode([token_ids[at]], [cache]).logits, expected[at : at + 1])
    assert cache.length == 300
    assert cache.nbytes == 2 * small


@few
def test_one_long_piece_makes_all_its_room_at_once(both: Both) -> None:
    fused, general = both
    token_ids = some_ids(512, 6)
    check_equal(logits_of(fused, token_ids), logits_of(general, token_ids))


def test_hidden_states_are_those_of_transformers(both: Both) -> None:
    fused, general = both
    with torch.inference_mode():
        check_equal(fused.embed(some_ids(40)), general.embed(some_ids(40)))


# ------------------------------------------------------------------------------------------------------ many rows


def test_rows_of_different_lengths_are_each_as_if_alone(both: Both) -> None:
    fused, general = both
    texts = [some_ids(count, count) for count in (2, 3, 17, 64, 100, 180, 255, 270, 5)]
    with torch.inference_mode():
        caches = [fused.new_cache() for _ in texts]
        for text, cache in zip(texts, caches, strict=True):
            fused.prefill(text[:-1], cache)
        together = fused.decode([text[-1] for text in texts], caches).logits
    assert [cache.length for cache in caches] == list(map(len, texts))
    for row, text in enumerate(texts):
        check_equal(together[row : row + 1], logits_of(general, text)[-1:])


@few
def test_rows_that_leave_and_join_change_nothing_for_the_others(both: Both) -> None:
    fused, general = both
    rng, texts = random.Random(3), [some_ids(25, seed) for seed in range(5)]
    expected = [logits_of(general, text) for text in texts]
    with torch.inference_mode():
        caches = [fused.new_cache() for _ in texts]
        for text, cache in zip(texts, caches, strict=True):
            fused.prefill(text[:5], cache)
        while unfinished := [row for row in range(5) if caches[row].length < 25]:
            rows = rng.sample(unfinished, rng.randrange(1, len(unfinished) + 1))
            at = [caches[row].length for row in rows]
            found = fused.decode(
                [texts[row][place] for row, place in zip(rows, at, strict=True)], [caches[row] for row in rows]
            ).logits
            for index, (row, place) in enumerate(zip(rows, at, strict=True)):
                check_equal(found[index : index + 1], expected[row][place : place + 1])


@pytest.mark.parametrize("case", FAMILIES)
def test_rows_together_and_pieces_of_a_text_equal_rows_alone_bit_for_bit(folder_of: FolderOf, case: str) -> None:
    """Also where a window begins within a group of keys, or before the first one that a row beside it reads."""
    decoder = load(folder_of(case), precision="int4").decoder
    texts = [some_ids(count, count) for count in (1, 2, 24, 25, 33, 57, 90)]

    def read(text: list[int]) -> Any:
        cache = decoder.new_cache()
        if text[:-1]:
            decoder.decode_known(text[:-1], cache)
        return cache

    with torch.inference_mode():
        alone = torch.cat([decoder.decode([text[-1]], [read(text)]).logits for text in texts])
        assert torch.equal(decoder.decode([text[-1] for text in texts], [read(text) for text in texts]).logits, alone)
        text, pieces, single = some_ids(70), decoder.new_cache(), decoder.new_cache()
        together = torch.cat([decoder.decode_known(text[:40], pieces), decoder.decode_known(text[40:], pieces)])
        assert torch.equal(together, torch.cat([decoder.decode([one], [single]).logits for one in text]))


@pytest.mark.parametrize("case", ["multi-query", "gemma2", "olmo2", "mixtral"])
def test_teams_of_any_size_compute_the_same_logits_bit_for_bit(
    folder_of: FolderOf, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of more threads than there are key heads, whose query heads are then divided."""
    found: list[Tensor] = []
    for threads in (1, 2, 3, 5):
        monkeypatch.setattr("workbench.engine.packing.thread_count", lambda threads=threads: threads)
        decoder = load(folder_of(case), precision="int8").decoder
        with torch.inference_mode():
            caches = [decoder.new_cache() for _ in range(3)]
            for count, cache in zip((3, 30, 40), caches, strict=True):
                decoder.prefill(some_ids(count), cache)
            rows = [decoder.decode([5], caches[:1]).logits, decoder.decode([6, 7], caches[1:]).logits]
        found.append(torch.cat(rows))
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("case", FUSED)
@pytest.mark.parametrize("past", [0, 37])
def test_a_prompt_in_bf16_is_near_its_tokens_one_by_one(folder_of: FolderOf, case: str, past: int) -> None:
    decoder, before, text = load(folder_of(case), precision="bf16").decoder, some_ids(past, 1), some_ids(100)

    def read(**options: Any) -> Tensor:
        cache = decoder.new_cache()
        with torch.inference_mode():
            for part in (before[:40], text[:45], text[45:]):
                logits = decoder.prefill(part, cache, **options)[-1] if part else torch.empty(0)
        return logits

    exact, found = read(every_position=True), read()
    assert float((found - exact).norm()) < 0.1 * float(exact.norm())


def test_rows_on_both_sides_of_longropes_border_are_each_as_if_alone(tmp_path: Path) -> None:
    check_rows_on_both_sides_of_longropes_border(tmp_path, fused_of)


# ---------------------------------------------------------------------------------------------------------- forks


@few
@pytest.mark.parametrize("length", [1, 255, 256, 257, 300])
def test_a_fork_goes_its_own_way_and_leaves_the_first_alone(both: Both, length: int) -> None:
    fused, general = both
    trunk, other = some_ids(300, 8), [*some_ids(300, 8)[:length], *some_ids(30, 9)]
    with torch.inference_mode():
        cache = fused.new_cache()
        fused.prefill(trunk, cache)
        branch = cache.fork(length)
        assert (branch.length, cache.length) == (length, 300)
        check_equal(fused.prefill(other[length:], branch, every_position=True), logits_of(general, other)[length:])
        check_equal(fused.decode([7], [cache]).logits, logits_of(general, [*trunk, 7])[-1:])
        check_equal(fused.decode([7], [branch]).logits, logits_of(general, [*other, 7])[-1:])


# ------------------------------------------------------------------------------------------------ chosen by structure


@pytest.mark.parametrize("case", list(GENERAL))
def test_any_other_structure_takes_the_general_way_and_is_right(folder_of: FolderOf, case: str) -> None:
    model = load(folder_of(case))
    assert isinstance(model.decoder, GeneralDecoder)
    token_ids, whole = some_ids(80), transformers_logits(folder_of(case), some_ids(80))
    check_equal(logits_of(model.decoder, token_ids), whole)


def transformers_logits(folder: Path, token_ids: list[int]) -> Tensor:
    return logits_by(transformers_model(folder), token_ids)


@pytest.mark.parametrize("case", ["grouped", "qwen2", "qwen3", "mistral"])
def test_the_fast_way_can_be_switched_off(folder_of: FolderOf, case: str) -> None:
    assert isinstance(load(folder_of(case)).decoder, FusedDecoder)
    assert isinstance(load(folder_of(case), fast=False).decoder, GeneralDecoder)


@pytest.fixture
def changed(tmp_path: Path, folder_of: FolderOf) -> Callable[..., Path]:
    """A copy of a case with other tensors or another config."""

    def change(case: str, tensors: Callable[[dict[str, Tensor]], None] | None = None, **config: Any) -> Path:
        folder = tmp_path / "changed"
        folder.mkdir()
        for path in folder_of(case).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        if tensors:
            weights = load_file(folder / "model.safetensors")
            tensors(weights)
            save_file(weights, folder / "model.safetensors", {"format": "pt"})
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return folder

    return change


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_norm.weight", "model.layers.1.self_attn.q_proj.bias", "model.extra.weight"]
)
def test_a_tensor_that_the_family_does_not_have_is_never_left_out_by_the_fast_way(
    changed: Callable[..., Path], name: str
) -> None:
    folder = changed("grouped", lambda weights: weights.update({name: torch.ones(32)}))
    assert isinstance(load(folder).decoder, GeneralDecoder)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_a_tensor_that_is_missing_is_an_error_and_never_a_random_number(
    changed: Callable[..., Path], name: str
) -> None:
    folder = changed("grouped", lambda weights: weights.__delitem__(name))
    with pytest.raises(ModelFormatError, match=name.removesuffix(".weight").replace(".", r"\.")):
        load(folder)


@pytest.mark.parametrize(
    "case,base,buffer",
    [("gpt2", "transformer.", "h.0.attn.bias"), ("gpt-neox", "", "gpt_neox.layers.1.attention.bias")],
)
def test_older_files_without_the_base_models_prefix_and_with_its_buffers_are_read(
    changed: Callable[..., Path], folder_of: FolderOf, case: str, base: str, buffer: str
) -> None:
    def age(weights: dict[str, Tensor]) -> None:
        aged = {name.removeprefix(base): tensor for name, tensor in weights.items()}
        weights.clear()
        weights.update(aged | {buffer: torch.ones(1, 1, 8, 8)})

    aged, token_ids = load(changed(case, age)).decoder, some_ids(30)
    assert isinstance(aged, FusedDecoder)
    assert torch.equal(logits_of(aged, token_ids), logits_of(load(folder_of(case)).decoder, token_ids))


def test_a_tied_model_that_has_a_head_of_its_own_in_the_file_computes_what_transformers_computes(
    changed: Callable[..., Path],
) -> None:
    head = torch.randn(VOCAB, 32, generator=torch.Generator().manual_seed(1))
    folder = changed("tied", lambda weights: weights.update({"lm_head.weight": head}))
    check_equal(logits_of(load(folder).decoder, some_ids(30)), transformers_logits(folder, some_ids(30)))


def test_weights_in_shards_are_all_found(tmp_path: Path, folder_of: FolderOf) -> None:
    case = folder_of("grouped")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(case)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    bpe_tokenizer(VOCAB).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    sharded = load(tmp_path)
    assert isinstance(sharded.decoder, FusedDecoder)
    assert torch.equal(logits_of(sharded.decoder, some_ids(30)), logits_of(load(case).decoder, some_ids(30)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stored_in_half_precision_compute_in_float32(changed: Callable[..., Path], dtype: torch.dtype) -> None:
    def halve(weights: dict[str, Tensor]) -> None:
        weights.update({name: tensor.to(dtype) for name, tensor in weights.items()})

    folder = changed("both-biases", halve)
    fused = load(folder).decoder
    assert isinstance(fused, FusedDecoder)
    check_equal(logits_of(fused, some_ids(30)), transformers_logits(folder, some_ids(30)))


# ------------------------------------------------------------------------------------------------- through the engine


@pytest.mark.parametrize("case", ["grouped", "llama3-rope", "qwen3"])
def test_an_answer_may_run_past_the_first_room_of_the_cache(folder_of: FolderOf, case: str) -> None:
    fast, general = (Engine(load(folder_of(case), fast=fast)) for fast in (True, False))
    try:
        request = GenerationRequest(prompt_ids=tuple(some_ids(200)), max_tokens=120, stop_ids=frozenset())
        assert generate(fast, request).ids == generate(general, request).ids
    finally:
        fast.close()
        general.close()
