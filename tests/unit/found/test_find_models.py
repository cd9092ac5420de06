"""Models of other programs are found where these keep them, each once, and nothing outside of these places is."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.fakes.found_models import WEIGHTS, empty_home, fill, write_folder, write_gguf, write_ollama, write_snapshot
from tests.fakes.gguf_models import write_gguf_model
from workbench.engine.model_folder import check_folder
from workbench.engine.weight_sizes import RESERVE_BYTES
from workbench.errors import ModelFormatError
from workbench.found import find_models, known_places
from workbench.gguf_files import read_gguf_model
from workbench.records import FoundModel


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_home(tmp_path / "home", monkeypatch)


def by_name(home: Path, *folders: str) -> dict[str, FoundModel]:
    return {model.name: model for model in find_models([home / folder for folder in folders])}


def test_models_of_every_layout_are_found_once_each(home: Path) -> None:
    fill(home)
    found = find_models([home / "my models"])
    snapshot = "~/.cache/huggingface/hub/models--org--{}/snapshots/*".format
    expected = [
        ("~/my models/mine", "model_folders"),
        ("hf.co/someone/gemma-GGUF:Q4_K_M", "Ollama"),
        ("llama3.2:1b", "Ollama"),
        ("~/downloads of studio/someone/phi/phi-00001-of-00002.gguf", "LM Studio"),
        ("~/.lmstudio/models/publisher/mlx", "LM Studio"),
        ("~/.lmstudio/models/publisher/qwen/qwen-Q4_K_M.gguf", "LM Studio"),
        (snapshot("branch-only"), "Hugging Face"),
        ("org/tiny", "Hugging Face"),
        (snapshot("tiny-GGUF") + "/tiny-Q4_K_M.gguf", "Hugging Face"),
        ("~/.cache/llama.cpp/org_model_model-Q4_K_M.gguf", "llama.cpp"),
    ]
    assert len(found) == len(expected)
    for model, (name, place) in zip(found, expected, strict=True):
        assert (Path(model.name).match(name), model.place) == (True, place), model
    paths = [os.path.realpath(model.path) for model in found]
    assert len(set(paths)) == len(paths)
    assert all(Path(path).exists() for path in paths)


def test_rows_have_what_the_headers_say(home: Path) -> None:
    fill(home)
    found = by_name(home, "my models")
    ollama, mine, hub = found["llama3.2:1b"], found["~/my models/mine"], found["org/tiny"]
    assert (ollama.architecture, ollama.parameters, ollama.precision) == ("llama", WEIGHTS, "Q4_K_M")
    assert ollama.size_bytes == Path(ollama.path).stat().st_size
    assert ollama.memory_bytes == 8 * 144 + 2 * 210 + 2 * 32 * 64 + 4 * 64  # what the tensors take in the file
    assert (ollama.fits_in, ollama.aliases) == ("Q4_K_M", ("llama3.2:latest",))
    assert ollama.servable
    other = find_models([write_gguf(home / "others/other.gguf", "mamba").parent])[0]
    assert other.problem == "GGUF files of mamba models cannot be served yet"
    for folder in (mine, hub):
        assert folder.servable
        assert (folder.architecture, folder.parameters, folder.precision) == ("LlamaForCausalLM", 2112, "F16")
        assert (folder.fits_in, folder.memory_bytes) == ("float32", 4 * 2112)
    split = found["~/downloads of studio/someone/phi/phi-00001-of-00002.gguf"]
    assert (split.architecture, split.parameters) == ("phi3", 2 * WEIGHTS)
    assert split.size_bytes == sum(path.stat().st_size for path in Path(split.path).parent.iterdir())
    assert found["~/.lmstudio/models/publisher/mlx"].problem == "its quantized weights are not supported: mlx"


def test_the_environment_says_where_models_are(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home)
    for variable, folder in {
        "OLLAMA_MODELS": ".ollama/models",
        "HF_HUB_CACHE": ".cache/huggingface/hub",
        "LLAMA_CACHE": ".cache/llama.cpp",
    }.items():
        (home / folder).rename(home / variable)
        monkeypatch.setenv(variable, str(home / variable))
    shutil.move(home / ".lmstudio", home / "studio")
    (home / ".lmstudio-home-pointer").write_text(f"{home / 'studio'}\n")
    assert len(find_models([home / "my models"])) == 10
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    assert len(find_models()) == 6
    (home / "hf").mkdir()
    (home / "HF_HUB_CACHE").rename(home / "hf/hub")
    assert len(find_models()) == 9


def test_an_empty_home_has_no_places_and_no_models(home: Path) -> None:
    assert (known_places(), find_models()) == ([], [])
    assert find_models([home / "missing"]) == []


def test_links_out_of_a_place_are_not_followed(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    file, folder = write_gguf(outside / "file.gguf"), write_folder(outside / "folder")
    mine = home / "mine"
    mine.mkdir()
    (mine / "file.gguf").symlink_to(file)
    (mine / "folder").symlink_to(folder, target_is_directory=True)
    (mine / "dangling.gguf").symlink_to(outside / "missing.gguf")
    (mine / "loop").symlink_to(mine, target_is_directory=True)
    write_folder(mine / "half")
    (mine / "half/model.safetensors").unlink()
    (mine / "half/model.safetensors").symlink_to(folder / "model.safetensors")
    write_gguf(mine / "split-00001-of-00002.gguf")
    (mine / "split-00002-of-00002.gguf").symlink_to(file)
    hub = home / ".cache/huggingface/hub"
    snapshot = write_snapshot(hub, "org/out", write_gguf(home / "made.gguf"))
    (snapshot / "made.gguf").unlink()
    (snapshot / "made.gguf").symlink_to(file)
    (hub / "models--org--linked").symlink_to(outside, target_is_directory=True)
    ollama = home / ".ollama/models"
    blob = write_ollama(ollama, "registry.ollama.ai/library/out:1b", file.read_bytes())
    blob.unlink()
    blob.symlink_to(file)
    assert find_models([mine]) == []


def test_a_manifest_or_a_branch_cannot_name_a_file_outside_of_its_place(home: Path, tmp_path: Path) -> None:
    outside = write_gguf(tmp_path / "outside.gguf")
    ollama = home / ".ollama/models"
    write_ollama(ollama, "registry.ollama.ai/library/evil:1b", outside.read_bytes())
    manifest = ollama / "manifests/registry.ollama.ai/library/evil/1b"
    layer: dict[str, object] = {"mediaType": "application/vnd.ollama.image.model"}
    digests: tuple[object, ...] = (
        "sha256:../../../../outside.gguf",
        str(outside),
        "",
        None,
        5,
        ["sha256:"],
        "sha256:" + "0" * 64,
    )
    listings: tuple[object, ...] = (None, 5, [None], [[]], [{}], {"mediaType": 1})
    contents: list[object] = [[], None, "x", *({"layers": layers} for layers in listings)]
    for content in [*contents, *({"layers": [layer | {"digest": digest}]} for digest in digests)]:
        manifest.write_text(json.dumps(content))
        assert find_models() == []
    manifest.write_text("[" * 100_000)
    assert find_models() == []
    hub = home / ".cache/huggingface/hub"
    write_snapshot(hub, "org/tiny", write_folder(home / "made"))
    (hub / "models--org--tiny/refs/main").write_text("../../../../../../outside")
    assert [model.place for model in find_models()] == ["Hugging Face"]
    assert find_models()[0].name != "org/tiny"


def test_a_repository_that_no_hub_id_names_is_found_by_its_path(home: Path) -> None:
    hub = home / ".cache/huggingface/hub"
    for hub_id in ("gpt2", "org/two--dashes"):
        snapshot = write_snapshot(hub, hub_id, write_folder(home / "made" / hub_id))
        assert f"~/{snapshot.relative_to(home).as_posix()}" in [model.name for model in find_models()]


def test_a_place_may_be_a_link_and_two_names_of_one_place_are_one(home: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    write_folder(disk / "mine")
    (home / "link").symlink_to(disk, target_is_directory=True)
    assert len(find_models([home / "link", disk, disk / "mine"])) == 1


def test_the_same_file_is_listed_once_even_by_hard_links(home: Path) -> None:
    first = write_gguf(home / "mine/a.gguf")
    (home / ".cache/llama.cpp").mkdir(parents=True)
    os.link(first, home / ".cache/llama.cpp/b.gguf")
    (home / "mine/c.gguf").symlink_to("a.gguf")
    (model,) = find_models([home / "mine"])
    assert (model.name, model.aliases) == ("~/mine/a.gguf", ("~/mine/c.gguf", "~/.cache/llama.cpp/b.gguf"))


@pytest.mark.parametrize(
    "config, words",
    [
        ({"auto_map": {"AutoModel": "code.Model"}}, "custom code"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, which does not generate text"),
        ({"architectures": ["BertModel"]}, "BertModel has no head"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "bitsandbytes in 8 bits"),
        ({"quantization_config": ["awq"]}, "a method that quantization_config does not name"),
        ({"quantization_config": {"group_size": 64}, "quantization": {"group_size": 64}}, "not supported: mlx"),
        (
            {"architectures": ["MptForCausalLM"], "quantization_config": {"quant_method": "awq"}},
            "AWQ are supported only for the architectures of the fast step",
        ),
    ],
)
def test_what_cannot_be_served_says_why(home: Path, config: dict[str, object], words: str) -> None:
    write_folder(home / "mine/model", config=config)
    (model,) = find_models([home / "mine"])
    assert not model.servable
    assert words in model.problem


def test_a_generation_config_is_refused_as_loading_refuses_it(home: Path) -> None:
    path = write_folder(home / "mine/model") / "generation_config.json"
    for content in ("[1]", "", '{"eos_token_id": [2, null]}', '{"eos_token_id": "2"}'):
        path.write_text(content)
        (model,) = find_models([home / "mine"])
        with pytest.raises(ModelFormatError) as refused:
            check_folder(path.parent)
        assert str(path.parent / model.problem) == str(refused.value)


def test_an_adapter_beside_a_model_is_refused_as_loading_refuses_it(home: Path) -> None:
    folders = write_folder(home / "mine/whole"), write_folder(home / "mine/sentences"), write_folder(home / "mine/lora")
    for folder in folders:
        (folder / "adapter_config.json").write_text("{}")
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folders[1] / "modules.json").write_text(json.dumps(modules))
    (folders[2] / "model.safetensors").rename(folders[2] / "adapter_model.safetensors")
    problems = {Path(model.path): model.problem for model in find_models([home / "mine"])}
    with pytest.raises(ModelFormatError) as refused:
        check_folder(folders[0])
    assert str(folders[0] / problems[folders[0]]) == str(refused.value)
    assert "beside a sentence model" in problems[folders[1]]
    assert "is an adapter, not a whole model" in problems[folders[2]]


def test_an_adapter_in_a_gguf_file_is_no_model(home: Path) -> None:
    (home / "mine").mkdir()
    write_gguf_model(home / "mine/adapter.gguf", "llama", changed=lambda writer, _: writer.add_type("adapter"))
    write_gguf_model(home / "mine/model.gguf", "llama", changed=lambda writer, _: writer.add_type("model"))
    adapter, model = find_models([home / "mine"])
    assert adapter.problem == "it is of the type 'adapter' (general.type), not a model"
    assert model.servable


def test_damaged_and_incomplete_models_are_listed_with_their_problem(home: Path) -> None:
    mine = home / "mine"
    (mine / "x").mkdir(parents=True)
    (mine / "x/cut.gguf").write_bytes(write_gguf(mine / "x/whole.gguf").read_bytes()[:-1])
    (mine / "x/no.gguf").write_bytes(b"<!DOCTYPE html>")
    (mine / "x/split-00001-of-00002.gguf").write_bytes((mine / "x/whole.gguf").read_bytes())
    (write_folder(mine / "cut") / "model.safetensors").write_bytes(b"\xff" * 100)
    (write_folder(mine / "config") / "config.json").write_text("[]")
    write_folder(mine / "pickled").joinpath("model.safetensors").rename(mine / "pickled/pytorch_model.bin")
    write_folder(mine / "no tokenizer").joinpath("tokenizer.json").unlink()
    problems = {Path(model.name).name: model.problem for model in find_models([mine])}
    assert {name: words for name, words in problems.items() if name != "whole.gguf"} == {
        "cut.gguf": problems["cut.gguf"],
        "no.gguf": "it is not a GGUF file: it begins with b'<!DO' instead of b'GGUF'.",
        "split-00001-of-00002.gguf": "split-00002-of-00002.gguf cannot be read: No such file or directory.",
        "cut": problems["cut"],
        "config": "config.json must hold a JSON object; it holds a list.",
        "pickled": problems["pickled"],
        "no tokenizer": problems["no tokenizer"],
    }
    assert "cut off" in problems["cut.gguf"]
    assert "damaged" in problems["cut"]
    assert "only as pickles" in problems["pickled"]
    assert "it has no tokenizer.json" in problems["no tokenizer"]
    assert not any(str(home) in problem for problem in problems.values())


def test_parts_that_do_not_match_are_listed_as_opening_refuses_them(home: Path) -> None:
    first = write_gguf(home / "mine/twice-00001-of-00002.gguf")
    shutil.copyfile(first, home / "mine/twice-00002-of-00002.gguf")
    (found,) = find_models([home / "mine"])
    assert found.problem == "twice-00002-of-00002.gguf has the tensor 'blk.0.ffn_up.weight' of another part again."
    with pytest.raises(ModelFormatError, match=re.escape(found.problem)):
        read_gguf_model(first)


def test_a_model_that_is_too_large_says_which_precision_fits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an architecture outside the fast step, embeddings are held in bf16 in all precisions with fewer bits."""
    write_gguf(home / "mine/file.gguf")
    write_folder(home / "mine/model")
    write_folder(home / "mine/other", "MptForCausalLM")
    for room, *fits_in in (
        (10**6, "Q4_K_M", "float32", "float32"),
        (4352, None, "bf16", "bf16"),
        (3000, None, "int8", None),
        (100, None, None, None),
    ):
        monkeypatch.setattr("workbench.found.describing.memory_limit_bytes", lambda room=room: RESERVE_BYTES + room)
        found = find_models([home / "mine"])
        assert [model.fits_in for model in found] == fits_in
        for model in found:
            assert model.memory_bytes is not None
            assert (model.memory_bytes <= room) is (model.fits_in is not None)


