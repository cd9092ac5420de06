"""A device proves itself at load: its numbers are kept, a wrong one is refused, a slow one gets a note."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.fakes.listening import generate
from tests.tiny_models import bpe_tokenizer, save_config
from tests.tiny_structures import FUSED, GENERAL, VOCAB
from workbench.devices import DeviceProof
from workbench.engine import loading, packed_models
from workbench.engine.decoders import GeneralDecoder
from workbench.engine.devices import DeviceChoice
from workbench.engine.loading import load
from workbench.engine.on_device import loading as on_device_loading
from workbench.engine.on_device.decoder import DeviceDecoder
from workbench.engine.on_device.forward import Forward
from workbench.engine.on_device.proof import TOLERANCE, compared
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.errors import InsufficientMemoryError, InvalidRequestError, NumericalError, UnprovenModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_config(tmp_path_factory.mktemp("proof") / "model", FUSED["gemma3"](), bpe_tokenizer(VOCAB), vectors=0.3)


def test_the_proof_has_the_divergence_and_both_speeds(folder: Path) -> None:
    for precision, dtype, bound in (
        ("float32", "float32", 1e-9),
        ("bf16", "bfloat16", 0.05),
        ("int4", "bfloat16", 0.05),
    ):
        model = load(folder, precision=precision, device="torch:cpu")  # type: ignore[arg-type]
        proof = model.device_proof
        assert proof is not None
        assert (proof.device, proof.dtype, proof.argmax_equal, proof.notes) == ("cpu", dtype, True, ())
        assert 0 <= proof.kl < bound
        assert (proof.kl > 1e-9) == (dtype == "bfloat16"), "16 bits round"
        assert min(proof.tokens_per_second, proof.cpu_tokens_per_second) > 0
        assert model.memory_bytes == pytest.approx(model.predicted_memory_bytes, rel=0.05)
        assert model.precision == ("float32" if precision == "float32" else "bf16"), "what the weights are held in"


def test_a_device_that_computes_something_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = Forward.logits

    def wrong(forward: Forward, hidden: torch.Tensor) -> torch.Tensor:
        logits = head(forward, hidden)
        return logits if hidden.dim() == 2 and len(hidden) > 18 else logits.roll(1, -1)  # of the device alone

    monkeypatch.setattr(Forward, "logits", wrong)
    words = r"cpu computes other logits in float32 .* rounding explains 0\.001"
    with pytest.raises(UnprovenModelError, match=f"{words}; choose another device"):
        load(folder, device="torch:cpu")
    found = [DeviceChoice("torch:cpu", "the first"), DeviceChoice("cpu", "the last")]
    monkeypatch.setattr(loading, "candidates", lambda _: found)
    model = load(folder, device="auto")
    assert (model.device, model.device_proof) == ("cpu", None)
    assert re.fullmatch(words, model.device_why)

    def missing(*_: object, **__: object) -> None:
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(Forward, "logits", missing)
    assert load(folder, device="auto").device_why == "cpu cannot compute model: no such kernel"


def test_verdicts_follow_from_the_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.randn(32, 100)
    for dtype, tolerance in TOLERANCE.items():
        near, far = (expected + scale * tolerance * torch.randn(32, 100) for scale in (0.5, 3))
        slow = compared(torch.device("cuda"), dtype, near, expected, 5.0, 10.0)
        assert slow.notes == ("cuda decodes 5 tokens/s, the CPU 10; choose device cpu",)
        assert not compared(torch.device("cuda"), dtype, near, expected, 20.0, 10.0).notes
        with pytest.raises(UnprovenModelError, match="rounding explains"):
            compared(torch.device("cuda"), dtype, far, expected, 20.0, 10.0)
        with pytest.raises(UnprovenModelError):
            compared(torch.device("cuda"), dtype, near * torch.nan, expected, 20.0, 10.0)
        with pytest.raises(NumericalError, match="damaged or overflow"):
            compared(torch.device("cuda"), dtype, near * torch.nan, expected * torch.nan, 20.0, 10.0)
    first, second = expected.topk(2, -1).values.unbind(-1)
    clearest = int((first - second).argmax())
    swapped = expected.clone()
    swapped[clearest, expected[clearest].topk(2).indices] = expected[clearest].topk(2).values.flip(0)
    with pytest.raises(UnprovenModelError, match="the most probable token is another one where it is clearly ahead"):
        compared(torch.device("cuda"), torch.bfloat16, swapped, expected, 20.0, 10.0)


def test_a_model_without_a_structure_is_moved_as_transformers_computes_it(tmp_path: Path) -> None:
    folder = save_config(tmp_path / "other", GENERAL["other-activation"](), bpe_tokenizer(VOCAB), vectors=0.3)
    moved, plain = load(folder, device="torch:cpu"), load(folder)
    assert isinstance(moved.decoder, GeneralDecoder)
    assert moved.device_proof is not None
    assert moved.device_proof.kl < 1e-9
    request, heard = GenerationRequest(prompt_ids=(5, 6, 7), max_tokens=12, stop_ids=frozenset()), []
    for model in (moved, plain):
        engine = Engine(model)
        heard.append(generate(engine, request).ids)
        engine.close()
    assert heard[0] == heard[1]


def test_a_moved_model_in_16_bits_is_the_one_that_transformers_loads_in_them(tmp_path: Path) -> None:
    folder = save_config(tmp_path / "other", GENERAL["other-activation"](), bpe_tokenizer(VOCAB), vectors=0.3)
    decoder = load(folder, precision="bf16", device="torch:cpu").decoder
    assert isinstance(decoder, GeneralDecoder)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    token_ids = [(7 * index) % VOCAB for index in range(500)]  # late positions show what rounds their angles
    with torch.inference_mode():
        expected = loaded.eval()(torch.tensor([token_ids]), use_cache=False).logits[0].float()
        found = decoder.full_logits(token_ids)
    assert torch.equal(found, expected)


def test_a_proof_is_made_once_for_a_model_a_dtype_and_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = bpe_tokenizer(VOCAB)
    made: list[Any] = []

    def recording(prove: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*given: Any) -> Any:
            made.append(prove(*given))
            return made[-1]

        return recorded

    for target in ("prove_device", "moved_and_compared"):
        monkeypatch.setattr(on_device_loading, target, recording(getattr(on_device_loading, target)))
    for config in (FUSED["gemma3"](), GENERAL["other-activation"]()):
        folder = save_config(tmp_path / type(config).__name__, config, tokenizer, vectors=0.3)

        def proof_of(
            folder: Path = folder, proofs: Path | None = tmp_path / "proofs", **more: Any
        ) -> DeviceProof | None:
            return load(folder, device="torch:cpu", proofs=proofs, **more).device_proof

        made.clear()
        assert proof_of() == proof_of() == made[0]
        assert len(made) == 1
        model = load(folder, device="torch:cpu", precision="bf16", proofs=tmp_path / "proofs")
        again = load(folder, device="torch:cpu", precision="bf16", proofs=tmp_path / "proofs")
        assert (len(made), again.device_proof) == (2, model.device_proof)
        with torch.inference_mode():
            first, second = (one.decoder.prefill([5, 6], one.decoder.new_cache()) for one in (model, again))
        assert torch.equal(first, second), "what is proven is not computed in another way"
        monkeypatch.setattr(packed_models, "_sources", lambda name=folder.name: name)
        proof_of()
        os.utime(folder / "model.safetensors", (1, 1))
        proof_of()
        for path in (tmp_path / "proofs").glob("device-*"):
            path.write_text('{"device": 3}')
        proof_of()
        proof_of(proofs=None)
        assert len(made) == 6


def test_a_device_is_refused_by_name_before_anything_is_read(tmp_path: Path) -> None:
    for name in ("", "gpu", "cuda:x", "meta", "CPU", "cpu:0", "cuda:99"):
        with pytest.raises(InvalidRequestError, match=r"device must be auto(, | or )"):
            load(tmp_path / "missing", device=name)


def test_too_little_memory_of_a_device_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders: list[weakref.ref[Any]] = []

    def full(decoder: DeviceDecoder, *_: object, **__: object) -> None:
        decoders.append(weakref.ref(decoder))
        raise torch.OutOfMemoryError("out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(DeviceDecoder, "prefill", full)
    with pytest.raises(
        InsufficientMemoryError, match=r"memory of cpu in float32: out of memory.*another device"
    ) as refused:
        load(folder, device="torch:cpu")
    assert decoders[0]() is None, f"{refused.value!r} keeps the weights"

    def proven(decoder: GeneralDecoder, *_: object) -> None:
        decoders.append(weakref.ref(decoder))
        raise torch.OutOfMemoryError("out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(loading, "prove", proven)
    other = save_config(tmp_path / "other", GENERAL["other-activation"](), bpe_tokenizer(VOCAB), vectors=0.3)
    with pytest.raises(InsufficientMemoryError, match=r"other does not fit into the memory of cpu") as refused:
        load(other, device="torch:cpu")
    assert decoders[1]() is None, f"{refused.value!r} keeps the weights"
