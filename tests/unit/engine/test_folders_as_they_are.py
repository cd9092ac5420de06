"""A folder as people have it: float16, in several files, with files beside the weights that are none of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from tests.fakes.listening import generate
from tests.tiny_models import save_model
from workbench import catalog
from workbench.engine.loading import load
from workbench.engine.model_folder import check_folder
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine

PROMPTS = [(5, 77, 130), tuple(range(3, 40)), (200,)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = save_model(tmp_path_factory.mktemp("whole"), "llama", end_ids=[0, 7, 9])
    model = transformers.AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float16)
    folder: Path = tmp_path_factory.mktemp("parts")
    model.save_pretrained(folder, max_shard_size="40KB")
    for path in whole.glob("*token*"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"not to be opened")
    (folder / "README.md").write_text("# A model")
    (folder / "original").mkdir()
    (folder / "original" / "consolidated.00.pth").write_bytes(b"not to be opened")
    save_file({"other": torch.zeros(3)}, folder / "consolidated.safetensors")
    return folder


def test_its_ids_are_those_of_transformers(folder: Path, engine_of: Callable[..., Engine]) -> None:
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert catalog.resolve(str(folder)) == folder
    check_folder(folder)
    model = load(folder)
    assert model.eos_ids == {0, 7, 9}
    engine = engine_of(model=model)
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = reference.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=0
            )
        answer = output[0, len(prompt) :].tolist()
        heard = generate(engine, GenerationRequest(prompt_ids=prompt, max_tokens=20))
        assert heard.ids == (answer[:-1] if answer[-1] in model.eos_ids else answer)


def test_each_of_several_end_tokens_ends_an_answer(folder: Path, engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(model=load(folder))
    free = generate(engine, GenerationRequest(prompt_ids=PROMPTS[1], max_tokens=20, stop_ids=frozenset())).ids
    for end in set(free[3:]):
        ends = frozenset({0, 7, 9, end})
        heard = generate(engine, GenerationRequest(prompt_ids=PROMPTS[1], max_tokens=20, stop_ids=ends))
        first = next(position for position, one in enumerate(free) if one in ends)
        assert heard.ids == free[:first]
