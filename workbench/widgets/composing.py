"""What widgets made of parts share: no part outlives a refusal, and a cell that is run again leaves one widget."""

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
    """A part that is closed when the stack is: what was made before something is refused must not stay behind."""
    made.callback(part.close)
    return part


def logprobs_with(alternatives: int) -> LogProbConfig:
    """For so many other tokens at each position; what is wrong is told of the widget's own argument."""
    try:
        return LogProbConfig(top_k=alternatives)
    except InvalidRequestError as error:
        raise InvalidRequestError("alternatives", alternatives, error.allowed) from None


def replace_open_widget(session: Any, opened: WorkbenchWidget, question: object = "") -> None:
    """Close the widget of the same class that was opened on the session before.

    A cell that is run again makes a new one; the one before would stay in memory and keep its page alive.

    Args:
        question: what the widget is asked; those that are asked something else stay open.
    """
    by_name = _OPEN.setdefault(session, {})
    name = f"{type(opened).__name__} {question!r}"  # not the class: anywidget makes one for each widget
    before = by_name.get(name)
    previous = None if before is None else before()
    if previous is not None:
        previous.close()
    by_name[name] = weakref.ref(opened)
