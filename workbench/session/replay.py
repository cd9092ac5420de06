"""Repeating a run from its capsule, and reporting where and why the new answer differs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.analysis.distributions import Position, first_difference, identities
from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingStrategy
from workbench.protocol.sampling import effective_strategy
from workbench.providers.requests import Request
from workbench.records import AnswerPrefix
from workbench.session.capsule import Capsule
from workbench.session.capsule_parts import CapsuleToken

if TYPE_CHECKING:
    from workbench.session.run import Run
    from workbench.session.workbench import Workbench

_REASONS = {
    "model.provider_type": "another program computed the answer",
    "model.source": "it is another model",
    "model.precision": "weights and sums are rounded differently",
    "model.decoder": "sums are rounded differently",
    "model.device": "sums are rounded differently",
    "model.template_sha256": "the prompt is rendered differently",
    "model.files": "the model's files changed",
    "machine.threads": "sums may be split and rounded differently",
    "machine.processor": "other kernels may round differently",
    "machine.features": "other kernels are used, which round differently",
    "machine.versions": "it may compute differently",
    "violation": "the shield, or the model that it judges with, has changed",
}
"""Reasons why an answer may differ, by the field that has changed."""

_UNEXPLAINED = (
    "nothing recorded in the capsule has changed: "
    "either the capsule itself was changed, or the provider is not deterministic"
)


@dataclass(frozen=True, slots=True)
class Change:
    """A changed condition that the answer may depend on."""

    field: str
    """Path of the capsule's field, for example ``machine.versions.torch``."""
    then: object
    now: object

    def __str__(self) -> str:
        reason = next((words for name, words in _REASONS.items() if self.field.startswith(name)), "")
        return f"{self.field} was {_short(self.then)} and is {_short(self.now)}: {reason}"


@dataclass(frozen=True, slots=True)
class Replay:
    """Result of `replay`."""

    capsule: Capsule
    """The replayed capsule."""
    again: Capsule
    """Capsule of the new run."""
    run: Run[Any, Any] = field(repr=False)
    where: Literal["prompt", "answer"] | None
    """Where the first difference is; None if all token ids are the same."""
    position: int | None
    """Position of the first token that differs, from 0; None if all token ids are the same."""

    @property
    def same(self) -> bool:
        """Whether the prompt and the answer have the same token ids."""
        return self.position is None

    @property
    def changes(self) -> tuple[Change, ...]:
        """Conditions that have changed, whether or not the token ids are the same."""
        pairs = zip(_circumstances(self.capsule), _circumstances(self.again), strict=True)
        return tuple(
            Change(f"{name}.{key}" if key else name, then.get(key), now.get(key))
            for (name, then), (_, now) in pairs
            for key in sorted(then | now)
            if then.get(key) != now.get(key) and not (name == "model.decoder" and then[key] is None)  # an older capsule
        )

    @property
    def drift(self) -> float | None:
        """Largest difference between the logprobs of the answers' common tokens, in nats; None if unknown."""
        pairs = zip(self.capsule.tokens[: self._common], self.again.tokens, strict=False)
        known = [abs(a.logprob - b.logprob) for a, b in pairs if a.logprob is not None and b.logprob is not None]
        return max(known, default=None)

    @property
    def _common(self) -> int:
        """Number of leading tokens that both answers share."""
        if self.where == "answer" and self.position is not None:
            return self.position
        return 0 if self.where == "prompt" else len(self.capsule.tokens)

    def __repr__(self) -> str:
        """Describe where the answers differ, and the possible reasons."""
        head = self._same() if self.same else self._different()
        return "\n".join([head, *(f"- {change}" for change in self.changes)])

    def _same(self) -> str:
        counted = f"the same {len(self.capsule.tokens)} tokens"
        return f"{counted}, although conditions have changed:" if self.changes else counted

    def _different(self) -> str:
        lines = [f"the first difference is at position {self.position} of the {self.where}, counted from 0"]
        if self.where == "prompt":
            then, now = (_at(one.prompt_ids or [], self.position) for one in (self.capsule, self.again))
            lines += [f"it was {_numbered(then)} and is {_numbered(now)}"]
        else:
            then, now = (_at(one.tokens, self.position) for one in (self.capsule, self.again))
            lines += [f"it was {_named(then)} and is {_named(now)}", *self._evidence(then)]
        lines.append("possible reasons:" if self.changes else _UNEXPLAINED)
        return "\n".join(lines)

    def _evidence(self, then: CapsuleToken | None) -> list[str]:
        lines = []
        if self.drift is not None:
            before = "token" if self._common == 1 else f"{self._common} tokens"
            lines.append(f"the logprobs of the {before} before it differ by at most {self.drift:.2g} nats")
        if self.position is not None and self.position < len(self.run.tokens):
            lines.append(Position(self.run, self.position).table([then.token_id] if then else []))
        return lines


