"""Fewer bits cost a known part of the exactness and nothing else, alone and in batches, in every family."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.fakes.listening import generate, submit
from tests.tiny_models import bpe_tokenizer, llama_like, save_config
from workbench.engine.decoders import GeneralDecoder
from workbench.engine.fused import FusedDecoder
from workbench.engine.loading import LoadedModel, load
from workbench.engine.logprobs import measure
from workbench.engine.precision import MANY_ROWS, PRECISIONS, Int4Linear, Int8Linear, Precision, bf16_linear, quantize
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine
from workbench.engine.weight_sizes import GROUP, fits_int4, fits_int8
from workbench.engine.weights import Blocks
from workbench.errors import NumericalError, UnprovenModelError

NARROW: tuple[Precision, ...] = ("bf16", "fp8", "int8", "int4")
VOCAB = 384


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.3


def linear_of(weight: Tensor, bias: Tensor | None, precision: Precision, *, keep_bf16: bool = False) -> Any:
    return quantize(weight, bias, precision, lambda: Blocks.of(weight), keep_bf16=keep_bf16)


# -------------------------------------------------------------------------------------------------- one product


def bound(weight: Tensor, x: Tensor, precision: Precision) -> Tensor:
    """How far a product may lie from the exact one, by the rounding of each weight; shape (rows of x, rows).

    bf16 keeps 8 bits, so that a number moves by at most 2**-9 of itself: this happens to weights or scales, to the
    bias, in the kernel and to the result, for which three such steps stand. Beyond that a weight moves by

    - fp8 (e4m3): 2**-4 of itself, or half of the smallest step, 2**-10 of the row's scale;
    - int8: half a step, the row's largest weight / 254;
    - int4: half a step of its group, and what bf16 takes from scale times 8 and from zero.
    """
    exact = weight.abs().double()
    moved = 3 * 2**-8 * exact
    largest = exact.amax(1, keepdim=True)  # (rows, 1)
    match precision:
        case "fp8":
            moved = moved + exact * 2**-4 + largest / 448 * 2**-10
        case "int8":
            moved = moved + largest / 254
        case "int4":
            blocks = Blocks.of(weight)
            zero = blocks.minimum + 8 * blocks.scale
            step = blocks.scale / 2 + 2**-9 * (8 * blocks.scale + zero.abs())
            moved = moved + step.double().repeat_interleave(GROUP, dim=1)
    return x.abs().double() @ moved.T


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize(
    "rows,columns", [(16, 64), (48, 192), (256, 128), (512, 64), (1, 1), (3, 5), (33, 100), (7, 64)]
)
def test_a_product_is_within_what_rounding_the_weights_allows(precision: Precision, rows: int, columns: int) -> None:
    weight, bias = random_matrix(rows, columns), random_matrix(1, rows, 1)[0]
    fits = {"int4": fits_int4(rows, columns), "int8": fits_int8(rows, columns)}
    form = precision if fits.get(precision, True) else "bf16"
    for with_bias, keep_bf16 in itertools.product((None, bias), (False, True)):
        linear = linear_of(weight, with_bias, precision, keep_bf16=keep_bf16)
        for count in (1, 2, MANY_ROWS - 1, MANY_ROWS, 40):
            x = torch.randn(count, columns, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
            exact = x.double() @ weight.T.double() + (0 if with_bias is None else bias.double())
            slack = bound(weight, x, form) + 2**-8 * (0 if with_bias is None else bias.abs().double())
            found = linear(x)
            assert found.shape == (count, rows)
            assert bool(((found.double() - exact).abs() <= slack).all())


@pytest.mark.parametrize("precision", NARROW)
def test_a_row_has_the_same_product_alone_and_among_others_of_the_same_form(precision: Precision) -> None:
    """Kernels may add in another order, and bf16 rounds the sum: one step of bf16 apart is all that is allowed."""
    weight, x = random_matrix(64, 128), torch.randn(8, 128).to(torch.bfloat16)
    linear = linear_of(weight, None, precision)
    together = linear(x).float()
    alone = torch.cat([linear(x[row : row + 1]) for row in range(8)]).float()
    torch.testing.assert_close(together, alone, rtol=2**-7, atol=2**-7)


def test_float32_is_the_product_itself() -> None:
    weight, bias, x = random_matrix(48, 96), random_matrix(1, 48, 3)[0], random_matrix(5, 96, 4)
    assert torch.equal(linear_of(weight, bias, "float32")(x), nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_many_rows_go_through_the_wide_weights_where_they_are_kept(precision: Precision) -> None:
    weight, x = random_matrix(64, 128), torch.randn(MANY_ROWS, 128).to(torch.bfloat16)
    wide, narrow = (linear_of(weight, None, precision, keep_bf16=keep_bf16) for keep_bf16 in (True, False))
    assert torch.equal(wide(x), bf16_linear(weight, None)(x))
    assert torch.equal(wide(x[:-1]), narrow(x[:-1]))
    assert wide.nbytes - narrow.nbytes == 2 * weight.numel()


@pytest.mark.parametrize(
    "rows,columns,fits", [(16, 64, True), (576, 576, True), (8, 64, False), (16, 32, False), (17, 64, False)]
)
def test_four_bits_are_for_shapes_that_the_kernel_takes_and_bf16_for_the_others(
    rows: int, columns: int, fits: bool
) -> None:
    def blocks() -> Blocks:
        assert fits, "a matrix that stays in bf16 is not quantized in vain"
        return Blocks.of(weight)

    weight = random_matrix(rows, columns)
    for keep_bf16 in (False, True):
        linear = quantize(weight, None, "int4", blocks, keep_bf16=keep_bf16)
        assert isinstance(linear, Int4Linear) is fits
        assert fits_int4(rows, columns) is fits
        bits = (4 + 32 / GROUP + 16 * keep_bf16) if fits else 16
        assert linear.nbytes == rows * columns * bits / 8


@pytest.mark.parametrize("columns", [8, 24, 31, 32, 33, 40, 48, 56, 96, 100])
def test_eight_bits_are_for_widths_whose_rows_the_kernel_does_not_overrun(columns: int) -> None:
    """The kernel reads whole vectors: beside another width it would add up what lies behind the matrix, or crash."""
    weight, x = random_matrix(5, columns), torch.ones(1, columns, dtype=torch.bfloat16)
    for keep_bf16 in (False, True):
        linear = linear_of(weight, None, "int8", keep_bf16=keep_bf16)
        assert isinstance(linear, Int8Linear) is (columns % 32 == 0)
        assert linear(x)[0].tolist() == pytest.approx(weight.sum(1).tolist(), abs=0.05 * columns**0.5)


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("value", [0.0, 1e-30, 3e4])
def test_rows_of_zeros_and_of_extremes_give_no_nan(precision: Precision, value: float) -> None:
    weight = torch.full((16, 64), value)
    found = linear_of(weight, None, precision)(torch.ones(1, 64, dtype=torch.bfloat16)).double()
    assert found == pytest.approx(torch.full((1, 16), 64 * value).double(), rel=2**-4, abs=1e-9)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("keep_bf16", [False, True])
def test_a_weight_that_is_not_a_number_is_never_rounded_to_one(precision: Precision, keep_bf16: bool) -> None:
    weight = random_matrix(16, 64)
    weight[3, 9] = float("nan")
    linear = linear_of(weight, None, precision, keep_bf16=keep_bf16)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    for count in (1, MANY_ROWS):
        assert bool(linear(torch.ones(count, 64, dtype=dtype))[:, 3].isnan().all())


# ----------------------------------------------------------------------------------------------------- whole models

# Typed as Any, for transformers' configs are only partly typed.
configs: Any = transformers


def wide(**more: Any) -> dict[str, Any]:
    """Wide enough for the 4-bit kernel, and calm enough to have an opinion that noise does not turn."""
    return {"vocab_size": VOCAB} | llama_like(
        hidden_size=64, intermediate_size=128, initializer_range=0.1, max_position_embeddings=512, **more
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: configs.LlamaConfig(**wide(attention_bias=True, mlp_bias=True)),
    "mistral": lambda: configs.MistralConfig(**wide(sliding_window=None)),
    "qwen2": lambda: configs.Qwen2Config(**wide(tie_word_embeddings=True)),
    "qwen3": lambda: configs.Qwen3Config(**wide(head_dim=32)),
    "odd-llama": lambda: configs.LlamaConfig(**wide() | {"hidden_size": 60, "intermediate_size": 100, "head_dim": 10}),
    "gpt2": lambda: configs.GPT2Config(
        vocab_size=VOCAB, n_embd=64, n_layer=2, n_head=4, n_positions=512, bos_token_id=0, eos_token_id=0,
        initializer_range=0.1,
    ),
    "gemma3": lambda: configs.Gemma3TextConfig(
        **wide(
            head_dim=16, query_pre_attn_scalar=16, sliding_window=24, tie_word_embeddings=False,
            layer_types=["sliding_attention", "full_attention"],
        )
    ),
    "gpt-neox": lambda: configs.GPTNeoXConfig(
        **{name: value for name, value in wide().items() if name != "num_key_value_heads"}
    ),
    "mixtral": lambda: configs.MixtralConfig(**wide(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
}  # fmt: skip
GENERAL = {"general-gpt2", "general-gemma3", "general-mixtral"}
"""Those that transformers' own forward computes, although the fused step serves them too."""

