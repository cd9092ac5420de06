"""Functions and base classes for widgets that contain other widgets."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ParamSpec, TypeVar

from workbench.errors import InvalidRequestError
from workbench.protocol import LogProbConfig, SamplingParams
from workbench.widgets.base import Part, WorkbenchWidget

Arguments = ParamSpec("Arguments")
Child = TypeVar("Child", bound=WorkbenchWidget)

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

    def _offer_recommended(self, _change: Any = None) -> None:
        """Show the chosen model's recommendations in the controls, without applying them."""
        card = self.picker.card
        self.controls.recommend(card.sampling_defaults if card else None)


def close_on_error(stack: ExitStack, part: Child) -> Child:
    """Close a part with the stack and return it, so that an error in a later part leaves none open."""
    stack.callback(part.close)
    return part


def logprobs_with(alternatives: int) -> LogProbConfig:
    """Return the config for a number of alternatives; an error names the widget's argument."""
    try:
        return LogProbConfig(top_k=alternatives)
    except InvalidRequestError as error:
        raise InvalidRequestError("alternatives", alternatives, error.allowed) from None


def takes_arguments_of(
    view: Callable[Arguments, Child],
) -> Callable[[Callable[..., Child]], Callable[Arguments, Child]]:
    """Give a function that opens a view the signature of the view's class; it gets all arguments, defaults included."""
    _self, *parameters = inspect.signature(view.__init__).parameters.values()
    signature = inspect.Signature(parameters)

    def replace_signature(function: Callable[..., Child]) -> Callable[Arguments, Child]:
        @functools.wraps(function)
        def call(*arguments: Arguments.args, **keywords: Arguments.kwargs) -> Child:
            bound = signature.bind(*arguments, **keywords)
            bound.apply_defaults()
            return function(*bound.args, **bound.kwargs)

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return replace_signature


def replace_open_widget(session: Any, opened: WorkbenchWidget, arguments: object = "") -> None:
    """Close the widget of the same class and arguments that was opened on the session earlier.

    Otherwise every execution of a cell would leave a widget in memory.

    Args:
        arguments: arguments of the widget; widgets with other arguments stay open.
    """
    by_name = _OPEN.setdefault(session, {})
    name = f"{type(opened).__name__} {arguments!r}"  # not the class, because anywidget creates one for each widget
    before = by_name.get(name)
    previous = None if before is None else before()
    if previous is not None:
        previous.close()
    by_name[name] = weakref.ref(opened)
