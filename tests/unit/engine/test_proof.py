"""A model proves itself at load: what breaks it is found, switched off where that mends it, and refused where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tests.fakes.listening import generate
from tests.tiny_models import FAMILIES, bpe_tokenizer, llama_like, save_config, save_model
from workbench.engine import loading
from workbench.engine.decoders import CacheFeatures, Decoded, GeneralCache, GeneralDecoder
from workbench.engine.fused import FusedDecoder
from workbench.engine.loading import load
from workbench.engine.proof import prove
from workbench.engine.proof_cache import cached_proof
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.errors import UnprovenModelError

MakeEngine = Callable[..., Engine]
BORDER = 24


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_model(tmp_path_factory.mktemp("gpt2"), "gpt2")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


# ------------------------------------------------------------------------------------------- decoders that are broken


class DropsPositions(GeneralDecoder):
    """Every piece of a text begins at position 0."""

    def _forward(self, token_ids: Sequence[int], cache: GeneralCache, **options: Any) -> Tensor:
        positions = torch.arange(len(token_ids)).unsqueeze(0)
        return super()._forward(token_ids, cache, position_ids=positions, **options)


class CropsOneTooFew(GeneralDecoder):
    def new_cache(self) -> GeneralCache:
        class Cache(GeneralCache):
            def fork(self, length: int) -> Any:
                forked = super().fork(min(length + 1, self.length))
                if forked is not None:
                    forked.token_ids = self.token_ids[:length]
                return forked

        return Cache(self._new_past(), self.features)


class SharesState(GeneralDecoder):
    def new_cache(self) -> GeneralCache:
        class Cache(GeneralCache):
            def fork(self, length: int) -> Any:
                return self if length == self.length else super().fork(length)

        return Cache(self._new_past(), self.features)


class SharesStateBetweenTexts(GeneralDecoder):
    """All sequences have one cache, as where a model keeps its state in itself."""

    def new_cache(self) -> GeneralCache:
        if not hasattr(self, "_one"):
            self._one = super().new_cache()
        return self._one


class ForgetsInChunks(GeneralDecoder):
    """A piece that follows others is read as if none had come before, unless it is a single token."""

    def _forward(self, token_ids: Sequence[int], cache: GeneralCache, **options: Any) -> Tensor:
        if cache.length and len(token_ids) > 1:
            token_ids, past = list(token_ids), cache.past
            logits = super()._forward(token_ids, GeneralCache(self._new_past(), self.features), **options)
            cache.past, cache.token_ids = past, [*cache.token_ids, *token_ids]
            return logits
        return super()._forward(token_ids, cache, **options)


class BreaksInSteps(GeneralDecoder):
    def decode(self, token_ids: Sequence[int], caches: Sequence[GeneralCache]) -> Decoded:
        raise RuntimeError("too many values to unpack")


@pytest.mark.parametrize(
    "broken, off",
    [
        (GeneralDecoder, ()),
        (DropsPositions, ("keep",)),
        (CropsOneTooFew, ("crop",)),
        (ForgetsInChunks, ("chunks",)),
        (SharesState, ("copy",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_decoder_does_wrongly_is_switched_off(
    gpt2: Any, broken: type[GeneralDecoder], off: tuple[str, ...]
) -> None:
    decoder = broken(gpt2)
    assert set(off) <= set(prove(decoder, "float32", 512).switched_off)
    assert bool(off) == (decoder.features != CacheFeatures())


@pytest.mark.parametrize("broken", [SharesStateBetweenTexts, BreaksInSteps])
def test_what_nothing_mends_is_refused(gpt2: Any, broken: type[GeneralDecoder]) -> None:
    with pytest.raises(
        UnprovenModelError, match="decoding token by token differs from a forward pass over the whole text"
    ):
        prove(broken(gpt2), "float32", 512)


def test_attention_that_looks_ahead_is_refused_by_name(tmp_path: Path) -> None:
    make: Any = transformers.BertConfig
    config = make(
        vocab_size=384,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        is_decoder=False,
        initializer_range=0.3,
    )
    folder = save_config(tmp_path, config, bpe_tokenizer())
    with pytest.raises(UnprovenModelError, match=r"BertLMHeadModel.* cannot be used in float32: .*not causal"):
        load(folder)


# ------------------------------------------------------------------------------------------------- kept by checksum


def test_a_proof_is_kept_until_the_weights_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, kept = save_model(tmp_path / "model", "gpt2"), tmp_path / "proofs"
    made: list[str] = []

    def counted(decoder: GeneralDecoder, precision: Any, length: int) -> Any:
        made.append(precision)
        return prove(decoder, precision, length)

    monkeypatch.setattr(loading, "prove", counted)
    for precision in ("float32", "float32", "bf16", "bf16"):
        load(folder, precision=precision, proofs=kept, fast=False)
    assert made == ["float32", "bf16"]
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x80\x3c")
    load(folder, proofs=kept, fast=False)
    assert made == ["float32", "bf16", "float32"]


def test_a_refusal_is_kept_too_and_damage_to_what_is_kept_is_not_believed(tmp_path: Path) -> None:
    folder, kept = save_model(tmp_path / "model", "gpt2"), tmp_path / "proofs"
    load(folder, proofs=kept, fast=False)
    for path in kept.iterdir():
        path.write_text(json.dumps({"switched_off": ["everything"]}))
    assert load(folder, proofs=kept, fast=False).proof.switched_off == ()


# ------------------------------------------------------------------------------- angles that depend on the length


def scaled(kind: str) -> Any:
    rope: dict[str, Any] = {"rope_theta": 10000.0}
    if kind == "dynamic":
        rope |= {"rope_type": "dynamic", "factor": 4.0}
        return FAMILIES_MADE["llama"](rope_parameters=rope, max_position_embeddings=BORDER)
    rope |= {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 5.0, 9.0, 30.0]}
    rope["original_max_position_embeddings"] = BORDER
    more = {"original_max_position_embeddings": BORDER} if kind == "phi3" else {}
    return FAMILIES_MADE[kind](rope_parameters=rope, max_position_embeddings=128, **more)


FAMILIES_MADE: dict[str, Callable[..., Any]] = {
    "llama": lambda **more: transformers.LlamaConfig(vocab_size=384, **llama_like(**more)),
    "phi3": lambda **more: transformers.Phi3Config(vocab_size=384, **llama_like(**more)),
}


@pytest.mark.parametrize("kind", ["llama", "phi3"])
@pytest.mark.parametrize("fast", [True, False])
def test_a_text_across_the_border_of_longrope_is_one_forward_over_the_whole(
    tmp_path: Path, engine_of: MakeEngine, kind: str, *, fast: bool
) -> None:
    folder = save_config(tmp_path, scaled(kind), bpe_tokenizer(), seed=3)
    model = load(folder, fast=fast)
    assert isinstance(model.decoder, FusedDecoder) is fast
    engine = engine_of(model=model, prefix_cache_bytes=2**24)
    reference: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def exact(ids: list[int]) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = reference(torch.tensor([ids]), use_cache=False).logits[0]
        return logits.log_softmax(-1)

    prompt = [(11 * index) % 370 + 3 for index in range(90)]
    for count in (90, BORDER - 6, BORDER, BORDER + 1, 90):
        for measured in (True, False):
            request = GenerationRequest(
                prompt_ids=tuple(prompt[:count]), max_tokens=12, stop_ids=frozenset(), prompt_logprobs=measured
            )
            heard = generate(engine, request)
            whole = exact(prompt[:count])
            for position, one in enumerate(heard.started.prompt_stats):
                assert one.logprob == pytest.approx(float(whole[position, one.token_id]), abs=1e-4)
            for position, step in enumerate(heard.steps):
                row = exact([*prompt[:count], *heard.ids[:position]])[-1]
                assert step.stats.token_id == int(row.argmax())
                assert step.stats.logprob == pytest.approx(float(row.max()), abs=1e-4)


def test_dynamic_angles_are_those_of_the_text_and_not_of_a_longer_one_before(tmp_path: Path) -> None:
    folder = save_config(tmp_path, scaled("dynamic"), bpe_tokenizer(), seed=3)
    fresh = [transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for _ in range(2)]
    decoder = GeneralDecoder(fresh[0])
    ids = [(7 * index) % 370 + 3 for index in range(60)]
    with torch.inference_mode():
        decoder.full_logits(ids)
        cache = decoder.new_cache()
        decoder.prefill(ids[:20], cache)
        for position in range(20, 40):
            found = decoder.decode(ids[position : position + 1], [cache]).logits
            right = fresh[1](torch.tensor([ids[: position + 1]]), use_cache=False).logits[0, -1:]
            assert torch.allclose(found, right, atol=1e-4)


# --------------------------------------------------------------------------------------------- what a folder names


def test_end_tokens_are_the_union_of_what_the_files_name(tmp_path: Path) -> None:
    folder = save_model(tmp_path, "llama", end_ids=[0, 7])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 9}))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"eos_token": "<|im_end|>"}))
    assert load(folder).eos_ids == {0, 2, 7, 9}


def test_experts_in_stacks_run_in_every_precision(tmp_path: Path, engine_of: MakeEngine) -> None:
    folder = save_config(tmp_path, FAMILIES["mixtral"](384), bpe_tokenizer())
    for precision in ("bf16", "fp8", "int8", "int4"):
        engine = engine_of(model=load(folder, precision=precision, fast=False))
        heard = generate(engine, GenerationRequest(prompt_ids=(5, 6, 7), max_tokens=4, stop_ids=frozenset()))
        assert len(heard.ids) == 4


@pytest.mark.parametrize(
    "content",
    ['{"switched_off": [["keep"]]}', '{"switched_off": null}', '{"refused": 5}', "{}", "[]", "{", "[" * 100_000],
    ids=lambda content: content[:24],
)
def test_what_is_kept_in_another_form_is_made_anew(tmp_path: Path, content: str) -> None:
    folder, places = save_model(tmp_path / "model", "gpt2"), tmp_path / "proofs"
    load(folder, proofs=places, fast=False)
    for path in places.iterdir():
        whole = path.read_text()
        stamps = {"stamps": json.loads(whole).get("stamps")}  # the right files without their checksum
        for damaged in (content, json.dumps(stamps)):
            path.write_text(damaged)
            assert cached_proof(folder, "float32", places) is None
            assert load(folder, proofs=places, fast=False).proof.switched_off == ()
            assert path.read_text() == whole


def test_where_nothing_can_be_kept_a_model_is_proven_all_the_same(tmp_path: Path) -> None:
    folder, places = save_model(tmp_path / "model", "gpt2"), tmp_path / "proofs"
    places.write_text("a file")
    assert load(folder, proofs=places, fast=False).proof.switched_off == ()
    assert cached_proof(folder, "float32", places) is None


@pytest.mark.parametrize(
    "settings",
    [{"stop_strings": ["."]}, {"guidance_scale": 1.5}, {"repetition_penalty": 0}, {"use_cache": False}],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_sampling_are_no_matter_of_the_proof(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = save_model(tmp_path, "gpt2")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 7} | settings))
    assert load(folder, fast=False).eos_ids == {0, 7}
