"""The rounds of the prediction game: their choices, bets and costs in bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.errors import InvalidRequestError
from workbench.records import Score, TokenRecord

_TOO_EASY = 0.9
"""Maximum probability of the most probable candidate in a round; above it there is nothing to guess."""
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Round:
    """One token to predict, with a few alternatives."""

    position: int
    """Position of the token in the score."""
    context: str
    """The text before it."""
    choices: tuple[str, ...]
    """The most probable words, including the one that came, in alphabetical order, which reveals nothing."""
    came: int
    """Index of the one that came."""
    model: tuple[float, ...]
    """The model's probability of each choice, scaled to add up to 1 as the player's bet does."""
    bet: tuple[float, ...] | None = None
    """The player's probability of each choice; None before the bet."""

    @property
    def bits(self) -> float | None:
        """Cost of the bet: minus log2 of the probability given to the token that came; None before the bet."""
        return None if self.bet is None else -math.log2(self.bet[self.came])

    @property
    def model_bits(self) -> float:
        return -math.log2(self.model[self.came])

    @property
    def even_bits(self) -> float:
        """Cost of giving every choice the same probability."""
        return math.log2(len(self.choices))

    def spread(self, choice: str | int, confidence: float) -> tuple[float, ...]:
        """Return a bet of ``confidence`` on one choice, with the rest spread evenly over the others.

        Raises:
            InvalidRequestError: there is no such choice, or the confidence is not between 0 and 1.
        """
        at = self._index(choice)
        if not (_is_number(confidence) and 0 < confidence < 1):
            allowed = "a number above 0 and below 1, because a bet on certainty could cost infinitely many bits"
            raise InvalidRequestError("confidence", confidence, allowed)
        others = (1 - confidence) / (len(self.choices) - 1)
        return tuple(confidence if index == at else others for index in range(len(self.choices)))

    def with_bet(self, probabilities: Sequence[float]) -> Round:
        """Return the round with a bet.

        Raises:
            InvalidRequestError: it is not a distribution over the choices, or gives one of them no probability.
        """
        bet = tuple(float(share) if _is_number(share) else math.nan for share in probabilities)
        allowed = f"{len(self.choices)} numbers above 0 that add up to 1, in the order of the choices"
        if len(bet) != len(self.choices) or not all(share > 0 for share in bet):
            raise InvalidRequestError("probabilities", probabilities, allowed)
        if abs(math.fsum(bet) - 1) > _TOLERANCE:
            raise InvalidRequestError("probabilities", probabilities, f"{allowed}; they add up to {math.fsum(bet):.4g}")
        return replace(self, bet=bet)

    def _index(self, choice: str | int) -> int:
        if isinstance(choice, str) and choice in self.choices:
            return self.choices.index(choice)
        is_index = isinstance(choice, int) and not isinstance(choice, bool)
        if is_index and 0 <= int(choice) < len(self.choices):
            return int(choice)
        raise InvalidRequestError("choice", choice, f"one of {', '.join(map(repr, self.choices))}, or its index from 0")


def rounds_of(score: Score, prompt: str, *, most: int, choices: int) -> list[Round]:
    """Return the first ``most`` rounds of a scored text, one for each token that is worth a guess.

    Tokens that are nearly certain, have no letters or digits, or are parts of words are left out. So are tokens that
    are not among the model's most probable ones: adding one to the choices would reveal it.
    """
    if not any(token.alternatives for token in score.tokens):
        allowed = "one made with logprobs=LogProbConfig(top_k=...), so that there are alternatives to choose from"
        raise InvalidRequestError("score", "a score without alternatives", allowed)
    rounds: list[Round] = []
    before = prompt.encode()
    for at, token in enumerate(score.tokens):
        following = score.tokens[at + 1].text if at + 1 < len(score.tokens) else " "
        if len(rounds) < most and _is_word(token.text) and not following[:1].isalnum():
            rounds += _round(token, before.decode(errors="replace"), choices)
        before += token.bytes
    if not rounds:
        raise InvalidRequestError("score", score.text, "a text with a whole word that the model was not sure of")
    return rounds


def _round(token: TokenRecord, context: str, choices: int) -> list[Round]:
    found = {token.text: token.probability}
    for other in token.alternatives:
        if _is_word(other.text):
            found.setdefault(other.text, other.probability)
    likeliest = sorted(found, key=lambda text: -found[text])[:choices]
    whole = math.fsum(found[text] for text in likeliest)
    if token.text not in likeliest or len(likeliest) < choices or found[likeliest[0]] > _TOO_EASY * whole:
        return []
    texts = sorted(likeliest, key=lambda text: (text.strip().casefold(), text))
    model = tuple(found[text] / whole for text in texts)
    return [Round(token.position, context, tuple(texts), texts.index(token.text), model)]


def _is_word(text: str) -> bool:
    """Return whether a token is a word with the space before it."""
    return text[:1].isspace() and text.strip().isalnum()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
