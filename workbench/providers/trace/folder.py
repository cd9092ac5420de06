"""A folder of traces in place of models, by the environment alone: whatever a notebook opens is recorded, or played.

``WORKBENCH_RECORD=FOLDER`` records what the models of this process are asked, each configured provider into a file of
its own that is named after the provider and its config. ``WORKBENCH_PLAY=FOLDER`` plays these files under the very same
names: the code that was recorded runs unchanged, and no model is looked for. A second workbench with the same provider
goes on with the same file. Providers that hold no models themselves are left as they are.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workbench import providers
from workbench.errors import ConfigError
from workbench.protocol import ModelDef, Provider
from workbench.providers.interface import InferenceProvider
from workbench.providers.trace.file import read_trace
from workbench.providers.trace.playing import Playlist
from workbench.providers.trace.provider import TraceProvider
from workbench.providers.trace.recording import RecordedProvider, Recorder

if TYPE_CHECKING:
    from workbench.records import ModelCard

RECORD_VARIABLE, PLAY_VARIABLE, TIMING_VARIABLE = "WORKBENCH_RECORD", "WORKBENCH_PLAY", "WORKBENCH_PLAY_TIMING"
HOLDING_MODELS = ("inline::transformers", "inline::ray")
"""Provider types that compute in our own processes."""


def create(provider: Provider) -> InferenceProvider:
    """As `providers.create`, but recorded or played where the environment says so.

    Raises:
        ConfigError: also where there is no recording of this provider.
    """
    if provider.provider_type in HOLDING_MODELS:
        if folder := os.environ.get(PLAY_VARIABLE):
            return _played(provider, Path(folder))
        if folder := os.environ.get(RECORD_VARIABLE):
            return WhollyRecorded(providers.create(provider), _recorders.of(Path(folder) / file_name(provider)))
    return providers.create(provider)


def file_name(provider: Provider) -> str:
    """The same wherever the config is: of a folder that it names, the last part alone counts."""
    facts = [provider.provider_id, provider.provider_type, _portable(provider.config)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return f"{provider.provider_id}-{digest}.jsonl"


class WhollyRecorded(RecordedProvider):
    """A provider with all of its models, the registered ones too."""

    def __init__(self, inner: InferenceProvider, recorder: Recorder) -> None:
        super().__init__(inner, recorder, lambda identifier: identifier)
        self.live_listing = inner.live_listing  # type: ignore[misc] # of a class, as a rule

    async def list_models(self) -> list[ModelDef]:
        models = await self._inner.list_models()
        for model in models:
            self._recorder.note(self._inner, model.identifier, model.identifier)
        return models

    async def register_model(self, model: ModelDef) -> None:
        asking = self._inner.register_model(model)
        await self._awaited(model.identifier, "register_model", {}, asking, lambda _: True)

    async def unregister_model(self, identifier: str) -> None:
        await self._inner.unregister_model(identifier)

    def card(self, identifier: str) -> ModelCard:
        return self._inner.card(identifier)

    def load(self, identifier: str) -> None:
        self._inner.load(identifier)
        self._recorder.note(self._inner, identifier, identifier)

    async def health(self) -> Any:
        return await self._inner.health()

    def close(self) -> None:
        self._inner.close()


Opened = TypeVar("Opened")


class _Files(Generic[Opened]):
    """What was made of each file in this process; a second workbench goes on with it."""

    def __init__(self, opening: Callable[[Path], Opened]) -> None:
        self._opening = opening
        self._opened: dict[Path, Opened] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> Opened:
        with self._lock:
            if path not in self._opened:
                self._opened[path] = self._opening(path)
            return self._opened[path]

    def forget(self) -> list[Opened]:
        with self._lock:
            opened, self._opened = list(self._opened.values()), {}
        return opened


_recorders = _Files(lambda path: Recorder(path, overwrite=True))
_playlists = _Files(lambda path: Playlist(read_trace(path)))


def forget() -> None:
    """End all recordings and begin anew, as the next process would."""
    for recorder in _recorders.forget():
        recorder.close()
    _playlists.forget()


atexit.register(forget)


def _played(provider: Provider, folder: Path) -> InferenceProvider:
    path = folder / file_name(provider)
    if not path.is_file():
        recorded = ", ".join(sorted(one.name.rpartition("-")[0] for one in folder.glob("*.jsonl"))) or "nothing"
        raise ConfigError(
            f"provider {provider.provider_id!r} was not recorded with this config, and no model is loaded while "
            f"{PLAY_VARIABLE} is set; {folder} has recordings of {recorded}"
        )
    config = {"path": str(path), "timing": os.environ.get(TIMING_VARIABLE) or "skipped"}
    return TraceProvider(provider.model_copy(update={"config": config}), _playlists.of(path))


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _portable(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_portable(held) for held in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