def replay(
    capsule: Capsule | Mapping[str, Any] | str | Path,
    bench: Workbench | None = None,
    *,
    model: str | None = None,
    timeout: float | None = None,
) -> Replay:
    """Run a capsule's request again and compare the results; block until the run has ended.

    Args:
        capsule: a `Capsule`, the path of a saved one, or its JSON as a mapping.
        bench: workbench to use; None opens the default one and closes it again.
        model: model to use instead of the capsule's, for example if it is served under another name.
        timeout: maximum duration of the run in seconds.

    Raises:
        InvalidRequestError: the capsule is malformed, was changed, or lacks the seed that it was sampled with.
        ModelNotFoundError: the model is not served.
        TimeoutError: the run took too long and was cancelled.
        WorkbenchError: the error that the run failed with, unless the original run failed too.
    """
    original = _capsule(capsule)
    _check_seed(original)
    if bench is None:
        from workbench.session.workbench import Workbench

        with Workbench() as own:
            return replay(original, own, model=model, timeout=timeout)
    run = _started(original, bench, model)
    if not run.wait(timeout):
        run.cancel()
        raise TimeoutError(f"the run took longer than {timeout:g} s and was cancelled")
    if run.error is not None and original.ended != "failed":
        raise run.error
    return _compared(original, run)


def _capsule(given: object) -> Capsule:
    if isinstance(given, Capsule):
        return given
    if isinstance(given, Mapping):
        return Capsule.from_json(given)
    if isinstance(given, str | Path):
        return Capsule.load(given)
    raise InvalidRequestError("capsule", given, "a Capsule, the path of a saved one, or its JSON as a mapping")


def _check_seed(capsule: Capsule) -> None:
    params = capsule.sampling_params
    if params.seed is None and effective_strategy(params) is not SamplingStrategy.greedy:
        allowed = "given in the request if the provider does not report the seed it used"
        raise InvalidRequestError("request.sampling_params.seed", None, allowed)


def _started(capsule: Capsule, bench: Workbench, model: str | None) -> Run[Any, Any]:
    body = capsule.request.model_copy(update={"sampling_params": capsule.sampling_params})
    request = Request.from_body(body if model is None else body.model_copy(update={"model": model}))
    request = replace(request, retrieved=capsule.retrieved)
    if capsule.given:
        request = replace(request, answer_prefix=AnswerPrefix(given_ids=tuple(capsule.token_ids[: capsule.given])))
    return bench.start(request)


def _compared(capsule: Capsule, run: Run[Any, Any]) -> Replay:
    again = run.capsule
    if capsule.prompt_ids is not None and again.prompt_ids is not None:
        at = first_difference(capsule.prompt_ids, again.prompt_ids)
        if at is not None:
            return Replay(capsule, again, run, "prompt", at)
    then, now = identities(capsule.tokens), identities(again.tokens)
    # A run that was stopped early has no end to compare.
    at = first_difference(then, now if capsule.ended == "finished" else now[: len(then)])
    return Replay(capsule, again, run, None if at is None else "answer", at)


def _circumstances(capsule: Capsule) -> list[tuple[str, dict[str, Any]]]:
    """Return the conditions that an answer may depend on besides the request, as tables by name."""
    parts = {"model": capsule.model, "machine": capsule.machine}
    plain = {f"{part}.{name}": value for part, record in parts.items() for name, value in record}
    plain["violation"] = _refusal(capsule)
    return [(name, value if isinstance(value, dict) else {"": value}) for name, value in plain.items()]


def _refusal(capsule: Capsule) -> str | None:
    """Return who refused what, in words; not the probability, which may be rounded differently."""
    if (refused := capsule.violation) is None:
        return None
    category = refused.violation.metadata.get("category")
    return f"{refused.shield} refused the {refused.where}" + ("" if category is None else f" ({category})")


def _at(items: list[Any], position: int | None) -> Any:
    return items[position] if position is not None and position < len(items) else None


def _numbered(token_id: int | None) -> str:
    """Describe a token of a prompt, of which a capsule stores only the id."""
    return "the end" if token_id is None else f"token {token_id}"


def _named(token: CapsuleToken | None) -> str:
    if token is None:
        return "the end"
    probability = f", probability {math.exp(token.logprob):.4f}" if token.logprob is not None else ""
    return f"{token.text!r} (token {token.token_id}{probability})"


def _short(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:12]}..."
