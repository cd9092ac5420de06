"""Models of one provider in memory: loaded on first use, closed one by one or together."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workbench import catalog
from workbench.engine.compilation import on_compilation
from workbench.engine.constraints import Grammars
from workbench.engine.decoders import GeneralDecoder
from workbench.engine.devices import CPU, DeviceChoice
from workbench.engine.loading import LoadedModel, load
from workbench.engine.model_folder import is_sentence_model
from workbench.engine.packed_file import PACKED
from workbench.engine.scheduler import Engine
from workbench.errors import ClosedError, InvalidRequestError, NumericalError, UnsupportedFieldError
from workbench.prompts.encoding import PromptEncoder
from workbench.prompts.vision_encoding import VisionEncoder
from workbench.protocol import ModelDef
from workbench.providers.transformers.cards import PROOFS, proof_facts, refuse_adapter, template_facts
from workbench.providers.transformers.config import TransformersConfig
from workbench.providers.transformers.turn_ends import cached_turn_ends
from workbench.records import ModelCard, TokenSpans

if TYPE_CHECKING:
    from workbench.engine.embeddings import EmbeddingModel

SENTENCE_MODEL = "a sentence model, which makes embeddings; this one generates text"
"""Description of the models that have token spans, for messages."""


@dataclass(frozen=True, slots=True)
class CausalModel:
    """A model that generates text, with its engine, prompt encoder and grammars."""

    engine: Engine
    encoder: PromptEncoder
    grammars: Grammars

    @property
    def switched_off(self) -> tuple[str, ...]:
        """Features that are off because the model failed their proof."""
        return self.engine.model.proof.switched_off

    @property
    def choice(self) -> DeviceChoice:
        """Device on which the model was loaded."""
        return DeviceChoice(self.engine.model.device, self.engine.model.device_why)

    @property
    def _decoder(self) -> str:
        if isinstance(self.engine.model.decoder, GeneralDecoder):
            return "general"
        return "fused" if self.engine.model.device == CPU else "device"

    def close(self) -> None:
        self.engine.close()

    def measured(self, card: ModelCard) -> ModelCard:
        """Return the card of the model on its device with the facts of the loaded model."""
        model = self.engine.model
        return replace(
            card,
            loaded=True,
            architecture=model.architecture,
            parameters=model.parameters,
            memory_bytes=model.memory_bytes,
            predicted_memory_bytes=model.predicted_memory_bytes,
            context_length=model.context_length,
            prompt_arithmetic=model.decoder.prompt_arithmetic,
            decoder=self._decoder,
            device_proof=model.device_proof,
            **proof_facts(model.proof, card),
            **self._prompt_facts(),
        )

    def _prompt_facts(self) -> dict[str, Any]:
        template = self.encoder.template
        if template is None:
            return template_facts({})
        native = template.native_syntax
        return template_facts(template.sources) | {"tool_syntax": native.value if native else "tool_prompt_format"}


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """A model that makes embeddings."""

    model: EmbeddingModel
    switched_off: tuple[str, ...] = ()
    choice: DeviceChoice | None = None
    """None: such models are computed on the CPU, whatever was chosen."""

    def close(self) -> None:
        """Do nothing: no work outlives a request."""

    def measured(self, card: ModelCard) -> ModelCard:
        return replace(
            card,
            loaded=True,
            context_length=self.model.max_tokens,
            parameters=self.model.parameters,
            memory_bytes=self.model.memory_bytes,
            predicted_memory_bytes=self.model.predicted_memory_bytes,
        )


class ServedModels:
    """Loaded models of a provider, by identifier; thread-safe.

    Args:
        find: returns the definition of a served model, or raises `ModelNotFoundError`.
    """

    def __init__(self, provider_id: str, config: TransformersConfig, find: Callable[[str], ModelDef]) -> None:
        self._provider_id = provider_id
        self._config = config
        self._find = find
        self._loaded: dict[str, CausalModel | SentenceModel] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._closing = threading.Lock()
        self._closed = False

    def loaded(self, identifier: str) -> CausalModel | SentenceModel | None:
        """Return the model if it is in memory."""
        return self._loaded.get(identifier)

    def ready(self, identifier: str) -> CausalModel | SentenceModel:
        """Return the model, loaded if necessary; concurrent calls load it once."""
        self._find(identifier)
        with self._lock(identifier):
            definition = self._find(identifier)  # it may have been unregistered while this waited
            if self._closed:
                raise ClosedError(f"provider {self._provider_id} was closed; open a new workbench")
            if identifier not in self._loaded:
                with on_compilation(_show_compilation):
                    self._store(identifier, self._load(definition))
            return self._loaded[identifier]

    def unload(self, identifier: str) -> None:
        """Free the model's memory; its requests in flight fail with `ClosedError`. Blocks."""
        with self._lock(identifier), self._closing:
            model = self._loaded.pop(identifier, None)
        if model is not None:
            model.close()

    def _lock(self, identifier: str) -> threading.Lock:
        return self._locks.setdefault(identifier, threading.Lock())

    def _store(self, identifier: str, model: CausalModel | SentenceModel) -> None:
        with self._closing:
            if not self._closed:
                self._loaded[identifier] = model
                return
        model.close()  # the provider was closed during loading, so nothing else closes it
        raise ClosedError(f"provider {self._provider_id} was closed while {identifier} was loading")

    def causal(self, identifier: str) -> CausalModel:
        """Return the loaded model; raise `InvalidRequestError` for a sentence model."""
        model = self.ready(identifier)
        if isinstance(model, SentenceModel):
            raise InvalidRequestError(
                "model", identifier, "a model that generates text; this one makes embeddings only"
            )
        return model

    def embed(self, identifier: str, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return one vector per text, a causal model's from its hidden states, and the number of tokens read."""
        model = self.ready(identifier)
        if isinstance(model, SentenceModel):
            inputs = model.model.encode(texts)
            vectors, token_count = model.model.embed_encoded(inputs), sum(len(one["input_ids"]) for one in inputs)
        else:
            vectors, token_count = _causal_vectors(model, texts)
        if not all(math.isfinite(sum(vector)) for vector in vectors):
            raise NumericalError(f"{identifier} computed NaN for a text; its weights are damaged or overflow")
        return vectors, token_count

    def token_spans(self, identifier: str, text: str) -> TokenSpans:
        """Return where the tokens of a text are; raise `InvalidRequestError` for a causal model."""
        model = self.ready(identifier)
        if not isinstance(model, SentenceModel):
            raise InvalidRequestError("model", identifier, SENTENCE_MODEL)
        return TokenSpans(tuple(model.model.token_spans(text)), model.model.max_text_tokens)

    def close(self) -> None:
        with self._closing:
            self._closed = True
            models = list(self._loaded.values())
            self._loaded.clear()
        for model in models:
            model.close()

    def _load(self, definition: ModelDef) -> CausalModel | SentenceModel:
        folders = catalog.resolve_folders(definition.llama_model)
        folder = folders.model
        if is_sentence_model(folder):
            from workbench.engine.embeddings import EmbeddingModel

            refuse_adapter(folders)
            return SentenceModel(EmbeddingModel(folder, name=definition.identifier))
        loaded = load(
            folder,
            name=definition.identifier,
            precision=self._config.precision_of(definition),
            proofs=catalog.cache_dir() / PROOFS,
            packed_models=catalog.cache_dir() / PACKED,
            adapter=folders.adapter,
            device=self._config.device_of(definition),
        )
        encoder = self._encoder(loaded)
        ends = cached_turn_ends(encoder, loaded.tokenizer, catalog.cache_dir() / PROOFS)
        loaded = replace(loaded, eos_ids=loaded.eos_ids | ends)
        engine = Engine(
            loaded, prefix_cache_bytes=self._config.prefix_cache_mb * 2**20, max_active=self._config.max_active
        )
        return CausalModel(engine, encoder, Grammars(loaded))

    def _encoder(self, model: LoadedModel) -> PromptEncoder:
        if model.images is None:
            return PromptEncoder(model.tokenizer, model.name, model.context_length)
        sources = self._config.image_sources
        return VisionEncoder(model.tokenizer, model.name, model.context_length, reader=model.images, sources=sources)


def _show_compilation() -> None:
    """Write a line to standard error, in a log too: otherwise nothing would explain the wait."""
    if os.environ.get("WORKBENCH_PROGRESS") != "0":
        line = "Compiling the engine for this processor (a minute or two, once) ..."
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - a bar would never move


def _causal_vectors(model: CausalModel, texts: Sequence[str]) -> tuple[list[list[float]], int]:
    """Embed texts, all of which are checked before the first is computed, so that one bad text costs nothing."""
    if "embeddings" in model.engine.model.proof.switched_off:
        raise UnsupportedFieldError(
            "model", model.engine.model.name, "one that makes embeddings; this one returns no last hidden states"
        )
    prompts = []
    for index, text in enumerate(texts):
        prompts.append(model.encoder.encode_text(text, f"contents[{index}]"))
        model.engine.check(prompts[-1], f"contents[{index}]")
    return model.engine.embed(prompts), sum(map(len, prompts))
