"""The device of a model comes from its registration or its provider's config, and its card says which and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import devices as machines
from tests.fakes.devices import GIGABYTE, stand_on
from workbench import Workbench
from workbench.devices import DeviceProof
from workbench.engine.devices import choose
from workbench.engine.loading import LoadedModel, load
from workbench.errors import ConfigError, InsufficientMemoryError, InvalidRequestError
from workbench.protocol import ModelDef, SamplingParams
from workbench.providers.transformers import TransformersProvider, served
from workbench.providers.wire import from_wire, to_wire
from workbench.records import ModelCard

Make = Callable[..., TransformersProvider]
Folders = dict[str, Path]
PROOF = DeviceProof("cuda:1", "bfloat16", 2e-6, True, 310.0, 90.0, ("a note",))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Devices for which models were loaded; a model for another device is computed on the CPU."""
    devices: list[str] = []

    def load_here(folder: Path, *, device: str, **options: Any) -> LoadedModel:
        device, why = (choice := choose(device)).device, choice.why
        devices.append(device)
        proof = None if device == "cpu" else PROOF
        return replace(load(folder, **options), device=device, device_why=why, device_proof=proof)

    monkeypatch.setattr(served, "load", load_here)
    return devices


async def test_a_device_of_the_config_or_of_the_registration_is_loaded_for_and_shown(
    provider_of: Make, tiny_folders: Folders, monkeypatch: pytest.MonkeyPatch, loads: list[str]
) -> None:
    stand_on(monkeypatch, machines.NVIDIA)
    provider = provider_of(tiny_folders["llama"], tiny_folders["bert"], device="cuda:1")
    assert provider.devices() == ["cuda:0", "cuda:1", "cpu"]
    card = provider.card("tiny-llama")
    assert (card.device, card.device_why, card.device_proof) == ("cuda:1", "NVIDIA T4, chosen by name", None)
    assert card.memory_limit_bytes == 24 * GIGABYTE
    assert card.decoder == "device"
    assert card.parameters
    assert card.predicted_memory_bytes == 4 * card.parameters  # float32
    small = ModelDef(identifier="small", llama_model=str(tiny_folders["llama"]), metadata={"precision": "int4"})
    await provider.register_model(small)
    assert provider.card("small").precision == "float16"  # a T4 has no bf16
    await provider.register_model(small.model_copy(update={"metadata": {"precision": "int4", "device": "cuda:0"}}))
    assert provider.card("small").precision == "bf16"
    sentences = provider.card("tiny-bert")
    assert (sentences.device, sentences.device_why) == ("cpu", "sentence models are computed on the CPU")
    provider.load("tiny-llama")
    card = provider.card("tiny-llama")
    assert (card.device, card.device_proof, loads) == ("cuda:1", PROOF, ["cuda:1"])
    assert from_wire(ModelCard, json.loads(json.dumps(to_wire(card)))) == card

    mine = ModelDef(identifier="mine", llama_model=str(tiny_folders["llama"]), metadata={"device": "cpu"})
    await provider.register_model(mine)
    assert (provider.card("mine").device, provider.card("mine").device_why) == ("cpu", "chosen by name")
    provider.load("mine")
    await provider.register_model(mine.model_copy(update={"metadata": {"device": "cuda"}}))
    assert await provider.completion("mine", "The", SamplingParams(max_tokens=2))
    assert loads == ["cuda:1", "cpu", "cuda:0"]
    assert provider.card("mine").device == "cuda:0"


async def test_a_device_that_cannot_be_used_is_refused_before_anything_is_read(
    provider_of: Make, tiny_folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine, device, words in (
        (machines.LAPTOP, "cuda", "auto or cpu on this machine"),
        (machines.NVIDIA, "cuda:2", "auto, cuda:0, cuda:1 or cpu"),
        (machines.NVIDIA, "tpu", r"auto, cpu, cuda, cuda:N with the number of a device, mps, xpu or torch:cpu"),
    ):
        stand_on(monkeypatch, machine)
        with pytest.raises(ConfigError, match=rf"'local': (config\.)?device must be {words}"):
            provider_of(device=device)
        provider = provider_of()
        lost = ModelDef(identifier="mine", llama_model="/no/such/folder", metadata={"device": device})
        with pytest.raises(InvalidRequestError, match=rf"metadata\.device must be {words}"):
            await provider.register_model(lost)
        assert await provider.list_models() == []
    for given in (0, ["cpu"], ""):
        with pytest.raises(InvalidRequestError, match=r"metadata\.device must be auto, cpu"):
            await provider.register_model(lost.model_copy(update={"metadata": {"device": given}}))

    sentences = ModelDef(identifier="b", llama_model=str(tiny_folders["bert"]), metadata={"device": "cuda"})
    with pytest.raises(InvalidRequestError, match=r"metadata\.device must be cpu for a sentence model"):
        await provider.register_model(sentences)
    stand_on(monkeypatch, replace(machines.NVIDIA, total_bytes=2**20))
    await provider.register_model(sentences.model_copy(update={"metadata": {}}))  # whose memory is not the device's
    with pytest.raises(InsufficientMemoryError, match=r"of the 1 MiB of cuda:0; choose the device cpu"):
        await provider.register_model(ModelDef(identifier="m", llama_model=str(tiny_folders["llama"])))


def test_a_session_registers_for_a_device_and_lists_those_of_a_provider(
    tiny_folders: Folders, monkeypatch: pytest.MonkeyPatch, loads: list[str]
) -> None:
    stand_on(monkeypatch, machines.APPLE)
    providers: list[dict[str, Any]] = [
        {"provider_id": "a", "provider_type": "inline::transformers", "config": {}},
        {"provider_id": "b", "provider_type": "inline::echo", "config": {}},
    ]
    with Workbench({"providers": {"inference": providers}}) as bench:
        assert (bench.devices("a"), bench.devices("b")) == (["mps", "cpu"], [])
        with pytest.raises(InvalidRequestError, match=r"provider_id must be one of a, b; got 'c'"):
            bench.devices("c")
        assert bench.register_model("mine", tiny_folders["llama"], device="mps").metadata == {"device": "mps"}
        assert bench.load("mine").device == "mps"
        with pytest.raises(InvalidRequestError, match=r"metadata\.device must be left out: inline::echo"):
            bench.register_model("parrot", "echo", provider_id="b", device="cpu")
    stand_on(monkeypatch, machines.LAPTOP)  # the registration stays, and says what it lacks
    with (
        pytest.warns(UserWarning, match=r"metadata\.device must be auto or cpu on this machine"),
        Workbench({"providers": {"inference": providers}}) as bench,
    ):
        assert "mine" not in [model.identifier for model in bench.list_models()]
    with Workbench({"providers": {"inference": providers}}, device="cpu") as bench:  # which is that of all models
        assert (bench.card("mine").device, bench.card("mine").device_why) == ("cpu", "chosen by name")
    stand_on(monkeypatch, machines.APPLE)
    with Workbench({"providers": {"inference": providers}}) as bench:
        assert bench.card("mine").device == "mps", "the registration is as it was"
