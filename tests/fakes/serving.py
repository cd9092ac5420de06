"""The local provider with models of our own making instead of loaded ones: everything above the weights is real."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from numba.core.event import trigger_event

from tests.fakes.models import FakeDecoder, fake_model
from workbench.engine.constraints import Grammars
from workbench.engine.scheduler import Engine
from workbench.prompts.encoding import PromptEncoder
from workbench.protocol import ModelDef, Provider
from workbench.providers.transformers import TransformersProvider, served
from workbench.providers.transformers.served import CausalModel


class FakeModels:
    """What the provider finds when it loads: by name, each loaded at the first request as a real one would be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._models: dict[str, dict[str, Any]] = {}
        self.engines: dict[str, Engine] = {}
        self.loads: list[str] = []
        self.compilations = 0
        """Number of functions that each load says it compiles."""
        self.may_load = threading.Event()
        """Cleared by a test that wants to stand between the request and the loaded model."""
        self.may_load.set()
        monkeypatch.setattr(served.ServedModels, "_load", lambda _, definition: self._load(definition))

    def add(self, name: str, decoder: FakeDecoder | None = None, **facts: Any) -> FakeDecoder:
        """Offer a model; the decoder says what it does and counts what it did."""
        decoder = decoder or FakeDecoder()
        self._models[name] = facts | {"decoder": decoder}
        return decoder

    @property
    def config(self) -> dict[str, Any]:
        """A run config that serves every model offered so far."""
        provider = {"provider_id": "fakes", "provider_type": "inline::transformers", "config": self._provider_config}
        return {"image_name": "fakes", "providers": {"inference": [provider]}}

    def provider(self) -> TransformersProvider:
        return TransformersProvider(
            Provider(provider_id="fakes", provider_type="inline::transformers", config=self._provider_config)
        )

    @property
    def _provider_config(self) -> dict[str, Any]:
        return {"models": list(self._models)}

    def _load(self, definition: ModelDef) -> CausalModel:
        self.loads.append(definition.identifier)
        for _ in range(self.compilations):
            with trigger_event("numba:compile"):
                pass
        assert self.may_load.wait(30), "the test never let the model load"
        model = fake_model(name=definition.identifier, **self._models[definition.llama_model])
        engine = self.engines[definition.identifier] = Engine(model)
        return CausalModel(engine, PromptEncoder(model.tokenizer, definition.identifier), Grammars(model))
