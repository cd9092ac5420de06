"""Models come and go while the session runs, and what was registered is there after a restart."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.found_models import empty_home, write_ollama
from tests.fakes.gguf_models import write_gguf_model
from tests.tiny_models import save_model
from tests.unit.widgets.recorded_page import recorded_page
from workbench import Workbench
from workbench.errors import InvalidRequestError, ModelNotFoundError, UnknownModelError, WorkbenchError
from workbench.protocol import SamplingParams
from workbench.stack.models import model_from
from workbench.widgets import ModelPicker

FEW = SamplingParams(max_tokens=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny-gpt2", "gpt2")


@pytest.fixture
def config(folder: Path) -> dict[str, Any]:
    """One model twice: in int8 and as the reference."""
    instances = [("quick", {"type": "int8"}), ("exact", None)]
    return {
        "image_name": "two",
        "providers": {
            "inference": [
                {
                    "provider_id": provider_id,
                    "provider_type": "inline::transformers",
                    "config": {"models": [str(folder)], "quantization": quantization},
                }
                for provider_id, quantization in instances
            ]
        },
    }


@pytest.fixture
def bench(config: dict[str, Any]) -> Iterator[Workbench]:
    with Workbench(config) as bench:
        yield bench


def names(bench: Workbench) -> list[str]:
    return [known.name for known in bench.models.registrations()]


def still_there(threads: set[threading.Thread]) -> list[threading.Thread]:
    """Those that do not end on their own after the close.

    The traceback of an error holds the model that a request of another thread met it in, until garbage is collected.
    """
    gc.collect()
    for thread in threads:
        thread.join(30)
    return [thread for thread in threads if thread.is_alive()]


def said(bench: Workbench, model: str) -> str:
    content = bench.completion("x", model=model, sampling_params=FEW).result(60).completion_message.content
    assert isinstance(content, str)
    assert content
    return content


def test_two_precisions_of_one_model_are_told_apart_by_provider(bench: Workbench) -> None:
    assert names(bench) == ["tiny-gpt2", "exact/tiny-gpt2"]
    assert [bench.card(name).precision for name in names(bench)] == ["int8", "float32"]
    for name in names(bench):
        assert said(bench, name)


def test_a_third_model_is_listed_after_a_restart_and_not_once_it_was_unregistered(
    config: dict[str, Any], folder: Path
) -> None:
    with Workbench(config) as bench:
        registered = bench.register_model("third", folder, provider_id="exact", metadata={"note": "mine"})
        assert registered.llama_model == str(folder)
        assert said(bench, "third")
    with Workbench(config) as bench:
        assert names(bench) == ["tiny-gpt2", "exact/tiny-gpt2", "third"]
        assert bench.list_models()[-1] == registered
        assert said(bench, "exact/third")
        bench.unregister_model("third")
        with pytest.raises(ModelNotFoundError, match="exact/tiny-gpt2, tiny-gpt2"):
            bench.completion("x", model="third")
    with Workbench(config) as bench:
        assert names(bench) == ["tiny-gpt2", "exact/tiny-gpt2"]


def test_a_folder_alone_is_served_under_its_own_name_by_the_first_provider_wherever_one_is_later(
    config: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = save_model(tmp_path / "mine", "gpt2")
    monkeypatch.chdir(tmp_path)
    with Workbench(config) as bench:
        model = bench.register_model("./mine")
        assert (model.identifier, model.llama_model, model.provider_id) == ("mine", str(own.resolve()), "quick")
    monkeypatch.chdir("/")
    with Workbench(config) as bench:
        assert said(bench, "mine")


def test_the_picker_registers_with_the_facade_and_takes_back(bench: Workbench, folder: Path) -> None:
    with recorded_page() as page:
        picker = ModelPicker(bench)
        page.send(picker, {"kind": "register", "id": 1, "source": str(folder), "name": "third", "provider_id": "exact"})
        assert picker.wait(60)
        assert picker.registration == {"state": "done", "said": "Registered third in float32."}
        assert (names(bench)[-1], picker.value) == ("third", "third")
        assert picker.card is not None
        assert picker.card.predicted_memory_bytes
        page.send(
            picker, {"kind": "register", "id": 2, "source": "/no/such/folder", "name": "", "provider_id": "exact"}
        )
        assert picker.wait(60)
        assert (picker.registration["state"], picker.value) == ("failed", "third")
        assert "/no/such/folder" in picker.registration["said"]
        picker.unregister()
    assert names(bench) == ["tiny-gpt2", "exact/tiny-gpt2"]


def test_an_unregistered_model_of_the_config_gives_its_memory_back_and_returns_with_the_next_start(
    config: dict[str, Any],
) -> None:
    with Workbench(config) as bench:
        bench.load("exact/tiny-gpt2")
        bench.unregister_model("exact/tiny-gpt2")
        assert names(bench) == ["tiny-gpt2"]
    with Workbench(config) as bench:
        assert names(bench) == ["tiny-gpt2", "exact/tiny-gpt2"]


@pytest.mark.parametrize(
    "arguments,error,words",
    [
        (("third", "/no/such/folder"), UnknownModelError, "/no/such/folder"),
        (("no-such-model",), UnknownModelError, "no-such-model"),
        (("",), InvalidRequestError, "identifier"),
        (("~nobody-here/x",), InvalidRequestError, "identifier must be a path whose ~ names a user"),
        (("third", "~nobody-here/x"), InvalidRequestError, "source must be a path whose ~ names a user"),
        (("", "smollm2-135m-instruct"), InvalidRequestError, "identifier"),
        ((5,), InvalidRequestError, "identifier"),
        (("x" * 300,), InvalidRequestError, "identifier"),
        (("third", 5), InvalidRequestError, "source"),
        (("third", ""), UnknownModelError, "''"),
    ],
)
def test_what_cannot_be_served_is_refused_and_nothing_has_changed(
    bench: Workbench, own_state: Path, arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        bench.register_model(*arguments)
    with pytest.raises(InvalidRequestError, match=r"provider_id.*quick, exact"):
        bench.register_model("third", provider_id="nobody")
    assert names(bench) == ["tiny-gpt2", "exact/tiny-gpt2"]
    assert not own_state.exists()


def test_a_thousand_registrations_generations_and_unregistrations_from_eight_threads(
    config: dict[str, Any], folder: Path
) -> None:
    """Every thread has names of its own, one name is everybody's, and the model of the config answers throughout."""
    threads_before = set(threading.enumerate())
    left: set[str] = set()
    failures: list[BaseException] = []
    answers: set[str] = set()

    def work(bench: Workbench, worker: int) -> None:
        for step in range(25):
            name = f"mine-{worker}-{step % 3}"
            provider_id = ("quick", "exact")[step % 2]
            full = f"{provider_id}/{name}"
            bench.register_model(name, folder, provider_id=provider_id)
            answers.add(said(bench, "exact/tiny-gpt2"))
            if step % 5 == 0:
                assert said(bench, full)
            try:
                bench.register_model("shared", folder)
                said(bench, "shared")
                bench.unregister_model("shared")
            except WorkbenchError:
                pass  # another thread was faster; what is wrong otherwise shows below
            if step < 24:
                bench.unregister_model(full)
            else:
                left.add(full)

    def guarded(bench: Workbench, worker: int) -> None:
        try:
            work(bench, worker)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    with Workbench(config) as bench:
        workers = [threading.Thread(target=guarded, args=(bench, worker)) for worker in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert failures == []
        assert len(answers) == 1, "a model changed its answer while others came and went"
        served = {f"{model.provider_id}/{model.identifier}" for model in bench.list_models()}
        assert served - {"quick/shared"} == left | {"quick/tiny-gpt2", "exact/tiny-gpt2"}
    with Workbench(config) as bench:
        assert {f"{model.provider_id}/{model.identifier}" for model in bench.list_models()} == served
    assert still_there(set(threading.enumerate()) - threads_before) == []


# --------------------------------------------------------------------------------------------------------- precision


def memory_of(bench: Workbench, model: str) -> int:
    return bench.load(model).memory_bytes or 0


def test_ones_own_model_is_float32_in_the_default_session_and_the_catalogs_stay(folder: Path) -> None:
    with Workbench() as bench:
        bench.register_model("mine", folder)
        bench.register_model("theirs", "smollm2-135m-instruct")
        models = ("mine", "theirs", "smollm2-135m-instruct")
        assert [bench.card(model).precision for model in models] == ["float32", "int4", "int4"]


def test_a_registration_in_another_precision_is_kept_and_loaded_so(folder: Path) -> None:
    with Workbench() as bench:
        model = bench.register_model("mine", folder, precision="int8", metadata={"note": "mine"})
        assert model.metadata == {"note": "mine", "precision": "int8"}
    with Workbench() as bench:
        exact = bench.register_model("exact", folder, precision="float32")
        assert bench.card("mine").precision == "int8"
        assert memory_of(bench, "mine") < memory_of(bench, "exact")
        assert exact.metadata == {"precision": "float32"}


def test_a_model_that_is_registered_in_another_precision_is_loaded_anew(folder: Path) -> None:
    with Workbench() as bench:
        bench.register_model("mine", folder)
        before = memory_of(bench, "mine")
        bench.register_model("mine", folder, precision="int8")
        assert not bench.card("mine").loaded
        assert memory_of(bench, "mine") < before


def test_the_precision_of_a_run_config_is_the_registered_models_unless_they_name_one(
    bench: Workbench, folder: Path
) -> None:
    bench.register_model("as-configured", folder, provider_id="quick")
    bench.register_model("otherwise", folder, provider_id="quick", precision="float32")
    assert [bench.card(name).precision for name in ("as-configured", "otherwise")] == ["int8", "float32"]


def test_a_precision_is_refused_by_name_where_it_is_none_and_where_nobody_could_honour_it(
    bench: Workbench, folder: Path
) -> None:
    with pytest.raises(InvalidRequestError, match=r"metadata\.precision must be one of float32, bf16, .*got 'int3'"):
        bench.register_model("mine", folder, precision="int3")
    echo = {"provider_id": "echo", "provider_type": "inline::echo", "config": {}}
    with (
        Workbench({"providers": {"inference": [echo]}}) as other,
        pytest.raises(InvalidRequestError, match=r"metadata\.precision must be left out: inline::echo"),
    ):
        other.register_model("mine", "echo", precision="int4")


def test_a_model_that_is_found_is_served_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = empty_home(tmp_path / "home", monkeypatch)
    save_model(home / "mine" / "tiny", "gpt2")
    local = {"provider_id": "local", "provider_type": "inline::transformers", "config": {}}
    with Workbench({"providers": {"inference": [local]}, "model_folders": ["~/mine"]}) as bench:
        (found,) = bench.models_found()
        assert (found.name, found.servable, found.fits_in) == ("~/mine/tiny", True, "float32")
        card = bench.card(bench.register_model(found.name).identifier)
        facts = (card.architecture, card.parameters, card.precision, card.predicted_memory_bytes)
        assert facts == (found.architecture, found.parameters, found.fits_in, found.memory_bytes)


def test_a_model_of_ollama_is_served_by_its_name_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = empty_home(tmp_path / "home", monkeypatch)
    write_gguf_model(tmp_path / "x.gguf", "llama")
    blob = write_ollama(home / ".ollama/models", "hf.co/someone/tiny:Q8_0", (tmp_path / "x.gguf").read_bytes())
    local = {"provider_id": "local", "provider_type": "inline::transformers", "config": {}}
    with Workbench({"providers": {"inference": [local]}}) as bench:
        (found,) = bench.models_found()
        registered = bench.register_model(found.name)
        assert (registered.identifier, registered.llama_model) == ("hf.co/someone/tiny:Q8_0", str(blob))
        assert said(bench, found.name)
        with pytest.raises(UnknownModelError, match=r"'tiny:Q4_0' is not a model: .*A model of Ollama can be named"):
            bench.register_model("tiny:Q4_0")


def test_a_field_of_the_wrong_type_is_named_as_the_caller_names_it(bench: Workbench, folder: Path) -> None:
    wrong: list[Any] = [5, bytes(folder), [str(folder)], {"model": str(folder)}]
    for value in wrong:
        with pytest.raises(InvalidRequestError, match="source must be a text or a Path"):
            bench.register_model("mine", value)
        with pytest.raises(InvalidRequestError, match="identifier must be a text or a Path"):
            bench.register_model(value)
        with pytest.raises(InvalidRequestError, match="progress must be a function"):
            bench.register_model("mine", folder, progress=value)
    assert names(bench) == ["tiny-gpt2", "exact/tiny-gpt2"]


def test_paths_are_those_of_files_wherever_the_process_is_started_next(
    bench: Workbench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.parent / "x.gguf"
    write_gguf_model(file, "llama")
    (folder.parent / "all-minilm-l6-v2").mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    for source in ("../x.gguf", "gguf:../x.gguf", Path("..", "x.gguf")):
        assert bench.register_model("file", source).llama_model == str(file)
    with pytest.raises(UnknownModelError, match=f"there is no folder '{folder / 'nowhere'}'"):
        bench.register_model("mine", Path("nowhere"))
    with pytest.raises(UnknownModelError, match=f"there is no file '{folder / 'nowhere.gguf'}'"):
        bench.register_model("nowhere.gguf")
    monkeypatch.chdir(folder.parent)
    assert model_from("catalog", "all-minilm-l6-v2", "", None).llama_model == "all-minilm-l6-v2"
