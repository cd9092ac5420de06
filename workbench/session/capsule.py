"""Replay capsules: a request, its answer, and everything that the answer depended on, as JSON to store.

A capsule's JSON has a format, a version and a seal for each of its fields, so that a field that was changed by accident
or by hand is refused by name. Seals are plain digests, not signatures: anyone can compute new ones.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag

from workbench import catalog
from workbench.errors import (
    InvalidRequestError,
    NotRecordedError,
    ShieldViolationError,
    UnsupportedFieldError,
    WorkbenchError,
)
from workbench.machine import processor, processor_features, thread_count
from workbench.paths import reason, typed_path, write_errors
from workbench.protocol import ChatCompletionRequest, CompletionRequest, RetrievedChunks, SamplingParams, StopReason
from workbench.session.capsule_parts import CapsuleMachine, CapsuleModel, CapsulePart, CapsuleToken, CapsuleViolation

if TYPE_CHECKING:
    from workbench.records import ModelCard, Prompt
    from workbench.session.run_protocols import RunLike

FORMAT: Final = "workbench-capsule"
VERSION: Final = 1
MIME_TYPE = "application/vnd.workbench.capsule+json"
"""MIME type of a capsule in a notebook cell's output."""

_PACKAGES = ("inference-workbench", "torch", "transformers", "tokenizers", "numba", "llvmlite", "numpy", "llguidance")
"""Packages whose version an answer may depend on."""
_SEAL_LENGTH = 16

_Id = Annotated[int, Field(ge=0, strict=True)]
_Request: TypeAlias = Annotated[
    Annotated[CompletionRequest, Tag("completion")] | Annotated[ChatCompletionRequest, Tag("chat_completion")],
    Discriminator(lambda body: "chat_completion" if _has_messages(body) else "completion"),
]


