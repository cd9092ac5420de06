"""The choices for the next run of a comparison: model, precision and sampling parameters of each side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets

from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams
from workbench.protocol.sampling import is_count
from workbench.widgets.base import LOCK, Parts, WorkbenchWidget
from workbench.widgets.compare_sides import Side, choice_of, choosable, served_as
from workbench.widgets.contract import SessionLike
from workbench.widgets.sampling_controls import SamplingControls

MOST_CHOSEN = 4
"""Maximum number of sides in the page; Python allows more."""


class ChosenSides(WorkbenchWidget):
    """A widget whose sides are chosen in the page.

    Args:
        sides: initial model and parameters of each side.

    Raises:
        ModelNotFoundError: a model is not served.
    """

    models: traitlets.List[dict[str, Any]] = traitlets.List(
        help="Models to choose from, each with its precision and others it can be registered in."
    ).tag(sync=True)
    choices: traitlets.List[dict[str, str]] = traitlets.List(
        help="Model and precision of each side in the next run; an empty precision is the one it is served in."
    ).tag(sync=True)
    controls = Parts("The sampling controls of each side in the next run.")

    def __init__(self, session: SessionLike, sides: Sequence[Side], **state: Any) -> None:
        self._session = session
        served = choosable(session)
        choices = [choice_of(session, served, model) for model, _ in sides]
        controls = [self._made(params) for _, params in sides]
        try:
            super().__init__(models=served, choices=choices, controls=controls, **state)
        except Exception:
            for one in controls:
                one.close()
            raise
        self.observe(self._show_next, "choices")

    @traitlets.validate("choices")
    def _checked_choices(self, proposal: Any) -> list[dict[str, str]]:
        choices: list[dict[str, str]] = proposal["value"]
        if any(one.keys() != {"model", "precision"} for one in choices):
            raise InvalidRequestError("choices", choices, 'a list of {"model": ..., "precision": ...}')
        if len(choices) != len(self.controls):
            allowed = f"{len(self.controls)} items, one for each side; see add_side and remove_side"
            raise InvalidRequestError("choices", len(choices), allowed)
        return choices

    def choose(self, index: int, model: str, precision: str = "") -> None:
        """Choose the model and precision of one side in the next run.

        Args:
            index: of the side, from 0.
            model: name of a served model.
            precision: empty for the one the model is served in.

        Raises:
            InvalidRequestError: there is no such side.
            ModelNotFoundError: the model is not served.
        """
        with LOCK:
            count = len(self.choices)
            if not is_count(index) or index >= count:
                raise InvalidRequestError("side", index, f"an index from 0 to {count - 1}")
            self._session.card(model)
            chosen = {"model": model, "precision": precision}
            self.models = choosable(self._session)
            self.choices = [chosen if i == index else choice for i, choice in enumerate(self.choices)]

    def add_side(self) -> None:
        """Add a side to the next run, with the choices of the last one.

        Raises:
            InvalidRequestError: there are four sides already.
        """
        with LOCK:
            if len(self.choices) >= MOST_CHOSEN:
                allowed = f"at most {MOST_CHOSEN}"
                raise InvalidRequestError("sides", len(self.choices) + 1, allowed, in_form="At most four sides.")
            added = self._made(self.controls[-1].value)
            with self.hold_sync():
                self.models = choosable(self._session)
                self.controls = [*self.controls, added]
                self.choices = [*self.choices, dict(self.choices[-1])]

    def remove_side(self, index: int) -> None:
        """Remove a side from the next run.

        Raises:
            InvalidRequestError: there is no such side, or only two are left.
        """
        with LOCK:
            count = len(self.choices)
            if not is_count(index) or index >= count or count == 2:
                allowed = f"an index from 0 to {count - 1}, and at least two sides must stay"
                raise InvalidRequestError("side", index, allowed, in_form="A comparison needs at least two sides.")
            removed = self.controls[index]
            with self.hold_sync():
                self.controls = [one for one in self.controls if one is not removed]
                self.choices = [choice for i, choice in enumerate(self.choices) if i != index]
            removed.close()

    def _take_choices(self) -> list[str]:
        """Return the name of each side's served model; register those that are not served and update the choices."""
        try:
            models = [served_as(self._session, choice) for choice in self.choices]
        finally:
            self.models = choosable(self._session)  # also after one was registered and the next one refused
        with self.hold_sync():
            self.choices = [{"model": model, "precision": ""} for model in models]
        return models

    def _show_next(self, _change: Any = None) -> None:
        """React to a choice; subclasses define how."""

    def _made(self, params: SamplingParams) -> SamplingControls:
        controls = SamplingControls(params, expanded=False)
        controls.observe(self._show_next, "value")
        return controls
