"""Every error the workbench raises on purpose, in one tree.

::

    WorkbenchError
    ├── InvalidRequestError (ValueError)      a field of a request has a value that is not allowed
    │   ├── ContextLengthError                the prompt leaves no room in the model's context
    │   ├── UnsupportedContentError           content of a kind that the model cannot read
    │   ├── UnsupportedFieldError             a field that this provider cannot honour
    │   └── NotRecordedError                  a request that a trace does not hold
    ├── ConfigError (ValueError)              a run config, or a provider's part of it, is wrong
    ├── ModelNotFoundError (LookupError)      nobody serves a model of that name
    ├── ModelLoadError                        a model folder cannot be loaded
    │   ├── ModelFormatError                  no config, an unknown architecture, damaged or missing files
    │   ├── UnprovenModelError                its steps are not what transformers computes for the whole text
    │   ├── UnsafeModelError                  pickled weights, or code that would have to run
    │   └── InsufficientMemoryError           it would not fit the memory of this machine
    ├── CatalogError                          a model cannot be brought into the cache
    │   ├── UnknownModelError (LookupError)   no catalog name, folder or hub id
    │   ├── DownloadError                     the package index or the hub did not deliver
    │   │   ├── OfflineError                  no network, or it is switched off
    │   │   └── GatedModelError               the hub wants a login or the acceptance of terms
    │   ├── ChecksumError                     what came is not what the catalog promises
    │   └── ConversionError                   it came, and could not be converted or stored
    ├── GenerationError                       a run that had started could not go on
    │   ├── NumericalError                    the model computed NaN, or nothing is left to sample from
    │   ├── ToolCallError                     a call had to come, and none did
    │   └── OutOfMemoryError                  memory ran out during a step
    ├── TemplateProcessError                  the process that renders chat templates does not start, or was ended
    ├── StateError                            what is kept between two starts cannot be read or written
    ├── RemoteError                           a server that a provider speaks to failed, or refused its token
    │   ├── RemoteConnectionError             it cannot be reached, or hung up before its answer was whole
    │   └── RemoteTimeoutError                it was silent for too long
    ├── BusyError                             too many requests at once; try again later
    └── ClosedError                           the workbench, provider or model was closed

Messages name the field or the file, the value that was found, what is allowed, and what to do next.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any


class WorkbenchError(Exception):
    """Base of all errors that the workbench raises on purpose. Copies and pickles, as between two processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default the class would be called with the finished message as its only argument.
        return _restored, (type(self), self.args, {name: _portable(value) for name, value in self.__dict__.items()})


class InvalidRequestError(WorkbenchError, ValueError):
    """A request's field has a value that is not allowed.

    Args:
        field: the field's path as the caller wrote it, for example ``sampling_params.top_p``.
        given: the offending value.
        allowed: the allowed values in words, for example ``above 0 and at most 1``.
        in_form: what a form shows to a reader who filled it in and knows no field's name.
    """

    def __init__(self, field: str, given: object, allowed: str, *, in_form: str | None = None) -> None:
        super().__init__(f"{field} must be {allowed}; got {_shortened(given)}")
        self.field = field
        self.given = given
        self.allowed = allowed
        self.in_form = in_form


class ContextLengthError(InvalidRequestError):
    """The prompt fills or exceeds the model's context, so that no token could be generated."""

    def __init__(self, prompt_tokens: int, context_length: int, field: str = "prompt") -> None:
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length
        super().__init__(
            field,
            f"{prompt_tokens} tokens",
            f"shorter than the model's context of {context_length} tokens: shorten the text or the history",
            in_form=f"{prompt_tokens:,} tokens; this model takes fewer than {context_length:,}.",
        )


class UnsupportedContentError(InvalidRequestError):
    """Content of a kind that the model cannot read, such as an image for a text-only model."""


class UnsupportedFieldError(InvalidRequestError):
    """A field that the provider cannot honour; it is refused because dropping it would change the answer."""


