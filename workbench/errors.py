"""All errors that the workbench raises on purpose, in one tree.

::

    WorkbenchError
    ├── InvalidRequestError (ValueError)      a request field has a value that is not allowed
    │   ├── ContextLengthError                the prompt leaves no room in the model's context
    │   ├── UnsupportedContentError           content of a kind that the model cannot read
    │   ├── UnsupportedFieldError             a field that this provider does not support
    │   └── NotRecordedError                  a request that is not in the trace
    ├── ConfigError (ValueError)              a run config is invalid
    ├── ResourceNotFoundError (LookupError)   no provider serves a resource of that name
    │   ├── ModelNotFoundError                no provider serves a model of that name
    │   ├── ShieldNotFoundError               no provider runs a shield of that name
    │   └── MemoryBankNotFoundError           no provider stores a memory bank of that name
    ├── ModelLoadError                        a model folder cannot be loaded
    │   ├── ModelFormatError                  no config, an unknown architecture, damaged or missing files
    │   ├── UnprovenModelError                decode steps differ from the forward over the whole text
    │   ├── UnsafeModelError                  pickled weights, or custom code that would run
    │   └── InsufficientMemoryError           the model does not fit in memory
    ├── CatalogError                          a model cannot be installed in the cache
    │   ├── UnknownModelError (LookupError)   not a catalog name, folder, file or hub id
    │   ├── DownloadError                     the package index or the hub did not deliver the files
    │   │   ├── OfflineError                  no network, or network access is switched off
    │   │   └── GatedModelError               the hub requires a login or accepted terms
    │   ├── ChecksumError                     a download does not match its checksum
    │   └── ConversionError                   a download could not be converted or stored
    ├── GenerationError                       a run failed after it had started
    │   ├── NumericalError                    the model computed NaN, or no token can be sampled
    │   ├── ToolCallError                     a required tool call was not generated
    │   ├── OutOfMemoryError                  memory ran out during a step
    │   └── ShieldViolationError              a shield refused the prompt or a sentence of the answer
    ├── ShieldError                           a shield could not judge a message
    ├── TemplateProcessError                  the process that renders chat templates failed
    ├── StateError                            stored state, such as registrations, cannot be read or written
    ├── RemoteError                           a remote server failed, or refused the token
    │   ├── RemoteConnectionError             the server cannot be reached, or closed the connection early
    │   └── RemoteTimeoutError                the server did not answer in time
    ├── BusyError                             too many requests at once; try again later
    └── ClosedError                           the workbench, provider or model was closed

Messages name the field or the file, the value that was found, what is allowed, and what to do next.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal


class WorkbenchError(Exception):
    """Base class of all errors that the workbench raises. They can be copied and pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default the class would be called with the finished message as its only argument.
        return _restored, (type(self), self.args, {name: _portable(value) for name, value in self.__dict__.items()})


class InvalidRequestError(WorkbenchError, ValueError):
    """A request field has a value that is not allowed.

    Args:
        field: path of the field, for example ``sampling_params.top_p``.
        given: the invalid value.
        allowed: description of the allowed values, for example ``above 0 and at most 1``.
        in_form: message to show in a form, without the field's name.
    """

    def __init__(self, field: str, given: object, allowed: str, *, in_form: str | None = None) -> None:
        super().__init__(f"{field} must be {allowed}; got {shortened(given)}")
        self.field = field
        self.given = given
        self.allowed = allowed
        self.in_form = in_form


class ContextLengthError(InvalidRequestError):
    """The prompt fills or exceeds the model's context, which leaves no room to generate a token."""

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
    """A field that the provider does not support; ignoring it would change the answer."""


class NotRecordedError(InvalidRequestError):
    """The replayed trace has no such request; ``allowed`` has that field's value in the closest recorded request."""


class ConfigError(WorkbenchError, ValueError):
    """A run config is invalid; the message names the path of the key."""


class ResourceNotFoundError(WorkbenchError, LookupError):
    """No provider serves a resource of that name.

    Args:
        identifier: the requested name.
        served: the names of the resources that are served.
        silent: providers that could not list their resources, and why; one of them may serve it.
    """

    kind: ClassVar[str] = "resource"

    def __init__(self, identifier: str, served: Iterable[str], silent: Mapping[str, str] | None = None) -> None:
        self.identifier = identifier
        self.served = sorted(served)
        self.silent = dict(silent or {})
        names = ", ".join(self.served) if self.served else "none"
        unknown = "".join(f" Provider {provider_id} did not answer: {why}" for provider_id, why in self.silent.items())
        super().__init__(
            f"no {self.kind} {identifier!r} is served; served {self.kind}s: {names}."
            f" Register it first, or choose one.{unknown}"
        )


