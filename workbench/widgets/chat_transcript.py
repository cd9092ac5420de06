"""A chat's conversation with the runs of its answers, and the versions of what followed each user message.

A version is everything that was said after a user message: the answer, calls with their results, and later turns. One
version of each message is part of the conversation; the others can be chosen again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import InvalidRequestError
from workbench.protocol import CompletionMessage, UserMessage
from workbench.widgets.contract import ConversationLike, RunLike


@dataclass(frozen=True, slots=True)
class Tail:
    """The last turns of a chat, which `Transcript.restore` puts back."""

    turns: Any
    """Return value of the conversation's ``tail``."""
    runs: list[RunLike]
    versions: dict[int, Versions]


@dataclass(slots=True)
class Versions:
    """The versions of what followed one user message, oldest first; None stands for the current one."""

    tails: list[Tail | None]
    current: int


@dataclass(slots=True)
class Transcript:
    """Everything that a chat shows: the conversation, the runs of its answers, and the calls that are running.

    A turn is identified by its index among the conversation's turns.
    """

    conversation: ConversationLike
    runs: list[RunLike] = field(default_factory=list)
    """Runs of the answers among the conversation's turns, in order."""
    pending: RunLike | None = None
    """A run whose answer is no turn, because it has not ended or has failed."""
    calling: Collection[int] = ()
    """Indexes of the calls of the last answer that are running."""
    versions: dict[int, Versions] = field(default_factory=dict)
    """Versions by the index of the user message; only messages with more than one."""
    cleared: Tail | None = None
    """The chat that `clear` removed; None once an answer has started."""

    @property
    def questions(self) -> list[int]:
        """Indexes of the user messages."""
        return [index for index, turn in enumerate(self.conversation.turns) if isinstance(turn, UserMessage)]

    @property
    def answers(self) -> list[int]:
        """Indexes of the answers."""
        return [index for index, turn in enumerate(self.conversation.turns) if isinstance(turn, CompletionMessage)]

    @property
    def latest_run(self) -> RunLike | None:
        """The pending run, or the run of the last answer; None before the first."""
        return next(reversed(self.runs), None) if self.pending is None else self.pending

    def question(self, turn: int | None) -> int:
        """Return the index of a user message; None is the last one.

        Raises:
            InvalidRequestError: there is no such message.
        """
        questions = self.questions
        chosen = questions[-1] if turn is None and questions else turn
        if chosen is None or chosen not in questions:
            raise InvalidRequestError("turn", turn, f"the index of a user message: {questions or 'there is none'}")
        return chosen

    def run(self, run_id: str) -> RunLike:
        """Return the run of an answer by its id.

        Raises:
            InvalidRequestError: there is no such answer.
        """
        found = next((run for run in self.runs if run.id == run_id), None)
        if found is None:
            known = ", ".join(run.id for run in self.runs) or "there are none yet"
            raise InvalidRequestError("run_id", run_id, f"the id of an answer: {known}")
        return found

    def decline_open_calls(self) -> None:
        """Decline every call of the last answer that has no result."""
        for index in self.conversation.open_calls:
            self.conversation.decline(index)

    def tail(self, turn: int) -> Tail:
        """Return a turn and all later ones."""
        before = sum(index < turn for index in self.answers)
        versions = {index: stored for index, stored in self.versions.items() if index >= turn}
        return Tail(self.conversation.tail(turn), self.runs[before:], versions)

    def rewind(self, turn: int) -> None:
        """Remove a turn and all later ones."""
        self.conversation.rewind(turn)
        self.pending = None
        del self.runs[len(self.answers) :]
        self.versions = {index: stored for index, stored in self.versions.items() if index < turn}

    def restore(self, tail: Tail) -> None:
        """Put removed turns back at the end."""
        self.conversation.restore(tail.turns)
        self.runs += tail.runs
        self.versions |= tail.versions

    @contextmanager
    def replacing(self, turn: int) -> Iterator[None]:
        """Remove a turn and all later ones; restore them if the block raises. Open calls are declined."""
        self.decline_open_calls()
        removed = self.tail(turn)
        self.rewind(turn)
        try:
            yield
        except Exception:
            self.rewind(turn)
            self.restore(removed)
            raise

    def clear(self) -> None:
        """Remove all turns; `undo_clear` restores them. Open calls are declined."""
        self.decline_open_calls()
        self.cleared = self.tail(0)
        self.rewind(0)

    def undo_clear(self) -> None:
        """Restore the turns that `clear` removed.

        Raises:
            InvalidRequestError: nothing was removed, or an answer has started since.
        """
        if self.cleared is None:
            raise InvalidRequestError(
                "new_chat",
                "nothing to undo",
                "undone before the next message",
                in_form="There is no previous chat to restore.",
            )
        self.rewind(0)  # removes a message whose answer could not start
        self.restore(self.cleared)
        self.cleared = None

    @contextmanager
    def new_version(self, turn: int) -> Iterator[None]:
        """Begin another version after a user message; choose the latest one again if the block raises."""
        self.decline_open_calls()
        self._begin_version(turn)
        self.rewind(turn + 1)
        try:
            yield
        except Exception:
            self._drop_version(turn)
            raise

    def choose_version(self, turn: int, version: int) -> None:
        """Switch to another version of what followed a user message; an empty one is dropped.

        Raises:
            InvalidRequestError: there is no such version.
        """
        stored = self.versions.get(turn, Versions([None], 0))
        if version not in range(1, len(stored.tails) + 1):
            raise InvalidRequestError("version", version, f"a number from 1 to {len(stored.tails)}")
        chosen = stored.tails[version - 1]
        if chosen is None:
            return
        left = self.tail(turn + 1)
        stored.tails[stored.current] = left
        self.rewind(turn + 1)
        self.restore(chosen)
        stored.tails[version - 1] = None
        stored.tails = [tail for tail in stored.tails if tail is None or tail.runs]
        stored.current = stored.tails.index(None)
        if len(stored.tails) == 1:
            del self.versions[turn]

    def drop_unanswered_version(self) -> None:
        """Choose the latest other version of the last user message if its current one has no answer."""
        for turn in self.questions[-1:]:
            self._drop_version(turn)

    def adopt(self, branch: RunLike) -> bool:
        """Continue with a branch of an answer, which stays as another version; return whether it is such a branch.

        Open calls are declined.
        """
        known = [*self.runs, *([] if self.pending is None else [self.pending])]
        if branch in known or branch.parent not in known:
            return False
        index = known.index(branch.parent)
        self.decline_open_calls()
        if index < len(self.runs):
            answer = self.answers[index]
            self._begin_version(max(turn for turn in self.questions if turn < answer))
            self.rewind(answer)
        self.pending = branch
        return True

    def _begin_version(self, turn: int) -> None:
        """Keep what followed a user message as a version, unless no answer followed, as after one that failed."""
        tail = self.tail(turn + 1)
        if tail.runs:
            stored = self.versions.setdefault(turn, Versions([None], 0))
            stored.tails[stored.current] = tail
            stored.current = len(stored.tails)
            stored.tails.append(None)

    def _drop_version(self, turn: int) -> None:
        stored = self.versions.get(turn)
        if stored is not None and not self.tail(turn + 1).runs:
            self.choose_version(turn, max(stored.current, 1))
