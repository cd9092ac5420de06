"""How one token was drawn, as it travels to the browser and as a sentence.

A trace holds the whole vocabulary at every stage; a picture holds the tokens that are worth a bar, all others as one,
and the stretches of the cumulative axis that the random number can hit. Stages, rows and stretches:

* name: what is looked at, ``token 4`` or ``the end``.
* stage: ``{name, title, kept, removed, cuts}``; ``removed`` is the mass of the stage before that this one cut,
  ``cuts`` whether a probability of 0 means that the token was taken out.
* row: ``[token_id, label, shares]``, one share a stage, most probable raw token first.
* axis: ``[token_id, label, share]``, from 0 on, in the order of the draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.protocol import EffectiveSampling, SamplingParams, SamplingStrategy, effective_sampling
from workbench.sampling_stages import SAMPLING_STAGES
from workbench.widgets.format import fixed, visible
from workbench.widgets.wire.run import label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from workbench.records import SamplingTrace, TokenRecord

# Narrower stretches of the axis would be thinner than a line.
_NARROWEST = 0.004
_MOST_STRETCHES = 40
_NUMBER_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What a waterfall shows: a token of a run, and how it might have been drawn instead."""

    token: TokenRecord
    own: SamplingParams
    """The run's parameters."""
    params: SamplingParams | None
    """Those to look under; None for the run's own."""
    number: float | None
    """The random number to look under; None for the one that was drawn."""

    @property
    def used(self) -> SamplingParams:
        return self.own if self.params is None else self.params

    @property
    def is_own(self) -> bool:
        """Whether the parameters draw as the run's own do; length, seed and stop strings take no part."""
        return effective_sampling(self.used) == effective_sampling(self.own)


def picture_of(
    question: Question, trace: SamplingTrace, drawn: float | None, *, rows: int, is_end: bool = False
) -> dict[str, Any]:
    """Everything that the page draws of one trace.

    Args:
        is_end: the token is the one with which the model ended its turn.
        drawn: the number that the run drew; None where it drew none.
        rows: how many tokens get bars of their own; the chosen one and the run's own are there in any case.
    """
    shares = np.stack([stage.probabilities for stage in trace.stages])  # (stages, vocab)
    order = _drawing_order(shares)
    shown = _rows(shares, order, rows, (trace.token_id, question.token.token_id))
    label_of = _Labels(question.token, trace)
    others = np.delete(shares, shown, axis=1).sum(axis=1)
    ends = shares[-1, order].cumsum()
    at = int((order == trace.token_id).argmax())
    return {
        "position": question.token.position,
        "name": name_of(question.token.position, is_end=is_end),
        "summary": in_a_sentence(question, trace, drawn),
        "number": trace.number,
        "chosen": [trace.token_id, label_of(trace.token_id)],
        "token": [question.token.token_id, label_of(question.token.token_id)],
        "stages": [_wire_stage(stage, question.used) for stage in trace.stages],
        "rows": [[token_id, label_of(token_id), _short(shares[:, token_id])] for token_id in shown],
        "others": {"count": shares.shape[1] - len(shown), "shares": _short(others)},
        "axis": _stretches(shares[-1], order, label_of),
        "span": [float(ends[at - 1]) if at else 0.0, min(1.0, float(ends[at]))],
    }


def refusal(position: int, words: str, *, is_end: bool) -> dict[str, Any]:
    """What the page shows where there is no trace."""
    return {"position": position, "name": name_of(position, is_end=is_end), "error": words}


def name_of(position: int, *, is_end: bool) -> str:
    return "the end token" if is_end else f"token {position + 1}"


