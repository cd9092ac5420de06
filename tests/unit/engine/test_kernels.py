"""The compiled arithmetic: products of every form of matrix, the same for every team, every batch and every process."""

from __future__ import annotations

import hashlib
import itertools
import math
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_models import bpe_tokenizer, llama_like, save_config
from workbench.engine.fused import STEP_TOKENS, FusedDecoder
from workbench.engine.fused_cache import FusedCache
from workbench.engine.kernels import prompt, step, step_memory
from workbench.engine.kernels import row_reductions as rows
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.panels import FMA
from workbench.engine.kernels.simd import GROUP
from workbench.engine.kernels.team import Team
from workbench.engine.loading import load
from workbench.engine.precision import PRECISIONS, Precision
from workbench.engine.weights import Blocks, Int8Blocks

FORMS: dict[str, Callable[[Tensor, Tensor | None], Matrix]] = {
    "float32": Matrix.float32,
    "bf16": Matrix.bf16,
    "fp8": Matrix.fp8,
    "int8": lambda weight, bias: Matrix.int8(Int8Blocks.of(in_groups(weight)), weight.shape[1], bias),
    "int4": lambda weight, bias: Matrix.int4(Blocks.of(in_groups(weight)), weight.shape[1], bias),
}
STEP_OF_FORM = {"float32": 0.0, "bf16": 2**-8, "fp8": 2**-4, "int8": 2**-7, "int4": 2**-3.5}
"""How far a weight of a form may lie from the number it stands for, as a part of the group's largest."""

forms = pytest.mark.parametrize("form", list(FORMS))


def in_groups(weight: Tensor) -> Tensor:
    return torch.nn.functional.pad(weight, (0, -weight.shape[1] % GROUP))


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[1, 2, 3])
def team(request: pytest.FixtureRequest) -> Team:
    return Team(request.param)


@forms
@pytest.mark.parametrize("rows,columns", [(1, 1), (3, 7), (4, 32), (37, 33), (64, 96), (130, 320)])
def test_the_rows_of_a_matrix_are_as_near_as_its_form_allows(form: str, rows: int, columns: int) -> None:
    weight = random_matrix(rows, columns)
    found = FORMS[form](weight, None).gather_rows(torch.arange(rows))
    assert found.shape == weight.shape
    assert float((found - weight).abs().max()) <= STEP_OF_FORM[form] * float(weight.abs().max())


@forms
def test_a_product_is_that_of_the_rows_in_float32(team: Team, form: str) -> None:
    for height, columns in [(1, 1), (3, 7), (4, 32), (37, 33), (130, 320)]:
        bias = torch.linspace(-1, 1, height)
        matrix = FORMS[form](random_matrix(height, columns), bias)
        dense = matrix.gather_rows(torch.arange(height)).double()
        for count in (1, 2, 3, 4, 7, 8, 9, 21):
            x = random_matrix(count, columns, 1)
            exact = x.double() @ dense.T + bias
            torch.testing.assert_close(matrix.matmul_f32(x, team).double(), exact, rtol=1e-5, atol=1e-5)


@forms
def test_a_row_alone_and_among_others_has_the_same_product_bit_for_bit(form: str) -> None:
    matrix, x = FORMS[form](random_matrix(70, 160), None), random_matrix(19, 160, 1)
    alone = torch.cat([matrix.matmul_f32(row.unsqueeze(0), Team(1)) for row in x])
    for threads in (1, 2, 3):
        assert torch.equal(matrix.matmul_f32(x, Team(threads)), alone)


@forms
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_never_rounded_to_one(form: str, value: float) -> None:
    weight = random_matrix(8, 64)
    weight[3, 40] = value
    product = FORMS[form](weight, None).matmul_f32(torch.ones(1, 64), Team(2))[0]
    assert not torch.isfinite(product[3])
    assert torch.isfinite(product[[0, 1, 2, 4, 5, 6, 7]]).all()


def test_four_bit_blocks_are_held_as_they_are() -> None:
    blocks = Blocks.of(random_matrix(12, 96))
    assert torch.equal(Matrix.int4(blocks, 96).gather_rows(torch.arange(12)), blocks.dense())


# ---------------------------------------------------------------------------------------------------------- the step


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    config: Any = transformers.LlamaConfig
    shape = llama_like(hidden_size=96, intermediate_size=160, head_dim=24, initializer_range=0.2)
    path = tmp_path_factory.mktemp("step") / "llama"
    return save_config(path, config(vocab_size=384, **shape), bpe_tokenizer(384), seed=1)


