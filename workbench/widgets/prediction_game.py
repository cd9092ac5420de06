"""The prediction game: bet a distribution over the next token, and pay the surprisal of the token that comes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import InvalidRequestError, WorkbenchError
from workbench.protocol.sampling import is_count
from workbench.records import Score
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, WorkbenchWidget
from workbench.widgets.format import fixed, percent, visible
from workbench.widgets.html.twins import code, document, line, prompt_block
from workbench.widgets.prediction_rounds import Round, rounds_of
from workbench.widgets.wire.run import error_text

if TYPE_CHECKING:
    import pandas as pd

_MOST_CHOICES = 9
"""Maximum number of choices, which is the number of digit keys."""


class PredictionGame(WorkbenchWidget):
    """A game against the model: bet on the next word of a text, and pay in bits for the one that comes.

    Args:
        score: the score of the text to guess, made with alternatives:
            ``bench.score(prompt, [text], logprobs=wb.LogProbConfig(top_k=12))[0]``.
        prompt: the text before it, shown from the start.
        rounds: the maximum number of rounds.
        choices: number of choices in each round, 2 to 9.
    """

    _esm = module_source("prediction_game")
    _css = style_source("prediction_game")
    _twin_shows = ("page",)

    page = traitlets.Dict(help="The round shown and the totals so far.").tag(sync=True)

    def __init__(self, score: Score, prompt: str = "", *, rounds: int = 8, choices: int = 4) -> None:
        if not isinstance(score, Score):
            raise InvalidRequestError("score", score, "a Score, as Workbench.score returns it")
        if not isinstance(prompt, str):
            raise InvalidRequestError("prompt", prompt, "a string, the text before the scored one")
        if not is_count(rounds) or rounds < 1:
            raise InvalidRequestError("rounds", rounds, "a whole number, 1 or above")
        if not is_count(choices) or not 2 <= choices <= _MOST_CHOICES:
            raise InvalidRequestError("choices", choices, f"a whole number from 2 to {_MOST_CHOICES}")
        self._rounds = rounds_of(score, prompt, most=rounds, choices=choices)
        self._shown = 0
        super().__init__(page=self._page())
        self.on_msg(self._answer)

    # ------------------------------------------------------------------------------------------------- playing

    @property
    def rounds(self) -> tuple[Round, ...]:
        """All rounds; those played have their bets."""
        return tuple(self._rounds)

    @property
    def current(self) -> Round | None:
        """The round waiting for a bet; None after the last."""
        return next((one for one in self._rounds if one.bet is None), None)

    @property
    def bits(self) -> float:
        """Bits that the player has paid so far."""
        return math.fsum(one.bits for one in self._rounds if one.bits is not None)

    @property
    def model_bits(self) -> float:
        """Bits that the model has paid for the same tokens."""
        return math.fsum(one.model_bits for one in self._rounds if one.bet is not None)

    @property
    def even_bits(self) -> float:
        """Bits that even bets would have paid for the same tokens."""
        return math.fsum(one.even_bits for one in self._rounds if one.bet is not None)

    def bet(self, choice: str | int, confidence: float) -> Round:
        """Bet on one choice, by text or index, and spread the rest evenly; return the finished round.

        Raises:
            InvalidRequestError: there is no such choice, the confidence is not between 0 and 1, or the game is over.
        """
        with LOCK:
            return self.bet_all(self._open().spread(choice, confidence))

    def bet_all(self, probabilities: Sequence[float]) -> Round:
        """Bet a distribution over the choices, in their order; return the finished round.

        Raises:
            InvalidRequestError: it is not a distribution, or the game is over.
        """
        with LOCK:
            ended = self._open().with_bet(probabilities)
            self._shown = self._rounds.index(self._open())
            self._rounds[self._shown] = ended
            self.page = self._page()
        return ended

    def go_on(self) -> None:
        """Show the round waiting for a bet."""
        with LOCK:
            if (current := self.current) is not None:
                self._shown = self._rounds.index(current)
            self.page = self._page()

    def restart(self) -> None:
        """Remove all bets and start again."""
        with LOCK:
            self._rounds = [Round(one.position, one.context, one.choices, one.came, one.model) for one in self._rounds]
            self._shown = 0
            self.page = self._page()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per round played: position, token, and the bits that each player paid."""
        import pandas as pd

        rows = [
            (one.position, one.choices[one.came], one.bits, one.model_bits, one.even_bits)
            for one in self._rounds
            if one.bet is not None
        ]
        return pd.DataFrame(rows, columns=pd.Index(["position", "text", "bits", "model_bits", "even_bits"]))

    def _open(self) -> Round:
        if (current := self.current) is None:
            raise InvalidRequestError(
                "round", len(self._rounds), "a round to play: the game is over, and restart() begins a new one"
            )
        return current

    # ------------------------------------------------------------------------------------------------- showing

    def static_html(self) -> str:
        page = self.page
        parts = [line(f"Round {page['number']} of {page['of']}"), prompt_block(f"{page['context']} ▁")]
        head = "".join(f'<th scope="col">{name}</th>' for name in ("", "choice", "you", "model"))
        rows = "".join(_row(page, index) for index in range(len(page["choices"])))
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        if page["played"]:
            parts.append(line(_totals(page)))
        return document(*parts)

    def __repr__(self) -> str:
        played = sum(one.bet is not None for one in self._rounds)
        return f"PredictionGame({played} of {len(self._rounds)} rounds played)"

    def _page(self) -> dict[str, Any]:
        one = self._rounds[self._shown]
        # The page gets the answer and the model's distribution only after the bet.
        told = None if one.bet is None else {"came": one.came, "bet": one.bet, "model": one.model}
        return {
            "number": self._shown + 1,
            "of": len(self._rounds),
            "played": sum(one.bet is not None for one in self._rounds),
            "context": one.context,
            "choices": [visible(text.strip()) for text in one.choices],
            "told": told,
            "bits": self.bits,
            "model_bits": self.model_bits,
            "even_bits": self.even_bits,
        }

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        error = None
        try:
            self._do(content)
        except WorkbenchError as problem:
            error = error_text(problem)
        self.send({"kind": "reply", "id": content.get("id"), "error": error})

    def _do(self, content: dict[str, Any]) -> None:
        match content.get("kind"):
            # A second view of the game may still show a round that is over.
            case "bet" if content.get("number") == self._shown + 1 and self._rounds[self._shown].bet is None:
                self.bet(content.get("choice", -1), content.get("confidence", 0))
            case "next":
                self.go_on()
            case "again":
                self.restart()


def _row(page: dict[str, Any], index: int) -> str:
    told, text = page["told"], code(page["choices"][index])
    shares = ("", "") if told is None else (percent(told["bet"][index]), percent(told["model"][index]))
    came = told is not None and told["came"] == index
    cells = [str(index + 1), f"<strong>{text}</strong> came next" if came else text, *shares]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _totals(page: dict[str, Any]) -> str:
    you, model, even = (fixed(page[name], 1) for name in ("bits", "model_bits", "even_bits"))
    return f"You {you} bits · Model {model} bits · Even bets {even} bits"
