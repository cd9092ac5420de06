"""English prompts of any number of tokens, different in every round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_PASSAGE = (
    "The river had carried the valley's timber for two hundred years before anyone thought to measure it. When the "
    "first gauge was set into the bridge, in the spring of 1887, the keeper wrote down a number each morning and sent "
    "the page to the city at the end of the month. Nobody there read it. The pages were tied in bundles, the bundles "
    "went into a cupboard, and the cupboard was forgotten until a flood took the bridge away. Then somebody asked how "
    "high the water usually stood, and it turned out that the answer had been collected all along, in a careful hand, "
    "by three generations of one family. What they had not written down was why some days were missing. "
)

QUESTIONS = (
    "Why is the sky blue?",
    "Write a short story about a fox who learns to read.",
    "Explain how bread is made, step by step.",
    "What is gravity, and who described it first?",
    "Give me five ideas for a rainy afternoon.",
    "How does a bicycle stay upright?",
    "Write a letter to a friend about a journey by train.",
    "What is the difference between weather and climate?",
)

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of one round; each differs from all others in its first tokens, so that no cache has it."""

    encode: Encode
    serial: str

    def take(self, tokens: int, label: str = "") -> list[int]:
        """Return exactly ``tokens`` token ids; equal arguments give equal ids."""
        text = f"{label}{self.serial}. "
        while len(token_ids := self.encode(text)) < tokens:
            text += _PASSAGE
        return token_ids[:tokens]


def mixed_texts(count: int) -> list[str]:
    """Return texts of 1 to 200 words, in an order that mixes long and short ones."""
    words = _PASSAGE.split() * 2
    return [" ".join(words[: 1 + (index * 37) % 200]) for index in range(count)]