class ModelNotFoundError(ResourceNotFoundError):
    """No provider serves a model of that name."""

    kind = "model"


class ShieldNotFoundError(ResourceNotFoundError):
    """No provider runs a shield of that name."""

    kind = "shield"


class MemoryBankNotFoundError(ResourceNotFoundError):
    """No provider stores a memory bank of that name."""

    kind = "memory bank"


class ModelLoadError(WorkbenchError):
    """A model folder cannot be loaded."""


class ModelFormatError(ModelLoadError):
    """A model folder lacks a file, is damaged, or has an architecture that is not supported."""


class UnprovenModelError(ModelLoadError):
    """Decode steps differ from the model's forward pass over the whole text; the message shows the difference."""


class UnsafeModelError(ModelLoadError):
    """Loading would run code from the model's files: pickled weights or a custom modelling module."""


class InsufficientMemoryError(ModelLoadError):
    """The model does not fit in the memory of this machine or container."""


class CatalogError(WorkbenchError):
    """A model cannot be installed in the cache."""


class UnknownModelError(CatalogError, LookupError):
    """The name is neither a catalog entry, a local folder nor a hub repository."""


class DownloadError(CatalogError):
    """The package index or the hub did not deliver the files."""


class OfflineError(DownloadError):
    """The files are not on this machine, and the network is missing or switched off."""


class GatedModelError(DownloadError):
    """The hub provides the model only to accounts that accepted its terms."""


class ChecksumError(CatalogError):
    """A downloaded file does not match its checksum in the catalog."""


class ConversionError(CatalogError):
    """A downloaded model could not be converted or stored; the cache is unchanged."""


class GenerationError(WorkbenchError):
    """A run failed after it had started."""


class NumericalError(GenerationError):
    """The model computed NaN, or no token could be sampled."""


class ToolCallError(GenerationError):
    """``tool_choice`` was ``required``, but the answer ended without a complete call."""


class OutOfMemoryError(GenerationError):
    """Memory ran out during a step; the run's memory was freed."""


class ShieldViolationError(GenerationError):
    """A shield refused the prompt, before anything was computed, or a sentence of the answer, which was withheld.

    Args:
        shield: name of the shield, as the request gave it.
        violation: finding of the shield, a `SafetyViolation` of the level ``error``.
        where: ``prompt`` or ``answer``.
    """

    def __init__(self, shield: str, violation: Any, where: Literal["prompt", "answer"]) -> None:
        self.shield = shield
        self.violation = violation
        self.where: Literal["prompt", "answer"] = where
        thing, rest = ("message", "Nothing was generated") if where == "prompt" else ("answer", "The rest was withheld")
        self.in_form = f"Shield {shield} refused this {thing}: {violation.summary}. {rest}."
        kept = "nothing was generated" if where == "prompt" else "the text from the refused sentence on was withheld"
        super().__init__(f"shield {shield!r} refused the {where}: {violation.summary}; {kept}")


class ShieldError(WorkbenchError):
    """A shield could not judge a message, for example because its model gave no verdict; never read it as safe."""


class TemplateProcessError(WorkbenchError):
    """The process that renders chat templates could not start, or was ended by something other than a template."""


class StateError(WorkbenchError):
    """Stored state, such as registrations, cannot be read or written."""


class RemoteError(WorkbenchError):
    """A remote server failed, or its answer does not follow its API."""


class RemoteConnectionError(RemoteError):
    """The remote server cannot be reached, or closed the connection before its answer was complete."""


class RemoteTimeoutError(RemoteError):
    """The remote server did not answer within the time that the provider's config allows."""


class BusyError(WorkbenchError):
    """Too many requests at once; nothing was computed, so it is safe to try again later."""


class ClosedError(WorkbenchError):
    """The workbench, provider or model is closed."""


def _restored(kind: type[WorkbenchError], args: tuple[Any, ...], facts: dict[str, Any]) -> WorkbenchError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


def _portable(value: object) -> object:
    """Return the value, or its shortened ``repr`` if it cannot be pickled."""
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - a value's own pickling may raise anything
        return shortened(value)
    return value


def shortened(value: object, limit: int = 80) -> str:
    """Return the ``repr`` of a value, cut to ``limit`` characters."""
    try:
        text = repr(value) if not isinstance(value, str) or len(value) <= limit else repr(value[:limit])
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
