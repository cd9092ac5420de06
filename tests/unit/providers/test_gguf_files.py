"""GGUF files are served wherever a model is named, at their own precision unless another is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adapter_files import write_adapter
from tests.fakes.gguf_models import write_gguf_model
from workbench import Workbench, catalog
from workbench.engine.memory import tensor_shapes
from workbench.errors import CatalogError, InvalidRequestError, ModelFormatError
from workbench.protocol import ModelDef, SamplingParams
from workbench.providers.transformers import TransformersProvider
from workbench.providers.transformers.config import TransformersConfig

Make = Callable[..., TransformersProvider]
FEW = SamplingParams(max_tokens=4)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    write_gguf_model(tmp_path / "tiny.Q8_0.gguf", "qwen3", types=lambda _: "Q8_0")
    return tmp_path / "tiny.Q8_0.gguf"


async def test_a_file_is_served_under_its_own_name_and_in_its_own_precision(provider_of: Make, file: Path) -> None:
    provider = provider_of(str(file))
    card = provider.card("tiny.Q8_0")
    assert (card.precision, card.decoder, card.architecture) == ("Q8_0", "fused", "Qwen3ForCausalLM")
    assert card.has_chat_template
    assert await provider.completion("tiny.Q8_0", "The", FEW)
    loaded = provider.card("tiny.Q8_0")
    assert (loaded.loaded, loaded.precision) == (True, "Q8_0")
    assert loaded.memory_bytes == pytest.approx(card.predicted_memory_bytes, rel=0.02)


async def test_another_precision_is_one_that_is_named(provider_of: Make, file: Path) -> None:
    provider = provider_of()
    definition = ModelDef(identifier="mine", llama_model=f"gguf:{file}", metadata={"precision": "float32"})
    await provider.register_model(definition)
    assert provider.card("mine").precision == "float32"
    await provider.register_model(ModelDef(identifier="mine", llama_model=f"gguf:{file}"))
    assert provider.card("mine").precision == "Q8_0"


@pytest.mark.parametrize(
    "options, precision",
    [({}, "file"), ({"quantization": None}, "float32"), ({"quantization": {"type": "int4"}}, "int4")],
)
def test_a_run_config_may_name_a_precision_for_files_too(file: Path, options: dict[str, Any], precision: str) -> None:
    config = TransformersConfig.model_validate(options)
    assert config.precision_of(ModelDef(identifier="mine", llama_model=str(file))) == precision
    with pytest.raises(InvalidRequestError, match=r"metadata\.precision must be one of float32"):
        config.precision_of(ModelDef(identifier="mine", llama_model=str(file), metadata={"precision": "file"}))


def test_a_session_registers_a_file_by_a_path_that_outlives_its_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    providers = [{"provider_id": "local", "provider_type": "inline::transformers", "config": {}}]
    with Workbench({"providers": {"inference": providers}}) as bench:
        assert bench.register_model("./tiny.Q8_0.gguf").llama_model == str(file)
        assert bench.card("tiny.Q8_0").source == str(file)
        run = bench.completion("The", model="tiny.Q8_0", sampling_params=FEW)
        run.result()
        model = run.capsule.model
    assert (model.source, list(model.files)) == ("tiny.Q8_0", ["tiny.Q8_0.gguf"])


def test_the_folder_of_a_file_is_made_once_and_goes_with_the_file(file: Path) -> None:
    folder = catalog.resolve(str(file))
    written = (folder / "tokenizer.json").stat().st_mtime_ns
    assert catalog.resolve(f"gguf:{file}") == folder
    assert (folder / "tokenizer.json").stat().st_mtime_ns == written
    other = file.with_name("other.gguf")
    file.rename(other)
    assert catalog.resolve(str(other)) != folder
    assert not folder.exists()


@pytest.mark.parametrize("kept", [0, 3, 100, 5000, -1])
def test_a_file_that_is_cut_off_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelFormatError, match=str(file)):
        catalog.resolve(str(file))
    assert not list((file.parent / "cache").rglob("*.json"))


async def test_an_adapter_of_a_file_is_on_its_card(provider_of: Make, file: Path) -> None:
    """Its tensors are named as transformers names them; one that does not fit is refused at registration."""
    module = "model.layers.0.self_attn.q_proj"
    out, inputs = tensor_shapes(catalog.resolve(str(file)))[f"{module}.weight"]
    adapter = write_adapter(file.with_name("adapter"), {module: (out, inputs)})
    provider = provider_of()
    await provider.register_model(ModelDef(identifier="mine", llama_model=f"gguf:{file}+{adapter}"))
    card, plain = provider.card("mine"), provider_of(str(file)).card("tiny.Q8_0")
    assert (card.base, card.adapter, card.adapted_layers) == (f"gguf:{file}", str(adapter), 1)
    assert (card.precision, card.parameters) == (plain.precision, plain.parameters)
    assert (card.predicted_memory_bytes or 0) > (plain.predicted_memory_bytes or 0)
    assert any("held in float32" in note for note in card.notes)
    wide = write_adapter(file.with_name("wide"), {module: (out, 2 * inputs)})
    with pytest.raises(ModelFormatError, match="was it trained on this model"):
        await provider.register_model(ModelDef(identifier="wide", llama_model=f"{file}+{wide}"))


def test_a_cache_that_cannot_be_written_is_named(file: Path) -> None:
    (file.parent / "cache").write_text("a file")
    with pytest.raises(CatalogError, match=r"cache/gguf, the cache of GGUF files, cannot be written"):
        catalog.resolve(str(file))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelFormatError, match=r"missing\.gguf cannot be read: No such file"):
        catalog.resolve("gguf:/nowhere/missing.gguf")
