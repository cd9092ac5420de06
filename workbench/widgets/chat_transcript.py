"""A chat's conversation with the runs of its answers, and the versions of what followed each turn of the user.

A version is everything that was said after a turn of the user: the answer, calls with their results, and later turns.
One version of each turn is part of the conversation; the others are kept to be chosen again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import InvalidRequestError
from workbench.protocol import CompletionMessage, UserMessage
from workbench.widgets.contract import ConversationLike, RunLike


@dataclass(frozen=True, slots=True)
class Tail:
    """The last turns of a chat, to be put back with `Transcript.restore`."""

    turns: Any
    """As the conversation gives them and takes them back."""
    runs: list[RunLike]
    versions: dict[int, Versions]


@dataclass(slots=True)
class Versions:
    """The versions of what followed one turn of the user, oldest first; None stands for the current one."""

    tails: list[Tail | None]
    current: int


@dataclass(slots=True)
class Transcript:
    """What a chat shows: the conversation, the run of each of its answers, and the calls that are being run."""

    conversation: ConversationLike
    runs: list[RunLike] = field(default_factory=list)
    """Of the answers among the conversation's turns, in order."""
    pending: RunLike | None = None
    """A run whose answer is no turn yet, or never will be: it goes on, or it failed."""
    calling: Collection[int] = ()
    versions: dict[int, Versions] = field(default_factory=dict)
    """By the place of the user's turn among the conversation's; only turns with more than one version."""

    @property
    def questions(self) -> list[int]:
        """Places of the user's turns among the conversation's."""
        return [place for place, turn in enumerate(self.conversation.turns) if isinstance(turn, UserMessage)]

    @property
    def answers(self) -> list[int]:
        """Places of the answers among the conversation's turns."""
        return [place for place, turn in enumerate(self.conversation.turns) if isinstance(turn, CompletionMessage)]

    def tail(self, turn: int) -> Tail:
        """Return what stands from a turn on, by its place."""
        before = sum(place < turn for place in self.answers)
        versions = {place: kept for place, kept in self.versions.items() if place >= turn}
        return Tail(self.conversation.tail(turn), self.runs[before:], versions)

    def rewind(self, turn: int) -> None:
        """Remove a turn, by its place, and all that came after it."""
        self.conversation.rewind(turn)
        self.pending = None
        del self.runs[len(self.answers) :]
        self.versions = {place: kept for place, kept in self.versions.items() if place < turn}

    def restore(self, tail: Tail) -> None:
        """Put turns that were removed back where they stood."""
        self.conversation.restore(tail.turns)
        self.runs += tail.runs
        self.versions |= tail.versions

    def begin_version(self, turn: int) -> None:
        """Keep a copy of what followed a turn of the user; what follows it from now on is another version.

        Nothing is kept where nothing followed, as after an answer that failed.
        """
        tail = self.tail(turn + 1)
        if tail.runs:
            kept = self.versions.setdefault(turn, Versions([None], 0))
            kept.tails[kept.current] = tail
            kept.current = len(kept.tails)
            kept.tails.append(None)

    def choose_version(self, turn: int, version: int) -> None:
        """Go on with another version of what followed a turn of the user; an empty one is dropped.

        Raises:
            InvalidRequestError: there is no such version.
        """
        kept = self.versions.get(turn, Versions([None], 0))
        if version not in range(1, len(kept.tails) + 1):
            raise InvalidRequestError("version", version, f"a number from 1 to {len(kept.tails)}")
        chosen = kept.tails[version - 1]
        if chosen is None:
            return
        left = self.tail(turn + 1)
        kept.tails[kept.current] = left
        self.rewind(turn + 1)
        self.restore(chosen)
        kept.tails[version - 1] = None
        kept.tails = [tail for tail in kept.tails if tail is None or tail.runs]
        kept.current = kept.tails.index(None)
        if len(kept.tails) == 1:
            del self.versions[turn]

    def give_up_version(self, turn: int) -> None:
        """Go back to the latest other version of a turn without an answer, where there is one."""
        kept = self.versions.get(turn)
        if kept is not None and not self.tail(turn + 1).runs:
            self.choose_version(turn, max(kept.current, 1))
