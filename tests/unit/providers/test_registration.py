"""Models come by config or by registration, are checked before they are served, and load once."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.models import Gate
from tests.fakes.serving import FakeModels
from workbench import Workbench
from workbench.engine import memory
from workbench.engine.weight_sizes import RESERVE_BYTES
from workbench.errors import (
    ClosedError,
    ConfigError,
    InsufficientMemoryError,
    InvalidRequestError,
    ModelFormatError,
    ModelNotFoundError,
    OfflineError,
    UnknownModelError,
    UnsafeModelError,
    WorkbenchError,
)
from workbench.protocol import ModelDef, ModelDefWithProvider, SamplingParams
from workbench.providers.transformers import TransformersProvider

Make = Callable[..., TransformersProvider]
Folders = dict[str, Path]
FEW = SamplingParams(max_tokens=4)


async def test_a_folder_is_served_under_its_own_name(provider_of: Make, tiny_folders: Folders) -> None:
    provider = provider_of(*tiny_folders.values())
    assert [model.identifier for model in await provider.list_models()] == ["tiny-llama", "tiny-gpt2", "tiny-bert"]
    assert provider.get_model("tiny-llama").llama_model == str(tiny_folders["llama"])


async def test_a_registered_model_answers_under_the_name_it_was_given(provider_of: Make, tiny_folders: Folders) -> None:
    provider = provider_of()
    await provider.register_model(ModelDef(identifier="mine", llama_model=str(tiny_folders["llama"])))
    assert not provider.card("mine").loaded
    assert await provider.completion("mine", "The", FEW)
    assert provider.card("mine").loaded
    with pytest.raises(ModelNotFoundError, match="mine"):
        provider.completion("tiny-llama", "The", FEW)


def spoil(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    match how:
        case "pickle":
            weights.rename(folder / "pytorch_model.bin")
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "no weights":
            weights.unlink()
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "code":
            (folder / "config.json").write_text(
                (folder / "config.json").read_text().replace("{", '{"auto_map": {},', 1)
            )


@pytest.mark.parametrize(
    "how,error",
    [
        ("pickle", UnsafeModelError),
        ("truncated", ModelFormatError),
        ("no weights", ModelFormatError),
        ("no tokenizer", ModelFormatError),
        ("code", UnsafeModelError),
    ],
)
async def test_what_could_not_be_loaded_is_refused_at_registration_and_not_served(
    provider_of: Make, tiny_folders: Folders, tmp_path: Path, how: str, error: type[Exception]
) -> None:
    folder = shutil.copytree(tiny_folders["llama"], tmp_path / "model")
    spoil(folder, how)
    provider = provider_of()
    with pytest.raises(error, match="model"):
        await provider.register_model(ModelDef(identifier="mine", llama_model=str(folder)))
    assert await provider.list_models() == []


def add_part(folder: Path, kind: str, path: str) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed.append({"type": f"sentence_transformers.models.{kind}", "path": path})
    (folder / "modules.json").write_text(json.dumps(listed))


@pytest.mark.parametrize(
    "kind,error", [("Asym", ModelFormatError), ("LSTM", ModelFormatError), ("Dense", UnsafeModelError)]
)
async def test_a_part_of_a_sentence_model_that_could_not_be_computed_is_refused_at_registration_by_its_name(
    provider_of: Make, tiny_folders: Folders, tmp_path: Path, kind: str, error: type[Exception]
) -> None:
    folder = shutil.copytree(tiny_folders["bert"], tmp_path / "model")
    add_part(folder, kind, f"3_{kind}")
    (folder / f"3_{kind}").mkdir()
    (folder / f"3_{kind}" / "config.json").write_text(json.dumps({"in_features": 32, "out_features": 8}))
    (folder / f"3_{kind}" / "pytorch_model.bin").write_bytes(b"pickle")
    provider = provider_of()
    with pytest.raises(error, match=kind):
        await provider.register_model(ModelDef(identifier="mine", llama_model=str(folder)))
    assert await provider.list_models() == []


async def test_a_part_that_leaves_its_folder_without_a_config_is_named_all_the_same(
    provider_of: Make, tmp_path: Path
) -> None:
    (tmp_path / "modules.json").write_text("[]")
    add_part(tmp_path, "StaticEmbedding", "0_StaticEmbedding")
    with pytest.raises(ModelFormatError, match="StaticEmbedding"):
        await provider_of().register_model(ModelDef(identifier="mine", llama_model=str(tmp_path)))


async def test_what_could_never_fit_is_refused_at_registration_with_what_would(
    provider_of: Make, tiny_folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = provider_of()
    monkeypatch.setattr(memory, "memory_limit_bytes", lambda: RESERVE_BYTES + 80 * 2**10)
    for source, words in [("llama", "choose .*int4"), ("bert", "mine in float32 needs")]:
        with pytest.raises(InsufficientMemoryError, match=words):
            await provider.register_model(ModelDef(identifier="mine", llama_model=str(tiny_folders[source])))
    assert await provider.list_models() == []


@pytest.mark.parametrize(
    "source,error",
    [
        ("no-such-model", UnknownModelError),
        ("/no/such/folder", UnknownModelError),
        ("nobody/nothing-at-all", OfflineError),
        ("", UnknownModelError),
    ],
)
async def test_a_source_that_is_not_there_is_named(provider_of: Make, source: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await provider_of().register_model(ModelDef(identifier="mine", llama_model=source))


async def test_a_source_of_the_config_is_looked_for_when_it_is_needed(provider_of: Make) -> None:
    """So that one model that is gone keeps no other from answering."""
    provider = provider_of("/no/such/folder")
    (model,) = await provider.list_models()
    with pytest.raises(UnknownModelError, match="/no/such/folder"):
        await provider.completion(model.identifier, "x")
    assert not provider.card(model.identifier).loaded


@pytest.mark.parametrize(
    "config,words",
    [
        ({"quantization": {"type": "int3"}}, "quantization"),
        ({"quantization": "int4"}, "quantization"),
        ({"device": "tpu"}, "device"),
        ({"device": "cuda:99"}, "device"),
        ({"max_active": 0}, "max_active"),
        ({"max_active": 10**6}, "max_active"),
        ({"prefix_cache_mb": -1}, "prefix_cache_mb"),
        ({"models": "tiny"}, "models"),
        ({"model": []}, "model"),
    ],
)
def test_a_wrong_config_names_the_provider_and_the_key(provider_of: Make, config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"local.*{words}"):
        provider_of(**config)


@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8", "int4"])
async def test_a_precision_of_the_config_is_the_models(
    provider_of: Make, tiny_folders: Folders, precision: str
) -> None:
    provider = provider_of(tiny_folders["gpt2"], tiny_folders["llama"], quantization={"type": precision})
    for name in ("tiny-gpt2", "tiny-llama"):
        answer = await provider.completion(name, "The quick", FEW)
        assert answer.completion_message.content is not None
        assert provider.card(name).precision == precision


async def test_a_model_that_does_not_fit_is_refused_by_name_and_the_others_serve_on(
    provider_of: Make, tiny_folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = provider_of(tiny_folders["gpt2"], tiny_folders["llama"])
    assert await provider.completion("tiny-gpt2", "The", FEW)
    monkeypatch.setattr(memory, "memory_available_bytes", lambda: 0)
    for _ in range(2):
        with pytest.raises(InsufficientMemoryError, match="tiny-llama in float32"):
            await provider.completion("tiny-llama", "The", FEW)
    assert await provider.completion("tiny-gpt2", "The", FEW)
    monkeypatch.undo()
    assert await provider.completion("tiny-llama", "The", FEW), "a refusal is not remembered"


async def test_registering_through_the_workbench_is_found_by_every_call(tiny_folders: Folders) -> None:
    config = {"providers": {"inference": [{"provider_id": "a", "provider_type": "inline::transformers", "config": {}}]}}

    def definition(kind: str, provider_id: str = "a", source: str | None = None) -> ModelDefWithProvider:
        llama_model = source or str(tiny_folders[kind])
        return ModelDefWithProvider(identifier=kind, llama_model=llama_model, provider_id=provider_id)

    bench = await asyncio.to_thread(Workbench, config)
    try:
        await bench.models.register_model(definition("llama"))
        await bench.models.register_model(definition("llama"))  # the same once more changes nothing
        await bench.models.register_model(definition("bert"))
        assert [model.identifier for model in bench.list_models()] == ["llama", "bert"]
        assert (await bench.completion("The", sampling_params=FEW)).completion_message.stop_reason
        assert len((await asyncio.to_thread(bench.embeddings, ["x"])).embeddings) == 1
        with pytest.raises(InvalidRequestError, match="identifier"):
            await bench.models.register_model(definition("llama", source=str(tiny_folders["gpt2"])))
        with pytest.raises(InvalidRequestError, match="provider_id"):
            await bench.models.register_model(definition("gpt2", provider_id="b"))
        with pytest.raises(WorkbenchError):
            await bench.models.register_model(definition("other", source="/no/such/folder"))
        assert [model.identifier for model in bench.list_models()] == ["llama", "bert"]
    finally:
        await asyncio.to_thread(bench.close)


async def test_an_unregistered_model_is_closed_and_its_name_is_free_again(
    provider_of: Make, tiny_folders: Folders
) -> None:
    provider = provider_of(tiny_folders["llama"])
    assert await provider.completion("tiny-llama", "The", FEW)
    loaded = provider._models.loaded("tiny-llama")
    await provider.unregister_model("tiny-llama")
    assert await provider.list_models() == []
    for call in (provider.card, provider.load, lambda name: provider.completion(name, "The", FEW)):
        with pytest.raises(ModelNotFoundError, match="tiny-llama"):
            call("tiny-llama")
    with pytest.raises(ModelNotFoundError):
        await provider.unregister_model("tiny-llama")
    await provider.register_model(ModelDef(identifier="tiny-llama", llama_model=str(tiny_folders["gpt2"])))
    assert await provider.completion("tiny-llama", "The", FEW)
    assert provider._models.loaded("tiny-llama") is not loaded


async def test_what_a_model_was_doing_when_it_was_unregistered_is_a_typed_error(fake_models: FakeModels) -> None:
    gate = Gate()
    fake_models.add("busy").before_decode = gate
    provider = fake_models.provider()
    chunks = provider.completion("busy", "x", SamplingParams(), stream=True)
    running = asyncio.ensure_future(anext(chunks))
    await asyncio.to_thread(gate.wait)
    removing = asyncio.ensure_future(provider.unregister_model("busy"))
    await asyncio.sleep(0.01)
    gate.open()
    await removing

    async def rest() -> None:
        await running
        async for _ in chunks:
            pass

    with pytest.raises(ClosedError):
        await rest()


async def test_a_model_that_is_unregistered_while_it_loads_is_closed_once_it_is_there(fake_models: FakeModels) -> None:
    fake_models.add("slow")
    fake_models.may_load.clear()
    provider = fake_models.provider()
    loading = asyncio.ensure_future(asyncio.to_thread(provider.load, "slow"))
    while not fake_models.loads:  # noqa: ASYNC110 - it is filled on another thread
        await asyncio.sleep(0.001)
    waiting = asyncio.ensure_future(asyncio.to_thread(provider.load, "slow"))
    removing = asyncio.ensure_future(provider.unregister_model("slow"))
    await asyncio.sleep(0.01)
    fake_models.may_load.set()
    await asyncio.gather(loading, removing, waiting, return_exceptions=True)
    assert await provider.list_models() == []
    assert provider._models.loaded("slow") is None
    assert fake_models.loads == ["slow"]