KINDS = [*FAMILIES, *sorted(GENERAL)]

WORST: dict[Precision, float] = {"bf16": 0.03, "fp8": 0.12, "int8": 0.05, "int4": 0.35}
"""Root mean square error of a position's logits, as a part of their own root mean square.

Of weights drawn from a normal distribution a 4-bit group of 32 loses 8 % (its range is 4.1 standard deviations in 15
steps, each rounded evenly), e4m3 2.6 %, 8 bits 0.7 % and bf16 0.2 %, in each of the up to 14 products that add up.
"""


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Precision], LoadedModel]:
    """A family's random model in a precision, each loaded once."""
    root, tokenizer = tmp_path_factory.mktemp("precisions"), bpe_tokenizer(VOCAB)

    @cache
    def folder(family: str) -> Path:
        config = FAMILIES[family.removeprefix("general-")]()
        return save_config(root / family, config, tokenizer, seed=3, vectors=0.1)

    @cache
    def model(family: str, precision: Precision) -> LoadedModel:
        fast = family not in GENERAL
        return load(folder(family), precision=precision, name=f"{family}-{precision}", fast=fast)

    return model


ModelOf = Callable[[str, Precision], LoadedModel]


def some_ids(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, VOCAB) for _ in range(count)]


def logits_of(model: LoadedModel, token_ids: list[int], *, one_by_one: bool = False) -> Tensor:
    decoder = model.decoder
    cache = decoder.new_cache()
    with torch.inference_mode():
        if not one_by_one:
            return decoder.prefill(token_ids, cache, every_position=True)
        return torch.cat([decoder.decode([token_id], [cache]).logits for token_id in token_ids])


