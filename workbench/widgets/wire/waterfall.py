"""Wire form of the draw of one token, and its summary in a sentence.

A trace has the whole vocabulary at every stage; a picture has the tokens with a bar of their own, the sum of all
others, and the intervals of the cumulative axis that the random number falls into:

* name: ``token 4`` or ``the end token``.
* stage: ``{name, title, kept, removed, cuts}``; ``removed`` is the probability, before the stage, of the tokens that it
  removed, ``cuts`` whether a probability of 0 means that the token was removed.
* row: ``[token_id, label, shares]``, one share per stage, most probable raw token first.
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

# A narrower interval of the axis would be thinner than a line.
_MIN_SHARE = 0.004
_MAX_INTERVALS = 40
_UNIFORM_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Redraw:
    """A token of a run, and the parameters and random number to draw it again with."""

    token: TokenRecord
    run_params: SamplingParams
    """The run's parameters."""
    params: SamplingParams | None
    """Parameters to apply; None for the run's own."""
    uniform: float | None
    """Random number to use, from 0 to below 1; None for the one that was drawn."""

    @property
    def applied_params(self) -> SamplingParams:
        return self.run_params if self.params is None else self.params

    @property
    def samples_as_run(self) -> bool:
        """Whether the parameters sample as the run's do; length, seed and stop strings are ignored."""
        return effective_sampling(self.applied_params) == effective_sampling(self.run_params)


def picture_of(
    redraw: Redraw, trace: SamplingTrace, drawn: float | None, *, rows: int, is_end: bool = False
) -> dict[str, Any]:
    """Return the wire form of a trace.

    Args:
        drawn: the random number that the run drew; None if it drew none.
        rows: number of tokens with a bar of their own, always including the chosen one and the run's own.
        is_end: whether the token is the end token.
    """
    shares = np.stack([stage.probabilities for stage in trace.stages])  # (stages, vocab)
    order = _draw_order(shares)
    shown = _rows(shares, order, rows, (trace.token_id, redraw.token.token_id))
    label_of = _Labels(redraw.token, trace)
    others = np.delete(shares, shown, axis=1).sum(axis=1)
    ends = shares[-1, order].cumsum()
    at = int((order == trace.token_id).argmax())
    return {
        "position": redraw.token.position,
        "name": name_of(redraw.token.position, is_end=is_end),
        "summary": summary_of(redraw, trace, drawn),
        "number": trace.number,
        "chosen": [trace.token_id, label_of(trace.token_id)],
        "token": [redraw.token.token_id, label_of(redraw.token.token_id)],
        "stages": [_wire_stage(stage, redraw.applied_params) for stage in trace.stages],
        "rows": [[token_id, label_of(token_id), _rounded(shares[:, token_id])] for token_id in shown],
        "others": {"count": shares.shape[1] - len(shown), "shares": _rounded(others)},
        "axis": _intervals(shares[-1], order, label_of),
        "span": [float(ends[at - 1]) if at else 0.0, min(1.0, float(ends[at]))],
    }


def error_picture(position: int, message: str, *, is_end: bool) -> dict[str, Any]:
    """Return the wire form of an error message in place of a trace."""
    return {"position": position, "name": name_of(position, is_end=is_end), "error": message}


def name_of(position: int, *, is_end: bool) -> str:
    return "the end token" if is_end else f"token {position + 1}"


def summary_of(redraw: Redraw, trace: SamplingTrace, drawn: float | None) -> str:
    """Return a sentence that names the drawn token, its random number and the run's own token."""
    picked = _quoted(_Labels(redraw.token, trace)(trace.token_id))
    if redraw.samples_as_run and redraw.uniform is None and trace.token_id != redraw.token.token_id:
        drawn_by = "Greedy" if trace.number is None else f"The random number {fixed(trace.number, _UNIFORM_DIGITS)}"
        note = " No random number is drawn." if trace.number is None else ""
        return f"{_quoted(_own_label(redraw))} was chosen by hand. {drawn_by} would have picked {picked}.{note}"
    if trace.number is None:
        return _deterministic_summary(redraw, trace, picked)
    uniform, compared = fixed(trace.number, _UNIFORM_DIGITS), _run_comparison(redraw, trace)
    if redraw.uniform is None and drawn is None:
        return f"The run drew no random number. {uniform} is used instead and picks {picked}{compared}."
    if redraw.uniform is not None:
        also = f" (the run drew {fixed(drawn, _UNIFORM_DIGITS)})" if drawn is not None else ""
        return f"The random number {uniform} picks {picked}{compared}{also}."
    if redraw.samples_as_run:
        return f"The random number {uniform} picked {picked}."
    return f"With these settings, the same random number, {uniform}, picks {picked}{compared}."


