"""What the caches of decoders over a `BlockStructure` know of their sequence, beside its keys and values.

Models with two versions of their rotary angles, those of short and those of long texts, need all tokens: keys of a text
that grows beyond the border between them are computed again. Here the length of the whole text decides, as it does in
`length_scaling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.engine.block_structure import BlockStructure

if TYPE_CHECKING:
    from workbench.engine.insides.taps import Taps


class SequenceState:
    """Length of a sequence, and the version of its angles; the base of a cache."""

    def __init__(self) -> None:
        self.length = 0
        self.token_ids: list[int] = []
        """The tokens, if the angles of rotary positions depend on the length of the text."""
        self.expected_length = 0
        """Length of the text that is being prefilled, if it is known before the end."""
        self.rotary_version = 0
        """Version of the angles that the keys were computed with."""
        self.taps: Taps | None = None
        """What is read and changed while the sequence is computed."""

    def take_state(self, other: SequenceState, length: int) -> None:
        """Become the state of the first tokens of another sequence."""
        self.length = length
        self.token_ids = other.token_ids[:length]
        self.rotary_version = other.rotary_version

    def advance(self, structure: BlockStructure, token_ids: Sequence[int]) -> None:
        """Count tokens whose keys and values have been written."""
        self.length += len(token_ids)
        if structure.rotary_border:
            self.token_ids += token_ids

    def version_with(self, structure: BlockStructure, count: int) -> int:
        """Return the version of the angles with ``count`` more tokens; keys in another one have to be recomputed."""
        border = structure.rotary_border
        return int(border > 0 and max(self.expected_length, self.length + count) > border)

    def split(self, structure: BlockStructure, token_ids: Sequence[int]) -> list[Sequence[int]]:
        """Return new tokens in one or two parts, each of which has the same version of the angles."""
        first = structure.rotary_border - self.length
        if 0 < first < len(token_ids) and self.expected_length <= structure.rotary_border:
            return [token_ids[:first], token_ids[first:]]
        return [token_ids]