def test_a_file_that_changes_is_read_again(home: Path) -> None:
    path = write_gguf(home / "mine/a.gguf", "llama")
    assert find_models([home / "mine"])[0].architecture == "llama"
    write_gguf(path, "gemma3", vocabulary=400)
    assert find_models([home / "mine"])[0].architecture == "gemma3"


def test_names_in_headers_are_shown_without_control_characters(home: Path) -> None:
    evil = "\x1b]0;owned\x07" + "a" * 1000
    write_gguf(home / "mine/a.gguf", evil)
    write_folder(home / "mine/b", config={"architectures": [evil]})
    write_folder(home / "mine/c", config={"architectures": [evil + "Model"]})
    write_folder(home / "mine/d", config={"quantization_config": {"quant_method": evil}})
    found = find_models([home / "mine"])
    assert len(found) == 4
    for model in found:
        assert all(str(fact).isprintable() for fact in (model.architecture, model.precision, model.problem))
        assert len(f"{model.architecture}{model.precision}{model.problem}") < 500


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(home: Path) -> None:
    fill(home)
    for name in (".lmstudio-home-pointer", ".lmstudio/settings.json", "my models/x.gguf", "my models/mine/config.json"):
        (home / name).unlink(missing_ok=True)
        os.mkfifo(home / name)
    assert len(find_models([home / "my models"])) == 8


def test_names_that_cannot_be_shown_are_left_out(home: Path) -> None:
    write_gguf(home / "mine/good.gguf")
    for name in ("line\nbreak.gguf", "\x1b[31m.gguf"):
        shutil.copy(home / "mine/good.gguf", home / "mine" / name)
    assert [model.name for model in find_models([home / "mine"])] == ["~/mine/good.gguf"]