def decoder_of(folder: Path, precision: Precision) -> FusedDecoder:
    decoder = load(folder, precision=precision).decoder
    assert isinstance(decoder, FusedDecoder)
    return decoder


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_batch_equals_its_rows_alone_bit_for_bit_in_every_precision(folder: Path, precision: Precision) -> None:
    decoder = decoder_of(folder, precision)
    texts = [list(range(3, 3 + 5 * count)) for count in range(1, 12)]

    def read(text: list[int]) -> Any:
        cache = decoder.new_cache()
        decoder.prefill(text[:-1], cache)
        return cache

    with torch.inference_mode():
        alone = [decoder.decode([text[-1]], [read(text)]) for text in texts]
        together = decoder.decode([text[-1] for text in texts], [read(text) for text in texts])
    assert torch.equal(together.logits, torch.cat([one.logits for one in alone]))
    assert together.summaries == [summary for one in alone for summary in one.summaries]


@pytest.mark.parametrize("token_id", [-1, 384, 2**40])
def test_a_token_beyond_the_vocabulary_is_refused_before_anything_is_read(folder: Path, token_id: int) -> None:
    decoder = decoder_of(folder, "int8")
    cache = decoder.new_cache()
    with torch.inference_mode():
        for refused in (lambda: decoder.decode([5, token_id], [cache] * 2), lambda: decoder.prefill([token_id], cache)):
            with pytest.raises(IndexError, match="token ids must be from 0 to 383; got"):
                refused()
    assert cache.length == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("vocab", [384, 401])
