"""The embedded chat model with the decoder of devices, computed on the CPU: a few laws of every kind.

`scripts/device_check.sh` asks all of a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import torch

from tests.fakes.listening import generate, submit
from tests.laws.test_smollm2 import SUBJECTS, ids_of, reference
from workbench.engine.constraints import Grammars, JsonSchemaGrammar
from workbench.engine.loading import load
from workbench.engine.on_device.decoder import DeviceDecoder
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine

PATIENCE_S = 300.0
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"enum": ["small", "large"]}},
    "required": ["city", "size"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(smollm2_path: Path, device: str) -> Iterator[Engine]:
    engine = Engine(load(smollm2_path, device="torch:cpu" if device == "cpu" else device))
    assert isinstance(engine.model.decoder, DeviceDecoder)
    yield engine
    engine.close()


@pytest.mark.timeout(300)
def test_sixteen_together_are_greedy_by_a_forward_pass_of_transformers(engine: Engine, smollm2_path: Path) -> None:
    requests = [
        GenerationRequest(prompt_ids=ids_of(engine, text), max_tokens=4, alternatives=3) for text in SUBJECTS[:16]
    ]
    for request, heard in zip(requests, [submit(engine, request)[1] for request in requests], strict=True):
        heard.wait(PATIENCE_S)
        token_ids = [*request.prompt_ids, *heard.ids]
        with torch.inference_mode():
            exact = reference(smollm2_path)(torch.tensor([token_ids]), use_cache=False).logits[0].log_softmax(-1)
        rows = exact[len(request.prompt_ids) - 1 : -1]
        assert heard.ids == rows.argmax(-1).tolist()
        assert heard.logprobs == pytest.approx(rows.amax(-1).tolist(), abs=1e-4)


@pytest.mark.timeout(300)
def test_a_format_a_seed_a_prefix_and_a_score_give_what_they_give_cold(engine: Engine) -> None:
    prompt = ids_of(engine, "Describe the city of Rome in JSON, in one line and with no other words:\n")
    constraint = Grammars(engine.model).compile(JsonSchemaGrammar.of(SCHEMA, "f"), "f")
    request = GenerationRequest(
        prompt_ids=prompt, sampling=Sampling(temperature=1.0, seed=3), max_tokens=40, constraint=constraint
    )
    first = generate(engine, request, PATIENCE_S)
    jsonschema.validate(json.loads(first.text), SCHEMA)
    again = generate(engine, request, PATIENCE_S)
    assert again.started.reused_tokens == len(prompt) - 1
    assert (again.ids, again.text) == (first.ids, first.text)
    (scored,) = engine.score(prompt, [first.ids])
    assert [one.logprob for one in scored] == pytest.approx(first.logprobs, abs=1e-4)