class Capsule(CapsulePart):
    """Everything that a run depended on, and its result. `Run.capsule` makes it and `workbench.replay` repeats it."""

    format: Literal["workbench-capsule"] = FORMAT
    version: Literal[1] = VERSION
    request: _Request
    """Request in the protocol's form: model, prompt or messages, sampling, tools and response format."""
    model: CapsuleModel
    machine: CapsuleMachine
    prompt_ids: list[_Id] | None
    """Token ids of the prompt; None if the provider does not report them."""
    tokens: list[CapsuleToken]
    """Generated tokens."""
    given: Annotated[int, Field(ge=0, strict=True)] = Field(default=0, exclude_if=lambda given: not given)
    """Number of leading tokens that were not generated: those kept from the run it branched from, and the one that
    was appended to them."""
    retrieved: RetrievedChunks | None = Field(default=None, exclude_if=lambda found: found is None)
    """Chunks in the context of the last message."""
    ended: Literal["finished", "cancelled", "failed"]
    stop_reason: StopReason | None
    violation: CapsuleViolation | None = Field(default=None, exclude_if=lambda violation: violation is None)
    """Refusal that ended the run; ``tokens`` are those before the refused sentence."""

    @property
    def token_ids(self) -> list[int]:
        """Ids of the generated tokens."""
        return [token.token_id for token in self.tokens]

    @property
    def sampling_params(self) -> SamplingParams:
        return self.request.sampling_params or SamplingParams()

    # ---------------------------------------------------------------------------------------------- as JSON

    def to_json(self) -> str:
        """Return the capsule as a JSON object with a seal for each field."""
        return json.dumps(self._sealed(), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes | Mapping[str, Any], *, allow_changed: bool = False) -> Self:
        """Return the capsule from the JSON that `to_json` wrote, or from a mapping.

        Args:
            allow_changed: accept a capsule that was changed since it was made, for example to try another seed.

        Raises:
            InvalidRequestError: it is not a capsule, is malformed or was changed; the error names the field.
        """
        data = dict(text) if isinstance(text, Mapping) else _object(text)
        _check_header(data)
        seals = data.pop("seals", None)
        capsule = cls.model_validate(data)
        if not allow_changed:
            _check_seals(data, seals)
        return capsule

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the capsule to a file. Raise `InvalidRequestError` if the file exists or cannot be written."""
        target = typed_path(path, "path")
        with write_errors(path), target.open("w" if overwrite else "x", encoding="utf-8", newline="\n") as file:
            file.write(self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path, *, allow_changed: bool = False) -> Self:
        """Return the capsule in a file. Raise as `from_json` does."""
        return cls.from_json(_text(path), allow_changed=allow_changed)

    @classmethod
    def in_notebook(cls, path: str | Path, *, allow_changed: bool = False) -> list[Self]:
        """Return the capsules in the outputs of a saved notebook, in order. Raise as `from_json` does."""
        found = []
        for location, data in _shown(_object(_text(path))):
            try:
                found.append(cls.from_json(data, allow_changed=allow_changed))
            except InvalidRequestError as error:
                raise InvalidRequestError(f"{location}.{error.field}", error.given, error.allowed) from None
        return found

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {"text/plain": repr(self), MIME_TYPE: self._sealed()}

    def _sealed(self) -> dict[str, Any]:
        data = self.model_dump(mode="json")
        return data | {"seals": {name: _seal(value) for name, value in data.items()}}

    def __repr__(self) -> str:
        """Leave out what differs between machines, so that a stored notebook stays the same."""
        facts = [f"{len(self.prompt_ids)} prompt tokens"] if self.prompt_ids is not None else []
        facts += [f"{len(self.tokens)} tokens", str(self.sampling_params.strategy)]
        facts += [f"seed {self.sampling_params.seed}"] if self.sampling_params.seed is not None else []
        facts += [self.ended] if self.ended != "finished" else []
        precision = f" in {self.model.precision}" if self.model.precision else ""
        return f"<Capsule of {self.request.model}{precision}: {', '.join(facts)}>"

    __str__ = __repr__


def capsule_of(run: RunLike, card: Callable[[str], ModelCard]) -> Capsule:
    """Return the capsule of a run that has ended.

    Args:
        card: returns the facts of the run's model.

    Raises:
        InvalidRequestError: the run has not ended yet.
        ModelNotFoundError, ClosedError: its model is no longer served, or the workbench is closed.
    """
    if not run.done:
        raise InvalidRequestError("capsule", run.state, "used after the run has ended: wait for its result()")
    body = run.request.body()
    if run.seed is not None:
        params = body.sampling_params or SamplingParams()
        body = body.model_copy(update={"sampling_params": params.model_copy(update={"seed": run.seed})})
    prompt = _prompt(run)
    prefix_ids = run.request.answer_prefix.token_ids if run.request.answer_prefix else ()
    return Capsule(
        request=body,
        model=_model(card(body.model), prompt),
        machine=_machine(),
        prompt_ids=None if prompt is None else [token.token_id for token in prompt.tokens],
        tokens=[
            CapsuleToken(token_id=token.token_id, text=token.text, logprob=_finite(token.logprob))
            for token in run.tokens
        ],
        given=min(len(prefix_ids), len(run.tokens)),
        retrieved=run.request.retrieved,
        ended=run.state,  # type: ignore[arg-type] # a run that is done has one of these
        stop_reason=run.stop_reason,
        violation=_violation(run.error),
    )


def _violation(error: BaseException | None) -> CapsuleViolation | None:
    if not isinstance(error, ShieldViolationError):
        return None
    return CapsuleViolation(shield=error.shield, where=error.where, violation=error.violation)


def _prompt(run: RunLike) -> Prompt | None:
    try:
        return run.render()
    except (UnsupportedFieldError, NotRecordedError):
        return None


def _model(card: ModelCard, prompt: Prompt | None) -> CapsuleModel:
    return CapsuleModel(
        provider_type=card.provider_type,
        source=catalog.served_name(card.source, "source"),
        precision=card.precision,
        device=card.device,
        decoder=card.decoder,
        template_sha256=prompt.template_sha256 if prompt else None,
        files=_files(card),
    )


def _files(card: ModelCard) -> dict[str, str]:
    if not card.provider_type.startswith("inline::"):
        return {}
    try:
        folders = catalog.resolve_folders(card.source, allow_download=False)
        adapter = {} if folders.adapter is None else catalog.file_digests(folders.adapter)
        digests = catalog.file_digests(folders.model)
        return digests | {f"adapter/{name}": digest for name, digest in adapter.items()}
    except (WorkbenchError, OSError):
        return {}


def _machine() -> CapsuleMachine:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return CapsuleMachine(
        threads=thread_count(), processor=processor(), features=list(processor_features()), versions=versions
    )


def _finite(logprob: float) -> float | None:
    return logprob if math.isfinite(logprob) else None


def _has_messages(body: object) -> bool:
    return isinstance(body, ChatCompletionRequest) or (isinstance(body, Mapping) and "messages" in body)


def _text(path: str | Path) -> str:
    try:
        return typed_path(path, "path").read_text(encoding="utf-8")
    except OSError as error:
        allowed = f"a readable file ({reason(error)})"
        raise InvalidRequestError("path", str(path), allowed) from None
    except UnicodeDecodeError:
        raise InvalidRequestError("path", str(path), "a UTF-8 text file") from None


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequestError("capsule", text, f"a JSON object ({error})") from None
    if not isinstance(data, dict):
        raise InvalidRequestError("capsule", data, "a JSON object")
    return data


def _check_header(data: dict[str, Any]) -> None:
    """Raise unless the data is a capsule of this version; checked first, for an error that says so."""
    if data.get("format") != FORMAT:
        raise InvalidRequestError("format", data.get("format"), f"{FORMAT!r}: this is not a capsule")
    if data.get("version") != VERSION:
        raise InvalidRequestError("version", data.get("version"), f"{VERSION}, the version that this workbench reads")


def _check_seals(data: dict[str, Any], seals: object) -> None:
    if not isinstance(seals, dict):
        raise InvalidRequestError("seals", seals, "the digests of the capsule's fields")
    for name, field in Capsule.model_fields.items():
        if name not in data and name not in seals and not field.is_required():
            continue
        if name not in data:
            raise InvalidRequestError(name, None, "given, because it is required")
        if seals.get(name) != _seal(data[name]):
            allowed = "unchanged since the capsule was made; allow_changed=True accepts the change"
            raise InvalidRequestError(name, data[name], allowed)


def _seal(value: object) -> str:
    """Return a digest of a JSON value that does not depend on white space or the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_SEAL_LENGTH]


def _shown(notebook: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the capsules in the outputs of a notebook, each with its location."""
    shown = []
    try:
        for cell_index, cell in enumerate(notebook["cells"]):
            for index, output in enumerate(cell.get("outputs", ())):
                if MIME_TYPE in output.get("data", {}):
                    shown.append((f"cells[{cell_index}].outputs[{index}]", output["data"][MIME_TYPE]))
    except (KeyError, TypeError, AttributeError):
        raise InvalidRequestError("path", "a file without cells", "a Jupyter notebook") from None
    return shown