def test_an_outline_holds_what_a_look_at_the_whole_row_would_find_whoever_computed_it(
    tmp_path: Path, threads: int, vocab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr("workbench.engine.packing.thread_count", lambda: threads)
    config: Any = transformers.LlamaConfig
    sized = config(vocab_size=vocab, **llama_like(initializer_range=0.2))
    decoder = decoder_of(save_config(tmp_path / "llama", sized, bpe_tokenizer(384), seed=2), "float32")
    with torch.inference_mode():
        logits, summaries = decoder.decode([3, 4, 5], [decoder.new_cache() for _ in range(3)])
    assert decoder._step._team.threads == threads
    for row, summary in zip(logits, summaries, strict=True):
        assert isinstance(summary, rows.LogitsSummary)
        values, places = rows.top_k_values(row, min(rows.SUMMARIZED, vocab))
        assert (summary.values[: len(values)], summary.token_ids[: len(values)]) == (values.tolist(), places.tolist())
        for token_id in range(vocab):
            expected = rows.softmax_stats(row, token_id=token_id) if token_id in places else None
            assert summary.sums(token_id) == expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_known_tokens_are_decoded_as_if_one_by_one(folder: Path, precision: Precision) -> None:
    decoder = decoder_of(folder, precision)
    text = list(range(7, 60))
    with torch.inference_mode():
        one, other = decoder.new_cache(), decoder.new_cache()
        decoder.prefill(text, one)
        decoder.prefill(text, other)
        piece = decoder.decode_known(text, one)
        singly = torch.cat([decoder.decode([token_id], [other]).logits for token_id in text])
    assert torch.equal(piece, singly)
    assert one.length == other.length == 2 * len(text) > STEP_TOKENS


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_lies_beyond_the_end_of_a_sequence_has_no_part_in_it(folder: Path, precision: Precision) -> None:
    decoder, text = decoder_of(folder, precision), list(range(5, 38))
    with torch.inference_mode():
        clean, dirty = decoder.new_cache(), decoder.new_cache()
        for cache in (clean, dirty):
            decoder.prefill(text, cache)
        dirty.kv[:, :, :, dirty.length :] = 1e4
        assert torch.equal(decoder.decode([9], [clean]).logits, decoder.decode([9], [dirty]).logits)


PROMPT_PRECISIONS = pytest.mark.parametrize("precision", PRECISIONS)


@PROMPT_PRECISIONS
@pytest.mark.parametrize("past", [0, 1, 31, 100])
def test_a_prompt_is_near_its_tokens_one_by_one(folder: Path, precision: Precision, past: int) -> None:
    decoder = decoder_of(folder, precision)
    before = [3 + index % 300 for index in range(past)]

    def read(text: list[int], **options: Any) -> tuple[Tensor, Tensor]:
        cache = decoder.new_cache()
        with torch.inference_mode():
            for token_id in before:
                decoder.decode([token_id], [cache])
            cache.kv[:, :, :, past + len(text) :] = 1e4  # what lies behind has no part in it
            logits = decoder.prefill(text, cache, **options)[-1]
        assert cache.length == past + len(text)
        return logits, cache.kv[:, :, :, : cache.length].float()

    for count in (9, 40, 41, 48, 63, 64, 65):
        text = [5 + 7 * index % 350 for index in range(count)]
        for part, known in zip(read(text), read(text, every_position=True), strict=True):
            assert relative_error(part, known) < (1e-5 if precision == "float32" else 0.1)


@PROMPT_PRECISIONS
def test_a_prompt_in_float32_products_is_its_tokens_one_by_one(
    folder: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor that multiplies nothing else, whose keys are bf16 in most precisions all the same."""
    monkeypatch.setattr("workbench.engine.fused_prompt.best_arithmetic", lambda **_: FMA)
    decoder, text = decoder_of(folder, precision), [5 + 7 * index % 350 for index in range(130)]
    assert decoder.prompt_arithmetic == "float32"
    one, other = decoder.new_cache(), decoder.new_cache()
    with torch.inference_mode():
        singly = torch.cat([decoder.decode([token_id], [other]).logits for token_id in text])
        for part in (text[:70], text[70:]):
            read = decoder.prefill(part, one, every_position=True)
            assert relative_error(read, singly[one.length - len(part) : one.length]) < 1e-2


@PROMPT_PRECISIONS
def test_a_prompt_is_the_same_however_it_is_cut_and_whoever_computes_it(
    folder: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, found = [5 + 7 * index % 350 for index in range(700)], []
    short = list(itertools.accumulate([1, 2, 5, 12, 13, 31, 40]))
    for threads, cuts in [(1, []), (2, [41, 83, 300, 412]), (3, [45]), (7, [512]), (2, short)]:
        monkeypatch.setattr("workbench.engine.packing.thread_count", lambda threads=threads: threads)
        decoder = decoder_of(folder, precision)
        cache = decoder.new_cache()
        with torch.inference_mode():
            for first, last in itertools.pairwise([0, *cuts, len(text)]):
                logits = decoder.prefill(text[first:last], cache)
        found.append((logits[-1], cache.kv[:, :, :, : len(text)].clone()))
    for logits, kv in found[1:]:
        assert torch.equal(kv, found[0][1])
        assert torch.equal(logits, found[0][0])


@PROMPT_PRECISIONS
@pytest.mark.parametrize("count", [1, 12, 13, 40, 41, 600])
def test_reading_without_logits_writes_the_same_keys_and_values(folder: Path, precision: Precision, count: int) -> None:
    decoder, text = decoder_of(folder, precision), [5 + 7 * index % 350 for index in range(count)]
    one, other = decoder.new_cache(), decoder.new_cache()
    with torch.inference_mode():
        decoder.read(text, one)
        decoder.prefill(text, other)
    assert one.length == other.length == count
    assert torch.equal(one.kv[:, :, :, :count], other.kv[:, :, :, :count])


def test_a_long_prompt_of_known_length_and_256_tokens_after_it_are_never_copied() -> None:
    cache = FusedCache(step_memory.Shape(2, 64, 64, 64, 2, 1, 32, 1e-5), torch.bfloat16, limit=1000)
    cache.expected_length = 700
    addresses: list[int] = []
    for count in (512, 188, 1, 255, 5, 39):
        cache.reserve(count)
        assert (cache.address, cache.capacity) == (cache.kv.data_ptr(), cache.kv.shape[3])
        assert cache.capacity >= cache.length + count
        cache.kv[:, :, :, cache.length : cache.length + count] = len(addresses)
        cache.length += count
        addresses.append(cache.address)
    assert addresses[:4] == [addresses[0]] * 4
    assert addresses[4:] == [addresses[5]] * 2
    assert cache.kv[0, 0, 0, :1000, 0].unique_consecutive(return_counts=True)[1].tolist() == [512, 188, 1, 255, 5, 39]


def relative_error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


# ------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("size", [1, 15, 16, 37, 64, 100, 4096, 49_152])
def test_the_largest_numbers_of_a_row_are_those_of_sorting_it(size: int) -> None:
    row = random_matrix(1, size)[0].mul(8).round()  # rounded, so that many are equal
    for count in {1, min(6, size), min(129, size), size}:
        values, places = rows.top_k_values(row, count)
        order = sorted(range(size), key=lambda place: (-float(row[place]), place))[:count]
        assert places.tolist() == order
        assert values.tolist() == row[order].tolist()


@pytest.mark.parametrize("size", [1, 15, 16, 37, 100, 49_152])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("masked", [False, True])
def test_the_sums_of_a_row_are_those_of_its_softmax(size: int, temperature: float, masked: bool) -> None:
    row = random_matrix(1, size)[0] * 5
    if masked:
        row[1::2] = -torch.inf
    found = rows.softmax_stats(row, temperature, token_id=size // 2 // 2 * 2)
    logprobs = (row.double() / temperature).log_softmax(-1)
    assert found.top == float(row.max())
    assert found.log_total == pytest.approx(float(((row.double() - row.max()) / temperature).logsumexp(-1)), abs=1e-5)
    assert found.entropy == pytest.approx(float(torch.special.entr(logprobs.exp()).sum()), abs=1e-4)
    assert found.above == int((row > row[size // 2 // 2 * 2]).sum())


@pytest.mark.parametrize("size", [20, 100])
@pytest.mark.parametrize("place", [0, 17, -1])
def test_a_row_with_nan_has_no_sums_and_gives_its_numbers(size: int, place: int) -> None:
    row = random_matrix(1, size)[0]
    row[place] = torch.nan
    assert math.isnan(rows.softmax_stats(row).log_total)
    values, places = rows.top_k_values(row, size)
    assert sorted(places[:-1]) == [index for index in range(size) if index != place % size]
    assert math.isnan(values[-1])


@pytest.mark.parametrize("count", [1, 24])
@pytest.mark.parametrize("end", [1022, 1023, 1024, 1025, 1026])
def test_no_length_of_a_text_is_special(folder: Path, count: int, end: int) -> None:
    """Scratch is padded to 1,024 positions: one written beyond them would be another head's."""
    fused, general = decoder_of(folder, "float32"), load(folder, fast=False).decoder
    text = [(7 * place) % 380 for place in range(end)]
    with torch.inference_mode():
        cache, other = fused.new_cache(), general.new_cache()
        fused.prefill(text[:-count], cache)
        general.prefill(text[:-count], other)
        found = fused.prefill(text[-count:], cache, every_position=True)
        expected = general.prefill(text[-count:], other, every_position=True)
    assert float((found - expected).abs().max()) <= 2e-5 * float(expected.abs().max())


# ----------------------------------------------------------------------------------------------- threads and processes


def test_the_threads_of_a_team_end_with_it_and_keep_nothing_alive(folder: Path) -> None:
    before = set(threading.enumerate())
    decoder = decoder_of(folder, "int4")
    with torch.inference_mode():
        decoder.decode([5], [decoder.new_cache()])
    weight = weakref.ref(decoder._weights.blocks[0].qkv[0])
    started = set(threading.enumerate()) - before
    del decoder
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()
    assert weight() is None


def test_compiled_code_is_kept_under_the_hash_of_all_that_it_was_compiled_from() -> None:
    """numba itself looks at the age of one file alone, and would take code of an older version for today's."""
    folder = Path(str(step.__file__)).parent
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    digest = hashlib.sha256(sources).hexdigest()
    for entry in (step.step, step.multiply, prompt.read_prompt, rows.largest, rows.sums):
        assert digest in [cell.cell_contents for cell in entry.py_func.__closure__]
        assert (
            digest[:16] in entry._cache._cache_file._index_name
        )  # one that names a class that has gone cannot be read


def test_a_second_process_compiles_nothing() -> None:
    script = (
        "import numpy as np; from workbench.engine.kernels.step import multiply;"
        "from workbench.engine.kernels.matrix_kernel import kernel_of, matrix_kernel;"
        "zeros, turns = np.zeros((4, 128), np.float32), np.zeros(16, np.int64);"
        "place = np.array([matrix_kernel(0), zeros.ctypes.data, 0, 1, 0]);"
        "multiply(place, 4, zeros, zeros, zeros, turns, 0, 1);"
        "print(*(len(one.stats.cache_hits) for one in (multiply, kernel_of(0))))"
    )
    for _ in range(2):
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found == "1 1\n"


@pytest.mark.parametrize("weight_format", ["float32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("shape", [(64, 32), (401, 48), (33, 576), (384, 100)])
def test_many_rows_are_multiplied_as_few_are(weight_format: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    bias = torch.randn(rows, generator=torch.Generator().manual_seed(1))
    matrix = {
        "float32": lambda: Matrix.float32(weight, bias),
        "bf16": lambda: Matrix.bf16(weight, bias),
        "int8": lambda: Matrix.int8(Int8Blocks.of(_whole_groups(weight)), columns, bias),
        "int4": lambda: Matrix.int4(Blocks.of(_whole_groups(weight)), columns, bias),
    }[weight_format]()
    for count in (1, 8, 31, 32, 33, 70):
        x = torch.randn(count, columns, generator=torch.Generator().manual_seed(count))
        for team in (Team(1), Team(3)):
            found, expected = matrix.matmul_many(x, team), matrix.matmul_f32(x, team)
            assert found.shape == (count, rows)
            assert relative_error(found, expected) < 1e-5


def _whole_groups(weight: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(weight, (0, -weight.shape[1] % GROUP))
