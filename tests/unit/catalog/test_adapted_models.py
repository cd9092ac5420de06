"""A model and its adapter are named together, and a folder whose own name has a plus sign is still a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import catalog
from workbench.catalog import ModelSource
from workbench.errors import InvalidRequestError, ModelFormatError, UnknownModelError

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes the folder of a model or an adapter in the current one."""
    monkeypatch.chdir(tmp_path)

    def folder(name: str) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
        (path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        (path / "tokenizer.json").write_text("{}")
        return path

    return folder


@pytest.mark.parametrize("base", ["smollm2-135m-instruct", "organization/model", "./model", "a+b", "c++/model"])
@pytest.mark.parametrize("adapter", ["./adapter", "adapter", "a+d/adapter"])
def test_the_adapter_is_whatever_folder_follows_a_plus_sign(make: Make, base: str, adapter: str) -> None:
    folder = make(adapter)
    source = f"{base}+{adapter}"
    assert catalog.split_source(source) == ModelSource(base, adapter)
    assert str(catalog.split_source(source)) == source
    assert catalog.absolute_source(source, "source") == f"{base}+{folder}"
    assert catalog.served_name(source, "source") == f"{base}+adapter"


@pytest.mark.parametrize("adapter", ["./nowhere", "/no/where", "../nowhere", "~/nowhere", "./nowhere" * 30])
def test_an_adapter_that_is_not_there_is_named(make: Make, adapter: str) -> None:
    make("model")
    assert catalog.split_source(f"model+{adapter}") == ModelSource("model", adapter)
    with pytest.raises(UnknownModelError, match=r"the adapter .*no/?where"):
        catalog.resolve_folders(f"model+{adapter}")


@pytest.mark.parametrize("name", ["a+b", "a+./b", "+", "+a", "a+", "a++b"])
def test_a_folder_with_a_plus_sign_in_its_name_is_a_model(make: Make, name: str) -> None:
    folder = make(name)
    assert catalog.split_source(name) == ModelSource(name)
    assert catalog.served_name(name, "source") == folder.name


@pytest.mark.parametrize(
    "source", ["", "+", "a+", "+a", "a+b", "smollm2-135m-instruct+", "x+" + "y" * 300, "x+" + "y" * 2000, "a+\0"]
)
def test_a_name_with_a_plus_sign_and_no_path_after_it_is_no_adapter(make: Make, source: str) -> None:
    make("model")
    assert catalog.split_source(source) == ModelSource(source)
    with pytest.raises(UnknownModelError):
        catalog.resolve_folders(source)


@given(st.text(alphabet="ab+./~ \0", max_size=12))
def test_any_text_is_split_without_loss(source: str) -> None:
    try:
        parts = catalog.split_source(source)
    except InvalidRequestError as error:
        assert error.field == "model"  # noqa: PT017 - a name such as ~a, which is no user here
    else:
        assert str(parts) == source
        assert parts.adapter != ""


def test_both_folders_are_found(make: Make) -> None:
    base, adapter = make("my model"), make("adapters/mine")
    folders = catalog.resolve_folders("./my model+adapters/mine")
    assert (folders.model, folders.adapter) == (base, adapter)
    assert catalog.resolve_folders("./my model").adapter is None
    assert catalog.absolute_source("./my model+adapters/mine", "source") == f"{base}+{adapter}"


def test_a_file_is_no_adapter_and_an_adapter_is_no_model(make: Make) -> None:
    make("model")
    folder = make("adapter")
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(ModelFormatError, match=r"is an adapter.*model\+.*adapter"):
        catalog.resolve_folders("./adapter")
    with pytest.raises(ModelFormatError, match=r"is a file.*adapter_config\.json"):
        catalog.resolve_folders("model+./adapter/adapter_config.json")