def in_a_sentence(question: Question, trace: SamplingTrace, drawn: float | None) -> str:
    """What was picked by what, and whether the run had the same."""
    picked = _quoted(_Labels(question.token, trace)(trace.token_id))
    if question.is_own and question.number is None and trace.token_id != question.token.token_id:
        drawn_by = "Greedy" if trace.number is None else f"The random number {fixed(trace.number, _NUMBER_DIGITS)}"
        number = " No random number is drawn." if trace.number is None else ""
        return f"{_quoted(_own_label(question))} was chosen by hand. {drawn_by} would have picked {picked}.{number}"
    if trace.number is None:
        return _without_number(question, trace, picked)
    number = fixed(trace.number, _NUMBER_DIGITS)
    if question.number is None and drawn is None:
        return f"The run drew no random number. {number} is used instead and picks {picked}{_against(question, trace)}."
    if question.number is not None:
        also = f" (the run drew {fixed(drawn, _NUMBER_DIGITS)})" if drawn is not None else ""
        return f"The random number {number} picks {picked}{_against(question, trace)}{also}."
    if question.is_own:
        return f"The random number {number} picked {picked}."
    return f"With these settings, the same random number, {number}, picks {picked}{_against(question, trace)}."


def _without_number(question: Question, trace: SamplingTrace, picked: str) -> str:
    if trace.stages[-1].name == "grammar":
        return f"The grammar left only {picked}. No random number was drawn."
    return f"Greedy takes the most probable token, {picked}{_against(question, trace)}. No random number is drawn."


def _against(question: Question, trace: SamplingTrace) -> str:
    if trace.token_id == question.token.token_id:
        return "" if question.is_own and question.number is None else ", as in the run"
    return f"; the run has {_quoted(_own_label(question))}"


def _own_label(question: Question) -> str:
    return label(question.token.text, question.token.bytes)


def _quoted(text: str) -> str:
    return f"“{visible(text)}”"


def _wire_stage(stage: Any, params: SamplingParams) -> dict[str, Any]:
    title, cuts = _title(stage.name, effective_sampling(params))
    removed = _short([stage.removed_mass])[0]
    return {"name": stage.name, "title": title, "kept": stage.kept, "removed": removed, "cuts": cuts}


def _title(name: str, effective: EffectiveSampling) -> tuple[str, bool]:
    """Return a stage's heading and whether it takes tokens out."""
    if name == "temperature" and effective.strategy == SamplingStrategy.greedy:
        return "Greedy", True
    for stage in SAMPLING_STAGES:
        if stage.name == name:
            return f"{stage.title} {stage.words(getattr(effective, stage.field))}", stage.cuts
    return name.capitalize(), name == "grammar"


def _drawing_order(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ids of the tokens left at the end, as the draw lines them up: most probable first."""
    left = shares[-1].nonzero()[0]
    # Rounding may make equals of tokens that an earlier stage still tells apart; ids decide last.
    order: NDArray[np.int64] = left[np.lexsort(list(-shares[:, left]))]
    return order


def _rows(shares: NDArray[np.float64], order: NDArray[np.int64], count: int, needed: Iterable[int]) -> list[int]:
    """The most probable tokens at the start and at the end: a grammar may leave none of the first ones."""
    first = (-shares[0]).argsort(kind="stable")[:count]
    taken: dict[int, None] = dict.fromkeys(needed)
    for start, end in zip(first.tolist(), [*order[:count].tolist(), *[None] * count], strict=False):
        for token_id in (start, end):
            if token_id is not None and len(taken) < count:
                taken.setdefault(token_id)
    return sorted(taken, key=lambda token_id: (-shares[0, token_id], token_id))


def _stretches(
    shares: NDArray[np.float64], order: NDArray[np.int64], label_of: _Labels
) -> list[tuple[int, str, float]]:
    wide = order[:_MOST_STRETCHES]
    wide = wide[shares[wide] >= _NARROWEST]
    return [
        (token_id, label_of(token_id), share)
        for token_id, share in zip(wide.tolist(), _short(shares[wide]), strict=True)
    ]


class _Labels:
    """A token as it is written: by its bytes where they are known and no whole character."""

    def __init__(self, token: TokenRecord, trace: SamplingTrace) -> None:
        self._known = {item.token_id: label(item.text, item.bytes) for item in token.alternatives}
        self._known[token.token_id] = label(token.text, token.bytes)
        self._text = trace.text

    def __call__(self, token_id: int) -> str:
        if token_id in self._known:
            return self._known[token_id]
        text = self._text(token_id)
        return f"⟨id {token_id}⟩" if "\ufffd" in text else text


def _short(shares: Iterable[float]) -> list[float]:
    """Six digits that count: rounded to the three that are seen, they give what the shares themselves would."""
    return [float(f"{share:.6g}") for share in shares]
