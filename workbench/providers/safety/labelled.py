"""Short messages labelled with their hazard category, to choose thresholds with and to measure shields on.

Half of the messages of each label, those whose SHA-256 digests come first, are the test half. Nothing is fitted to
them and no threshold is chosen with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

SAFE = "safe"
"""Label of harmless messages."""

_FILE = "labelled_messages.tsv"


@dataclass(frozen=True, slots=True)
class LabelledMessage:
    """Text of a message, and what is right to find in it."""

    text: str
    category: str
    """Code of its hazard category, or `SAFE`."""


@cache
def labelled_messages(half: str) -> tuple[LabelledMessage, ...]:
    """Return the messages of one half, ``train`` or ``test``."""
    return tuple(
        LabelledMessage(text, category)
        for category, of_half, text in read_table("workbench.providers.safety", _FILE)
        if of_half == half
    )


def read_table(package: str, name: str) -> Iterator[list[str]]:
    """Yield the rows of a tab-separated file of a package, without its header."""
    lines = (resources.files(package) / name).read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        yield line.split("\t")
