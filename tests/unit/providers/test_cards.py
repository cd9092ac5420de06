"""A model's card tells its facts before it is loaded, and its measured memory afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.fakes.models import byte_tokenizer
from tests.fakes.serving import FakeModels
from tests.fakes.templates import FAMILIES
from tests.tiny_models import bpe_tokenizer, save_config, save_model
from workbench import catalog
from workbench.engine.context_length import DEFAULT_CONTEXT_LENGTH
from workbench.engine.precision import PRECISIONS
from workbench.errors import ModelFormatError, ModelNotFoundError
from workbench.machine import memory_limit_bytes
from workbench.protocol import SamplingParams
from workbench.providers.transformers import TransformersProvider

Make = Callable[..., TransformersProvider]
Folders = dict[str, Path]


def quantization(precision: str) -> dict[str, object]:
    return {} if precision == "float32" else {"quantization": {"type": precision}}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_causal_folder_is_described_without_loading(provider_of: Make, tiny_folders: Folders, precision: str) -> None:
    card = provider_of(tiny_folders["llama"], **quantization(precision)).card("tiny-llama")
    assert (card.identifier, card.provider_id, card.provider_type) == ("tiny-llama", "local", "inline::transformers")
    assert (card.kind, card.architecture, card.precision, card.device) == (
        "causal",
        "LlamaForCausalLM",
        precision,
        "cpu",
    )
    assert (card.context_length, card.has_chat_template, card.licence) == (512, True, None)
    assert card.source == str(tiny_folders["llama"])
    assert card.memory_limit_bytes == memory_limit_bytes()
    assert (card.loaded, card.memory_bytes) == (False, None)
    assert card.parameters
    assert card.predicted_memory_bytes


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_loading_puts_what_was_measured_beside_what_was_predicted(
    provider_of: Make, tiny_folders: Folders, kind: str, precision: str
) -> None:
    provider = provider_of(tiny_folders[kind], **quantization(precision))
    before = provider.card(f"tiny-{kind}")
    provider.load(f"tiny-{kind}")
    after = provider.card(f"tiny-{kind}")
    assert after.loaded
    assert after.memory_bytes == pytest.approx(after.predicted_memory_bytes, rel=0.02)
    assert after.parameters == before.parameters
    assert after.predicted_memory_bytes == before.predicted_memory_bytes
    assert (after.kind, after.precision, after.architecture) == (before.kind, before.precision, before.architecture)


@pytest.mark.parametrize("precision", ["float32", "int4"])
def test_a_sentence_model_is_float32_whatever_the_config_says(
    provider_of: Make, tiny_folders: Folders, precision: str
) -> None:
    card = provider_of(tiny_folders["bert"], **quantization(precision)).card("tiny-bert")
    assert (card.kind, card.precision, card.architecture) == ("embedding", "float32", "BertModel")
    assert not card.has_chat_template


def test_a_sentence_models_context_is_where_its_texts_are_cut_off(provider_of: Make, tiny_folders: Folders) -> None:
    assert provider_of(tiny_folders["bert"]).card("tiny-bert").context_length == 12


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.name)
def test_an_entry_of_the_catalog_is_described_from_the_catalog(
    provider_of: Make, entry: catalog.CatalogEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was never pulled: asking for a card fetches nothing."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "empty"))
    card = provider_of(entry.name).card(entry.name)
    assert (card.kind, card.parameters, card.licence) == (entry.kind, entry.parameters, entry.licence)
    assert card.context_length == entry.context_length
    assert card.predicted_memory_bytes is None


def test_a_template_in_a_file_of_its_own_counts(provider_of: Make, tiny_folders: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folders["llama"], tmp_path / "model")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = folder / "tokenizer_config.json"
    values = json.loads(config.read_text())
    values.pop("chat_template", None)
    config.write_text(json.dumps(values))
    assert not provider_of(folder).card("model").has_chat_template
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert provider_of(folder).card("model").has_chat_template
    (folder / "chat_template.jinja").unlink()
    config.write_text(json.dumps(values | {"chat_template": "{{ messages }}"}))
    assert provider_of(folder).card("model").has_chat_template


@pytest.mark.parametrize(
    "place",
    [
        {"chat_template.jinja": "{{ messages }}\r\n"},
        {"tokenizer_config.json": "{{ messages }} é"},
        {"chat_template.jinja": "{{ messages }}", "tokenizer_config.json": "another, which does not count"},
        {"chat_template.jinja": "{{ messages }}", "additional_chat_templates/tool_use.jinja": "{{ tools }}"},
        {"tokenizer_config.json": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]},
    ],
)
def test_the_hash_of_the_template_is_known_before_the_model_is_loaded(
    provider_of: Make, tiny_folders: Folders, tmp_path: Path, place: dict[str, Any]
) -> None:
    folder = shutil.copytree(tiny_folders["llama"], tmp_path / "model")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    values = json.loads((folder / "tokenizer_config.json").read_text())
    values["chat_template"] = place.pop("tokenizer_config.json", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    for name, text in place.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, newline="")
    provider = provider_of(folder)
    before = provider.card("model")
    provider.load("model")
    after = provider.card("model")
    assert before.chat_template is not None
    assert before.template_sha256 is not None
    assert (before.chat_template, before.template_sha256) == (after.chat_template, after.template_sha256)
    assert before.tool_syntax is None
    assert after.tool_syntax == "tool_prompt_format"


def test_a_card_tells_how_a_models_own_template_writes_calls(fake_models: FakeModels) -> None:
    for name, family in FAMILIES.items():
        fake_models.add(name, tokenizer=family.tokenizer())
    fake_models.add("none", tokenizer=byte_tokenizer(template=None))
    provider = fake_models.provider()
    for name in (*FAMILIES, "none"):
        provider.load(name)
    written = {name: provider.card(name).tool_syntax for name in (*FAMILIES, "none")}
    provider.close()
    assert written == {
        "plain": "tool_prompt_format",
        "tagged": "tool_call_tag",
        "no system": "tool_prompt_format",
        "headers": "json",
        "brackets": "mistral",
        "none": None,
    }


@pytest.mark.parametrize("damage", ["gone", "weights", "config", "no config"])
def test_a_model_that_cannot_be_loaded_still_has_a_card(
    provider_of: Make, tiny_folders: Folders, tmp_path: Path, damage: str
) -> None:
    folder = shutil.copytree(tiny_folders["llama"], tmp_path / "model")
    provider = provider_of(folder)
    match damage:
        case "gone":
            shutil.rmtree(folder)
        case "weights":
            (folder / "model.safetensors").write_bytes(b"\xff" * 20)
        case "config":
            (folder / "config.json").write_text("{")
        case _:
            (folder / "config.json").unlink()
    card = provider.card("model")
    assert (card.identifier, card.loaded, card.parameters) == ("model", False, None)


def test_a_template_that_is_no_text_is_refused(provider_of: Make, tiny_folders: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folders["llama"], tmp_path / "model")
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    provider = provider_of(folder)
    assert not provider.card("model").has_chat_template
    with pytest.raises(ModelFormatError, match=r"model has no tokenizer that can be loaded .*'utf-8'"):
        provider.load("model")


def test_an_unknown_model_has_no_card(provider_of: Make, tiny_folders: Folders) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nobody.*tiny-llama"):
        provider_of(tiny_folders["llama"]).card("nobody")


def test_a_card_tells_what_the_folder_advises_and_nothing_applies_it(provider_of: Make, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "advised", "llama")
    advice = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 20,
        "repetition_penalty": 1.1,
        "min_p": 0.05,
    }
    (folder / "generation_config.json").write_text(json.dumps(advice | {"eos_token_id": 0, "suppress_tokens": [5]}))
    card = provider_of(folder).card("advised")
    applicable = {"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1, "min_p": 0.05}
    assert card.sampling_defaults == {"strategy": "top_p", **applicable}
    assert SamplingParams(**card.sampling_defaults).top_p == 0.9
    told = " ".join(card.notes)
    assert "recommends" in told
    assert "top_k 20" in told
    assert "suppress_tokens" in told


def test_greedy_advice_is_no_advice(provider_of: Make, tmp_path: Path) -> None:
    card = provider_of(save_model(tmp_path / "plain", "llama")).card("plain")
    assert (card.sampling_defaults, card.notes) == (None, ())


def test_a_card_tells_what_the_proof_found_even_after_a_restart(
    provider_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    make: Any = transformers.MambaConfig
    config = make(vocab_size=384, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.4)
    config.eos_token_id = 0
    folder = save_config(tmp_path / "state", config, bpe_tokenizer())
    first = provider_of(folder)
    assert first.card("state").switched_off == ()
    first.load("state")
    loaded = first.card("state")
    assert "crop" in loaded.switched_off
    assert loaded.context_length == DEFAULT_CONTEXT_LENGTH
    assert any("sets no context length" in note for note in loaded.notes)
    assert provider_of(folder).card("state").switched_off == loaded.switched_off
    assert first.capabilities_of("state").embeddings


def test_the_end_of_a_turn_in_the_template_ends_an_answer(provider_of: Make, tmp_path: Path) -> None:
    """The files name <|endoftext|> alone, and the template ends each turn by another token."""
    provider = provider_of(save_model(tmp_path / "chat", "llama"))
    provider.load("chat")
    served = provider._models.causal("chat")
    assert served.engine.model.eos_ids == {0, 2}
