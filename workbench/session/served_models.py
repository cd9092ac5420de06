"""Blocking calls on a running stack: its models, requests without a run, and recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.catalog.progress import Progress, reported_to
from workbench.errors import InvalidRequestError
from workbench.prompts.tools.from_functions import Tool, tool_definitions
from workbench.protocol import (
    EmbeddingsResponse,
    InterleavedTextMedia,
    LogProbConfig,
    Message,
    ModelDefWithProvider,
    ToolPromptFormat,
)
from workbench.providers.capabilities import refuse_method
from workbench.session.arguments import checked_list, checked_number, checked_text
from workbench.session.resources import Resources
from workbench.stack.models import model_from

if TYPE_CHECKING:
    from workbench.insides import ModelPoints
    from workbench.providers.capabilities import Capabilities
    from workbench.providers.trace.recording import Recorder
    from workbench.records import FoundModel, LensFit, ModelCard, Prompt, Score


class ServedModels(Resources):
    """Models of a started run config."""

    def list_models(self) -> list[ModelDefWithProvider]:
        """Return the models that are served, in order of registration, as last reported by remote servers.

        ``await bench.models.list_models()`` queries the servers again.
        """
        return self.models.models()

    def models_found(self) -> list[FoundModel]:
        """Return the models that other programs have downloaded, and those in the run config's ``model_folders``.

        Only the headers of their files are read. A model is served after `register_model` with its ``name``, unless
        its ``problem`` says why it cannot be.
        """
        from workbench.found import find_models

        return find_models(self.config.model_folders)

    def register_model(
        self,
        identifier: str,
        source: str | Path | None = None,
        *,
        provider_id: str | None = None,
        precision: str | None = None,
        device: str | None = None,
        metadata: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> ModelDefWithProvider:
        """Register a model with a provider, now and after a restart; block until the provider has accepted it.

        Args:
            identifier: name of the model in requests.
            source: catalog name, folder, GGUF file, hub id (``organization/name``, or ``organization/name@revision``)
                or name in Ollama of its weights, followed by a plus sign and a folder for a LoRA adapter, as in
                ``base+./adapter``. None uses ``identifier``; a folder or file is then served under its own name.
            provider_id: id of the provider; None uses the first one in the run config.
            precision: ``float32``, ``bf16``, ``fp8``, ``int8`` or ``int4``. None uses the precision in the provider's
                run config; without one, int4 for catalog models, its own for a GGUF file, and float32, the
                reference, for all others.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``xpu``. None uses the device in the provider's
                run config; without one, ``auto``.
            metadata: values to store with the model; precision and device are stored there too.
            progress: callback for a download, called often and on other threads with its stage (``wait``,
                ``download``, ``unpack``, ``convert`` or ``record``), the bytes that are there, and all bytes or None.
                None shows a bar in a terminal or a notebook.

        Raises:
            InvalidRequestError: the name is taken or not allowed, or the provider, precision or device does not exist.
            WorkbenchError: the provider refused the model; nothing has changed.
        """
        if progress is not None and not callable(progress):
            raise InvalidRequestError("progress", progress, "a function of a stage, bytes and all bytes")
        if provider_id is None:
            provider_id = next(iter(self._stack.providers), "")
        chosen = {name: given for name, given in (("precision", precision), ("device", device)) if given is not None}
        model = model_from(identifier, source, provider_id, {**(metadata or {}), **chosen} if chosen else metadata)
        with reported_to(progress):
            self._loop.wait(self.models.register_model(model))
        return model

    def devices(self, provider_id: str) -> list[str]:
        """Return the devices that a provider can compute a model on here, the preferred one first.

        It is empty for providers that load no weights in this process.
        """
        provider = self._stack.providers.get(provider_id)
        if provider is None:
            raise InvalidRequestError("provider_id", provider_id, f"one of {', '.join(self._stack.providers)}")
        return provider.devices()

    def unregister_model(self, identifier: str) -> None:
        """Stop serving a model and free its memory; block until that is done.

        A model that is listed in the run config is served again after a restart.
        """
        self._loop.wait(self.models.unregister_model(identifier))

    def card(self, model: str | None = None) -> ModelCard:
        """Return the card of a model without loading it."""
        found = self.models.find(self._model(model))
        return found.provider.card(found.definition.identifier)

    def capabilities(self, model: str | None = None) -> Capabilities:
        """Return the request fields and values that a model supports; all others are refused."""
        return self.inference.capabilities_of(self._model(model))

    def load(self, model: str | None = None) -> ModelCard:
        """Load a model now instead of at its first request; block until it is loaded and return its card."""
        found = self.models.find(self._model(model))
        found.provider.load(found.definition.identifier)
        return found.provider.card(found.definition.identifier)

    def model_points(self, model: str | None = None) -> ModelPoints:
        """Return the points of a model as a record, which `points` shows as a table; load the model if necessary."""
        return self.inference.points(self._model(model))

    def fit_lens(
        self,
        texts: list[str],
        *,
        model: str | None = None,
        seconds: float | None = None,
        progress: Callable[[LensFit], None] | None = None,
    ) -> LensFit:
        """Fit the Jacobian lens of a model to texts; ``lens(kind="jacobian")`` of its runs uses it from then on.

        The model is read in float32 beside the one that is served. A text of 128 tokens takes minutes for a model of
        100 million parameters; the time grows with the size of the residual stream. The lens is stored in the cache
        for the same weights; an interrupted fit of the same texts goes on where it was.

        Args:
            texts: texts of more than 16 tokens each, of which the first 16 are not used.
            seconds: time after which no other text is begun; at least one is read.
            progress: called after each text.

        Raises:
            InvalidRequestError: an argument has the wrong type, or a text is too short.
            ModelFormatError: the model's architecture is none of the fast step.
            InsufficientMemoryError: the weights do not fit.
        """
        checked = [checked_text(f"texts[{index}]", text) for index, text in enumerate(checked_list("texts", texts))]
        if seconds is not None and checked_number("seconds", seconds) <= 0:
            raise InvalidRequestError("seconds", seconds, "None or a number above 0")
        found = self.models.find(self._model(model))
        refuse_method(found.provider, "edits", found.name)
        return found.provider.fit_lens(found.definition.identifier, checked, seconds, progress)

    def record(self, path: str | Path, *, overwrite: bool = False) -> Recorder:
        """Record every call of this workbench from now on in a trace file, which ``inline::trace`` replays.

        A call is written when it ends. Close the recorder that is returned, or use it in a ``with`` statement.
        Missing parent folders are created. A trace has what the models computed, so it may contain text that a shield
        withheld; a replay runs the shields again.

        Raises:
            InvalidRequestError: the file exists and ``overwrite`` is false, or another recording is still open.
        """
        from workbench.providers.trace.recording import Recorder

        if (current := self.inference.recorder) is not None and current.is_open:
            raise InvalidRequestError("path", str(path), f"given after the open recording to {current.path} is closed")
        recorder = Recorder(path, overwrite=overwrite)
        for known in self.models.registrations():
            recorder.note(known.provider, known.definition.identifier, known.name)
        self.inference.recorder = recorder
        for provider in self._stack.safety_providers.values():
            provider.forget()
        return recorder

    def embeddings(self, contents: list[InterleavedTextMedia], *, model: str | None = None) -> EmbeddingsResponse:
        """Return one vector per content, in order. ``model=None`` uses the first sentence model that is served."""
        return self._loop.wait(self.inference.embeddings(self._model(model, kind="embedding"), contents))

    def score(
        self,
        prompt: str | list[Message],
        continuations: list[str],
        *,
        model: str | None = None,
        logprobs: LogProbConfig | None = None,
    ) -> list[Score]:
        """Return how probable each continuation is after a text or a conversation, in total and per token."""
        if logprobs is not None and not isinstance(logprobs, LogProbConfig):
            raise InvalidRequestError("logprobs", logprobs, "a LogProbConfig")
        alternatives = (logprobs.top_k or 0) if logprobs else 0
        return self._loop.wait(self.inference.score(self._model(model), prompt, continuations, alternatives))

    def render(
        self,
        prompt: str | list[Message],
        *,
        tools: Sequence[Tool] | None = None,
        tool_prompt_format: ToolPromptFormat | None = ToolPromptFormat.json,
        model: str | None = None,
    ) -> Prompt:
        """Return the prompt, text and tokens, that a model gets for a text or a conversation, without running it.

        Args:
            tools: definitions or functions, as in `chat_completion`.
        """
        rendering = self.inference.render(self._model(model), prompt, tool_definitions(tools), tool_prompt_format)
        return self._loop.wait(rendering)

    def __repr__(self) -> str:
        return f"<Workbench {self.config.image_name}: {', '.join(model.identifier for model in self.list_models())}>"

    def _model(self, model: str | None, kind: str = "causal") -> str:
        if model is not None:
            return model
        return self.inference.default_model(kind)
