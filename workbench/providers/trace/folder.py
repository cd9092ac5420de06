"""Traces of all local models of a process, recorded or replayed through environment variables alone.

``WORKBENCH_RECORD=FOLDER`` records the requests to the models of this process, one file for each configured provider,
named after the provider and its config. ``WORKBENCH_PLAY=FOLDER`` replays these files under the same names: the
recorded code runs unchanged, and loads no model. A second workbench with the same provider continues the same file.
Providers that run no models themselves are unaffected.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
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
LOCAL_PROVIDER_TYPES = ("inline::transformers", "inline::ray")
"""Provider types that run models in processes of the workbench."""


def create(provider: Provider) -> InferenceProvider:
    """Create a provider as `providers.create` does, recorded or replayed if the environment says so.

    Raises:
        ConfigError: also if there is no recording of this provider.
    """
    if provider.provider_type in LOCAL_PROVIDER_TYPES:
        if folder := os.environ.get(PLAY_VARIABLE):
            return _played(provider, Path(folder))
        if folder := os.environ.get(RECORD_VARIABLE):
            return WhollyRecorded(providers.create(provider), _recorders.of(Path(folder) / file_name(provider)))
    return providers.create(provider)


def file_name(provider: Provider, *, with_device: bool = False) -> str:
    """Return the file name of a provider's trace, which every system accepts.

    Only the last components of paths in its config affect it. The device does not, so that a recording made on a GPU
    can be replayed elsewhere.

    Args:
        with_device: return the name of traces that were recorded when the device affected it, too.
    """
    config = {key: value for key, value in provider.config.items() if with_device or key != "device"}
    facts = [provider.provider_id, provider.provider_type, _portable(config)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]
    name = re.sub(r"[^\w.-]", "_", provider.provider_id)
    return f"{name}-{digest}.jsonl"


class WhollyRecorded(RecordedProvider):
    """A provider whose models are all recorded, including registered ones."""

    def __init__(self, inner: InferenceProvider, recorder: Recorder) -> None:
        super().__init__(inner, recorder, lambda identifier: identifier)
        self.live_listing = inner.live_listing  # type: ignore[misc] # usually a class attribute

    async def list_models(self) -> list[ModelDef]:
        models = await self._inner.list_models()
        for model in models:
            self._recorder.note(self._inner, model.identifier, model.identifier)
        return models

    async def register_model(self, model: ModelDef) -> None:
        registering = self._inner.register_model(model)
        await self._awaited(model.identifier, "register_model", {}, registering, lambda _: True)

    async def unregister_model(self, identifier: str) -> None:
        await self._inner.unregister_model(identifier)

    def card(self, identifier: str) -> ModelCard:
        return self._inner.card(identifier)

    def devices(self) -> list[str]:
        return self._inner.devices()

    def load(self, identifier: str) -> None:
        self._inner.load(identifier)
        self._recorder.note(self._inner, identifier, identifier)

    async def health(self) -> Any:
        return await self._inner.health()

    def close(self) -> None:
        self._inner.close()


Opened = TypeVar("Opened")


class _OpenFiles(Generic[Opened]):
    """Objects made from files, one for each path in this process; a second workbench shares them."""

    def __init__(self, open_file: Callable[[Path], Opened]) -> None:
        self._open_file = open_file
        self._opened: dict[Path, Opened] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> Opened:
        with self._lock:
            if path not in self._opened:
                self._opened[path] = self._open_file(path)
            return self._opened[path]

    def clear(self) -> list[Opened]:
        with self._lock:
            opened, self._opened = list(self._opened.values()), {}
        return opened


_recorders = _OpenFiles(lambda path: Recorder(path, overwrite=True))
_playlists = _OpenFiles(lambda path: Playlist(read_trace(path)))


def close_all() -> None:
    """End all recordings and replays; the next workbench starts them again, as in a new process."""
    for recorder in _recorders.clear():
        recorder.close()
    _playlists.clear()


atexit.register(close_all)


def _played(provider: Provider, folder: Path) -> InferenceProvider:
    names = (file_name(provider), file_name(provider, with_device=True))
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        recorded = ", ".join(sorted(one.name.rpartition("-")[0] for one in folder.glob("*.jsonl"))) or "nothing"
        raise ConfigError(
            f"provider {provider.provider_id!r} was not recorded with this config, and no model is loaded while "
            f"{PLAY_VARIABLE} is set; {folder} has recordings of {recorded}"
        )
    config = {"path": str(path), "timing": os.environ.get(TIMING_VARIABLE) or "skipped"}
    return TraceProvider(provider.model_copy(update={"config": config}), _playlists.of(path))


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _portable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