def _deterministic_summary(redraw: Redraw, trace: SamplingTrace, picked: str) -> str:
    if trace.stages[-1].name == "grammar":
        return f"The grammar left only {picked}. No random number was drawn."
    return f"Greedy takes the most probable token, {picked}{_run_comparison(redraw, trace)}. No random number is drawn."


def _run_comparison(redraw: Redraw, trace: SamplingTrace) -> str:
    if trace.token_id == redraw.token.token_id:
        return "" if redraw.samples_as_run and redraw.uniform is None else ", as in the run"
    return f"; the run has {_quoted(_own_label(redraw))}"


def _own_label(redraw: Redraw) -> str:
    return label(redraw.token.text, redraw.token.bytes)


def _quoted(text: str) -> str:
    return f"“{visible(text)}”"


def _wire_stage(stage: Any, params: SamplingParams) -> dict[str, Any]:
    title, cuts = _title(stage.name, effective_sampling(params))
    removed = _rounded([stage.removed_mass])[0]
    return {"name": stage.name, "title": title, "kept": stage.kept, "removed": removed, "cuts": cuts}


def _title(name: str, effective: EffectiveSampling) -> tuple[str, bool]:
    """Return a stage's heading and whether it removes tokens."""
    if name == "temperature" and effective.strategy == SamplingStrategy.greedy:
        return "Greedy", True
    for stage in SAMPLING_STAGES:
        if stage.name == name:
            return f"{stage.title} {stage.words(getattr(effective, stage.field))}", stage.cuts
    return name.capitalize(), name == "grammar"


def _draw_order(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the ids of the remaining tokens in the order of the draw, the most probable first."""
    left = shares[-1].nonzero()[0]
    # Rounding may make tokens equal whose earlier probabilities differ; those break the tie, then the ids.
    order: NDArray[np.int64] = left[np.lexsort(list(-shares[:, left]))]
    return order


def _rows(shares: NDArray[np.float64], order: NDArray[np.int64], count: int, needed: Iterable[int]) -> list[int]:
    """Return the ids with a row: the most probable before and after all stages, as a grammar may remove the former."""
    first = (-shares[0]).argsort(kind="stable")[:count]
    taken: dict[int, None] = dict.fromkeys(needed)
    for start, end in zip(first.tolist(), [*order[:count].tolist(), *[None] * count], strict=False):
        for token_id in (start, end):
            if token_id is not None and len(taken) < count:
                taken.setdefault(token_id)
    return sorted(taken, key=lambda token_id: (-shares[0, token_id], token_id))


def _intervals(
    shares: NDArray[np.float64], order: NDArray[np.int64], label_of: _Labels
) -> list[tuple[int, str, float]]:
    wide = order[:_MAX_INTERVALS]
    wide = wide[shares[wide] >= _MIN_SHARE]
    return [
        (token_id, label_of(token_id), share)
        for token_id, share in zip(wide.tolist(), _rounded(shares[wide]), strict=True)
    ]


class _Labels:
    """Labels of tokens by id; bytes that are not whole characters are written in hex if known, or else as the id."""

    def __init__(self, token: TokenRecord, trace: SamplingTrace) -> None:
        self._known = {item.token_id: label(item.text, item.bytes) for item in token.alternatives}
        self._known[token.token_id] = label(token.text, token.bytes)
        self._text = trace.text

    def __call__(self, token_id: int) -> str:
        if token_id in self._known:
            return self._known[token_id]
        text = self._text(token_id)
        return f"⟨id {token_id}⟩" if "\ufffd" in text else text


def _rounded(shares: Iterable[float]) -> list[float]:
    """Return shares rounded to six digits, enough for the three that are shown to be exact."""
    return [float(f"{share:.6g}") for share in shares]