class NotRecordedError(InvalidRequestError):
    """A trace that is played holds no such request; ``allowed`` says what the nearest one has in that field."""


class ConfigError(WorkbenchError, ValueError):
    """A run config, or one provider's part of it, is wrong; the message gives the path of the key."""


class ModelNotFoundError(WorkbenchError, LookupError):
    """Nobody serves a model of that name.

    Args:
        identifier: the name that was asked for.
        served: the names that could have been asked for.
        silent: providers that could not be asked what they serve, and why; one of them may have it.
    """

    def __init__(self, identifier: str, served: Iterable[str], silent: Mapping[str, str] | None = None) -> None:
        self.identifier = identifier
        self.served = sorted(served)
        self.silent = dict(silent or {})
        names = ", ".join(self.served) if self.served else "none"
        unknown = "".join(f" Provider {provider_id} did not answer: {why}" for provider_id, why in self.silent.items())
        super().__init__(
            f"no model {identifier!r} is served; served models: {names}. Register it first, or choose one.{unknown}"
        )


class ModelLoadError(WorkbenchError):
    """A model folder cannot be loaded."""


class ModelFormatError(ModelLoadError):
    """A model folder lacks a file, is damaged, or holds an architecture that is not a supported model."""


class UnprovenModelError(ModelLoadError):
    """What the engine would compute is not what transformers computes of the model; the message says what differs."""


class UnsafeModelError(ModelLoadError):
    """Loading would run code from the model's files: pickled weights or a custom modelling module."""


class InsufficientMemoryError(ModelLoadError):
    """The model would not fit the memory of this machine or container."""


class CatalogError(WorkbenchError):
    """A model cannot be brought into the cache."""


class UnknownModelError(CatalogError, LookupError):
    """The name is no catalog entry, no local folder and no repository of the hub."""


class DownloadError(CatalogError):
    """The package index or the hub did not deliver the files."""


class OfflineError(DownloadError):
    """The files are not on this machine and there is no network, or it is switched off."""


class GatedModelError(DownloadError):
    """The hub gives the model only to accounts that accepted its terms."""


class ChecksumError(CatalogError):
    """A file is not the one that the catalog promises."""


class ConversionError(CatalogError):
    """A downloaded model could not be converted or stored; the cache is as it was before."""


class GenerationError(WorkbenchError):
    """A run that had started could not go on."""


class NumericalError(GenerationError):
    """The model computed NaN, or no token was left to sample from."""


class ToolCallError(GenerationError):
    """``tool_choice`` was ``required``, and the answer ended without a whole call."""


class OutOfMemoryError(GenerationError):
    """Memory ran out during a step; the run's memory was given back."""


class TemplateProcessError(WorkbenchError):
    """The process that renders chat templates could not be started, or something other than a template ended it."""


class StateError(WorkbenchError):
    """What is kept between two starts, such as registrations, cannot be read or written."""


class RemoteError(WorkbenchError):
    """A server that a provider speaks to failed, or answered something else than its API says."""


class RemoteConnectionError(RemoteError):
    """The server cannot be reached, or it hung up before its answer was whole."""


class RemoteTimeoutError(RemoteError):
    """The server was silent for longer than the provider's config allows."""


class BusyError(WorkbenchError):
    """Too many requests at once; nothing was computed, so trying again later is safe."""


class ClosedError(WorkbenchError):
    """The workbench, provider or model was closed while it was needed."""


def _restored(kind: type[WorkbenchError], args: tuple[Any, ...], facts: dict[str, Any]) -> WorkbenchError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


def _portable(value: object) -> object:
    """The value, or what it looks like where it cannot be pickled: anything may have been given for a field."""
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - a value's own pickling may raise anything
        return _shortened(value)
    return value


def _shortened(value: object, limit: int = 80) -> str:
    text = repr(value) if not isinstance(value, str) or len(value) <= limit else repr(value[:limit])
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