def error(found: Tensor, exact: Tensor) -> float:
    """Of the middle position: where experts are chosen, a near tie may fall the other way and move one position far."""
    moved = (found - exact).pow(2).mean(-1).sqrt() / exact.pow(2).mean(-1).sqrt()
    return float(moved.median())


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_logits_stay_near_those_of_float32(
    model_of: ModelOf, family: str, precision: Precision, one_by_one: bool
) -> None:
    token_ids = some_ids(40)
    model = model_of(family, precision)
    assert isinstance(model.decoder, GeneralDecoder if family in GENERAL else FusedDecoder)
    found = logits_of(model, token_ids, one_by_one=one_by_one)
    assert found.dtype == torch.float32
    assert error(found, logits_of(model_of(family, "float32"), token_ids)) < WORST[precision]


@pytest.mark.parametrize("family", sorted(set(KINDS) - {"odd-llama"}))
def test_fewer_bits_are_really_used(model_of: ModelOf, family: str) -> None:
    """A model that says int4 and computes in bf16 would be exact, large, and a lie."""
    exact = logits_of(model_of(family, "float32"), some_ids(25))
    errors = {one: error(logits_of(model_of(family, one), some_ids(25), one_by_one=True), exact) for one in NARROW}
    assert errors["bf16"] < errors["fp8"] < errors["int4"]
    assert errors["bf16"] < errors["int8"] < errors["int4"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_linear_layer_of_a_general_model_is_packed_but_its_head(model_of: ModelOf, precision: Precision) -> None:
    for family in ("general-gpt2", "general-gemma3"):
        decoder = model_of(family, precision).decoder
        assert isinstance(decoder, GeneralDecoder)
        plain = [
            name
            for name, module in decoder.model.named_modules()
            if isinstance(module, nn.Linear | transformers.pytorch_utils.Conv1D)
        ]
        assert (plain == ["lm_head"]) is (precision in {"fp8", "int8", "int4"})


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_family_speaks_in_every_precision_alone_and_in_batches(
    model_of: ModelOf, engine_of: Callable[..., Engine], family: str, precision: Precision
) -> None:
    """Twelve requests of different lengths come and go, and the batch crosses the border to many rows."""
    model = model_of(family, precision)
    engine, rng = engine_of(model=model, prefix_cache_bytes=2**20), random.Random(4)
    requests = [
        GenerationRequest(
            prompt_ids=tuple(some_ids(rng.choice([1, 2, 8, 9, 40]), seed)),
            max_tokens=rng.randrange(1, 14),
            stop_ids=frozenset(),
            sampling=Sampling(temperature=rng.choice([0.0, 1.0]), top_p=0.9, repetition_penalty=1.2, seed=seed),
            alternatives=rng.choice([0, 3]),
        )
        for seed in range(12)
    ]
    running = []
    for request in requests:
        running.append(submit(engine, request))
        if rng.random() < 0.3:
            running[rng.randrange(len(running))][0].cancel()
    for request, (handle, heard) in zip(requests, running, strict=True):
        heard.wait()
        assert heard.finished.reason == "length" or handle.cancelled.is_set()
        assert len(heard.ids) <= request.max_tokens
        assert all(step.stats.logprob <= 0 for step in heard.steps)
    alone = generate(engine, requests[0])
    assert alone.ids == generate(engine, requests[0]).ids


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("count", [2, MANY_ROWS, 16])
def test_rows_together_stay_as_near_to_float32_as_rows_alone(
    model_of: ModelOf, family: str, precision: Precision, count: int
) -> None:
    texts = [some_ids(3 + 5 * row, row) for row in range(count)]
    decoder = model_of(family, precision).decoder
    caches = [decoder.new_cache() for _ in texts]
    with torch.inference_mode():
        for text, cache in zip(texts, caches, strict=True):
            decoder.prefill(text[:-1], cache)
        together = decoder.decode([text[-1] for text in texts], caches).logits
    exact = torch.cat([logits_of(model_of(family, "float32"), text)[-1:] for text in texts])
    assert error(together, exact) < WORST[precision]
    for row in range(count):
        assert error(together[row], exact[row]) < 2 * WORST[precision]


@pytest.mark.parametrize("precision", NARROW)
def test_the_likeliest_logits_are_not_rounded_to_bf16(model_of: ModelOf, precision: Precision) -> None:
    """Around 20 bf16 counts in eighths: neighbours would tie, and chance would choose between them."""
    logits = logits_of(model_of("llama", precision), some_ids(50))
    best = logits.topk(100).values
    assert float((best == best.to(torch.bfloat16).float()).float().mean()) < 0.1
    assert [stats.rank for stats in measure(logits, logits.argmax(-1).tolist(), [0] * 50)] == [1] * 50


@pytest.mark.parametrize("family", ["llama", "general-gpt2"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_weight_that_is_nan_is_an_error_in_every_precision(
    model_of: ModelOf, engine_of: Callable[..., Engine], tmp_path: Path, family: str, precision: Precision
) -> None:
    source = model_of(family, "float32").folder
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in sorted(tensors) if "mlp" in name and name.endswith("proj.weight"))
    tensors[name][3, 3] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    if family in GENERAL:  # found by the proof, before anything is asked
        with pytest.raises(UnprovenModelError, match="computes NaN"):
            load(tmp_path, precision=precision, name="damaged", fast=False)
        return
    engine = engine_of(model=load(tmp_path, precision=precision, name="damaged"))
    for count in (1, 20):
        heard = generate(engine, GenerationRequest(prompt_ids=tuple(some_ids(count)), max_tokens=4))
        assert isinstance(heard.error, NumericalError)
        assert heard.text == ""
