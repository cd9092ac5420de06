"""Functions and base classes for widgets that are composed of other widgets."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any, TypeVar

from workbench.errors import InvalidRequestError
from workbench.protocol import LogProbConfig, SamplingParams
from workbench.widgets.base import Part, WorkbenchWidget

Made = TypeVar("Made", bound=WorkbenchWidget)

_OPEN: weakref.WeakKeyDictionary[Any, dict[str, weakref.ref[WorkbenchWidget]]] = weakref.WeakKeyDictionary()


class Picking(WorkbenchWidget):
    """A widget with a model picker."""

    picker = Part("The model picker.")

    @property
    def model(self) -> str | None:
        """Identifier of the model of the next run; can be set."""
        return self.picker.value  # type: ignore[no-any-return]

    @model.setter
    def model(self, identifier: str) -> None:
        self.picker.value = identifier


class ModelAndSampling(Picking):
    """A widget with a model picker and sampling controls."""

    controls = Part("The sampling controls.")

    @property
    def sampling_params(self) -> SamplingParams:
        """The sampling parameters of the next run; can be set."""
        return self.controls.value  # type: ignore[no-any-return]

    @sampling_params.setter
    def sampling_params(self, params: SamplingParams) -> None:
        self.controls.value = params


def close_on_error(made: ExitStack, part: Made) -> Made:
    """Return a part that is closed with the stack, so that an error in a later one leaves none open."""
    made.callback(part.close)
    return part


def logprobs_with(alternatives: int) -> LogProbConfig:
    """Return the config for a number of alternatives; an error names the widget's own argument."""
    try:
        return LogProbConfig(top_k=alternatives)
    except InvalidRequestError as error:
        raise InvalidRequestError("alternatives", alternatives, error.allowed) from None


def replace_open_widget(session: Any, opened: WorkbenchWidget, arguments: object = "") -> None:
    """Close the widget that was opened on the session with the same class and arguments before.

    Without this, every widget of a cell that is run again would stay in memory.

    Args:
        arguments: arguments of the widget; widgets with others stay open.
    """
    by_name = _OPEN.setdefault(session, {})
    name = f"{type(opened).__name__} {arguments!r}"  # not the class, because anywidget creates one for each widget
    before = by_name.get(name)
    previous = None if before is None else before()
    if previous is not None:
        previous.close()
    by_name[name] = weakref.ref(opened)
