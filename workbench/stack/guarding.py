"""Shields around a chat: the prompt is checked before any compute, and the answer sentence by sentence.

No emission leaves before every shield has passed the sentences that it is part of. The model is read no further while
a sentence is judged, and its generator is closed as soon as one is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Literal

from workbench.errors import ShieldViolationError, WorkbenchError
from workbench.protocol import CompletionMessage, SafetyViolation, StopReason, ViolationLevel
from workbench.providers.protocol_methods import gathered
from workbench.providers.streams import closed_after
from workbench.stack.withholding import Sentence, WithheldEmissions

if TYPE_CHECKING:
    from workbench.protocol import Message, Safety
    from workbench.records import Emission

_JUDGED_ROLES = ("user", "ipython")
"""Roles of the messages in a prompt that are judged; the others are the operator's and the model's."""


class Guard:
    """Shields of one request; each call judges with all of them at once.

    Raises:
        ShieldViolationError: a shield found a violation of the level ``error``; if several did, the first in order.
        ShieldError: a shield has no verdict.
    """

    def __init__(self, safety: Safety, shields: Sequence[str], messages: Sequence[Message]) -> None:
        self._prompt_notes: tuple[str, ...] = ()
        self._answer_notes: tuple[str, ...] = ()
        self._safety = safety
        self._shields = shields
        self._messages = list(messages)

    @property
    def notes(self) -> tuple[str, ...]:
        """Violations of lower levels, in words: those of the prompt, and those of the answer as it was judged last."""
        return self._prompt_notes + self._answer_notes

    async def check_prompt(self) -> None:
        """Judge each message of a user or a tool, in the context of those before it."""
        for index, message in enumerate(self._messages):
            if message.role in _JUDGED_ROLES:
                notes = await self._check(self._messages[: index + 1], "prompt")
                self._prompt_notes += tuple(note for note in notes if note not in self._prompt_notes)

    async def check_answer(self, text: str) -> None:
        """Judge the answer so far, in the context of the conversation; its last sentence is the new one."""
        # An answer that has not ended has no stop reason of its own.
        answer = CompletionMessage(content=text, stop_reason=StopReason.out_of_tokens)
        self._answer_notes = await self._check([*self._messages, answer], "answer")

    async def _check(self, messages: list[Message], where: Literal["prompt", "answer"]) -> tuple[str, ...]:
        notes = []
        responses = await gathered([self._safety.run_shield(shield, messages) for shield in self._shields])
        for shield, response in zip(self._shields, responses, strict=True):
            if response.violation is None:
                continue
            violation = _without_quotes(response.violation) if where == "answer" else response.violation
            if violation.violation_level is ViolationLevel.error:
                raise ShieldViolationError(shield, violation, where)
            notes.append(f"shield {shield} ({violation.violation_level}): {violation.summary}, in the {where}")
        return tuple(notes)


async def guarded(guard: Guard, generate: Callable[[], AsyncIterator[Emission]]) -> AsyncIterator[Emission]:
    """Yield the emissions of an answer as far as the shields pass it.

    Args:
        generate: starts the answer; called after the prompt has passed.

    Raises:
        ShieldViolationError, ShieldError: as `Guard` does, after the last emission before the refused sentence.
    """
    await guard.check_prompt()
    withheld = WithheldEmissions()
    emissions = generate()
    refusal: WorkbenchError | None = None
    async with closed_after(emissions):
        async for emission in emissions:
            refusal = await _refusal(guard, withheld, withheld.add(emission))
            if refusal is not None:
                break
            for passed in withheld.passed(guard.notes):
                yield passed
    refusal = refusal or await _refusal(guard, withheld, withheld.end())
    for passed in withheld.passed(guard.notes):
        yield passed
    if refusal is not None:
        for passed in withheld.before_refusal(guard.notes):
            yield passed
        raise refusal.with_traceback(None)  # its frames refer to the refused sentence


async def _refusal(guard: Guard, withheld: WithheldEmissions, sentences: Sequence[Sentence]) -> WorkbenchError | None:
    """Judge new sentences up to the first that is refused; return the error of that one."""
    for sentence in sentences:
        try:
            if sentence.text.strip():
                await guard.check_answer(withheld.text + sentence.text)
        except WorkbenchError as error:
            return error
        withheld.let_pass(sentence)
    return None


def _without_quotes(violation: SafetyViolation) -> SafetyViolation:
    """Return a violation of an answer without the texts of its metadata, which may quote the refused sentence."""
    metadata = {
        name: value
        for name, value in violation.metadata.items()
        if isinstance(value, bool | int | float) or name in ("category", "name")
    }
    return violation.model_copy(update={"metadata": metadata})
