"""Models with adapters are served beside their base model, each under a name and with a card of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_adapters import applied, greedy_ids, save_adapter
from workbench import Workbench, catalog
from workbench.engine.adapters import WEIGHTS
from workbench.engine.model_folder import ADAPTER_CONFIG
from workbench.errors import ConfigError, ModelFormatError, UnknownModelError
from workbench.protocol import ModelDef, SamplingParams
from workbench.providers.transformers import TransformersProvider
from workbench.session.capsule import capsule_of
from workbench.session.run import Run
from workbench.stack.models import model_from

Make = Callable[..., TransformersProvider]
Folders = dict[str, Path]
FEW = SamplingParams(max_tokens=6)
PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def adapters(tiny_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two adapters of the small Llama."""
    root = tmp_path_factory.mktemp("two")
    base = tiny_folders["llama"]
    return {
        "one": save_adapter(root / "one", base, seed=1, target_modules=["q_proj", "v_proj"]),
        "two": save_adapter(root / "two", base, seed=2, r=2, target_modules=["down_proj"]),
    }


@pytest.fixture
def state(tiny_folders: Folders, adapters: Folders) -> dict[str, Any]:
    """A run config that serves the small Llama alone and with both adapters."""
    base = str(tiny_folders["llama"])
    models = [base, f"{base}+{adapters['one']}", {"model": base, "adapter": str(adapters["two"]), "name": "second"}]
    provider = {"provider_id": "local", "provider_type": "inline::transformers", "config": {"models": models}}
    return {"image_name": "adapters", "providers": {"inference": [provider]}}


def answer(bench: Workbench, model: str) -> Run[Any, Any]:
    run = bench.completion(PROMPT, model=model, sampling_params=FEW)
    run.result()
    return run


def test_several_adapters_are_served_beside_their_base(
    state: dict[str, Any], tiny_folders: Folders, adapters: Folders
) -> None:
    base = tiny_folders["llama"]
    with Workbench(state) as bench:
        names = [model.identifier for model in bench.list_models()]
        assert names == ["tiny-llama", "tiny-llama+one", "second"]
        runs = {name: answer(bench, name) for name in names}
        ids = {name: [token.token_id for token in run.tokens] for name, run in runs.items()}
        prompt = [token.token_id for token in bench.render(PROMPT, model="tiny-llama").tokens]
        assert len({tuple(one) for one in ids.values()}) == 3
        for name, adapter in (("tiny-llama+one", adapters["one"]), ("second", adapters["two"])):
            assert ids[name] == greedy_ids(applied(base, adapter), prompt, len(ids[name]))
        capsule = capsule_of(runs["second"], bench.card)
        assert capsule.model.source == "tiny-llama+two"
        assert {f"adapter/{ADAPTER_CONFIG}", f"adapter/{WEIGHTS}", "model.safetensors"} <= set(capsule.model.files)


def test_a_registered_adapter_answers_after_a_restart(tiny_folders: Folders, adapters: Folders) -> None:
    source = f"{tiny_folders['llama']}+{adapters['one']}"
    with Workbench() as bench:
        bench.register_model("mine", source)
        before = answer(bench, "mine").text
    with Workbench() as bench:
        assert answer(bench, "mine").text == before
        bench.unregister_model("mine")


def test_the_card_says_what_was_merged_into_what(provider_of: Make, tiny_folders: Folders, adapters: Folders) -> None:
    base = str(tiny_folders["llama"])
    provider = provider_of(base, f"{base}+{adapters['two']}")
    card, plain = provider.card("tiny-llama+two"), provider.card("tiny-llama")
    assert (card.base, card.adapter, card.adapter_rank, card.adapted_layers) == (base, str(adapters["two"]), 2, 2)
    assert (card.parameters, card.decoder, card.precision) == (plain.parameters, "fused", "float32")
    assert (plain.base, plain.adapter, plain.adapter_rank, plain.adapted_layers) == (None, None, None, None)
    assert card.notes == plain.notes  # it was trained on this base
    provider.load("tiny-llama+two")
    loaded = provider.card("tiny-llama+two")
    assert loaded.loaded
    assert (loaded.base, loaded.adapter) == (card.base, card.adapter)


def test_a_note_tells_of_another_base(
    provider_of: Make, tiny_folders: Folders, adapters: Folders, tmp_path: Path
) -> None:
    adapter = shutil.copytree(adapters["one"], tmp_path / "foreign")
    config = json.loads((adapter / ADAPTER_CONFIG).read_text()) | {"base_model_name_or_path": "organization/other"}
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(config))
    card = provider_of(f"{tiny_folders['llama']}+{adapter}").card("tiny-llama+foreign")
    assert any("organization/other" in note for note in card.notes)


async def test_an_adapter_that_cannot_be_served_is_refused_at_registration(
    provider_of: Make, tiny_folders: Folders, adapters: Folders
) -> None:
    provider = provider_of()
    for base, adapter, error, message in (
        ("llama", "/nowhere", UnknownModelError, "nowhere"),
        ("gpt2", adapters["one"], ModelFormatError, "was it trained on this model"),
        ("bert", adapters["one"], ModelFormatError, "sentence models are not supported"),
    ):
        with pytest.raises(error, match=message):
            await provider.register_model(ModelDef(identifier="mine", llama_model=f"{tiny_folders[base]}+{adapter}"))
    assert await provider.list_models() == []


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"model": "a"}, r"models\[0\]\.adapter"),
        ({"adapter": "./a"}, r"models\[0\]\.model"),
        ({"model": "a", "adapter": ""}, r"models\[0\]\.adapter"),
        ({"model": "a", "adapter": "./a", "rank": 3}, r"models\[0\]\.rank"),
        ("", r"models\[0\]"),
        (3, r"models\[0\]"),
    ],
)
def test_a_wrong_entry_is_named_by_its_path(provider_of: Make, entry: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        provider_of(models=[entry])


async def test_an_adapter_of_an_entry_is_a_folder_whatever_lies_beside_it(
    tiny_folders: Folders, adapters: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider_of: Make
) -> None:
    for name, folder in (("base", tiny_folders["llama"]), ("one", adapters["one"]), ("base+one", tiny_folders["gpt2"])):
        shutil.copytree(folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (model,) = await provider_of(models=[{"model": "base", "adapter": "one"}]).list_models()
    assert model.identifier == "base+one"
    assert catalog.resolve_folders(model.llama_model) == catalog.ModelFolders(tmp_path / "base", tmp_path / "one")
    (model,) = await provider_of(models=[{"model": "base", "adapter": "nowhere"}]).list_models()
    with pytest.raises(UnknownModelError, match=r"the adapter '\./nowhere': there is no folder"):
        catalog.resolve_folders(model.llama_model)


def test_folders_of_a_registered_model_become_absolute(
    tiny_folders: Folders, adapters: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(adapters["one"].parent)
    model = model_from("mine", "smollm2-135m-instruct+./one", "local", None)
    assert model.llama_model == f"smollm2-135m-instruct+{adapters['one'].resolve()}"
    base = tiny_folders["llama"]
    model = model_from(f"{base}+./one", None, "local", None)
    assert (model.identifier, model.llama_model) == ("tiny-llama+one", f"{base.resolve()}+{adapters['one'].resolve()}")
