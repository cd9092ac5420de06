"""The base class of all widgets: one lock, a repr without an address, a static twin, and a complete close."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import anywidget
import traitlets

from workbench.widgets.stored_twin import VIEW_MIMETYPE, StoredTwin

# Tickers and the threads on which the kernel handles clicks write traits, and ipywidgets does not lock its own state.
# One lock for all widgets, because they are linked: two locks could be taken in two orders.
LOCK = threading.RLock()


class Part(anywidget.WidgetTrait):
    """Another widget that this one shows or reads; the page gets a reference to it."""

    def __init__(self, help: str) -> None:  # noqa: A002 - the name that all traits have
        super().__init__()
        self.help = help
        self.tag(sync=True)


class Parts(traitlets.List):  # type: ignore[type-arg] # of any widgets
    """Several widgets that this one shows; the page gets a list of references."""

    def __init__(self, help: str) -> None:  # noqa: A002 - the name that all traits have
        super().__init__(help=help)
        self.tag(sync=True, to_json=lambda parts, _widget: [f"anywidget:{part.model_id}" for part in parts])


class WorkbenchWidget(anywidget.AnyWidget):
    """Base class of all widgets; subclasses add traits, a JavaScript module and ``static_html``."""

    _twin_shows: ClassVar[tuple[str, ...]] = ()
    """Names of the traits that the static twin shows; ``feed.snapshot`` is a trait of the feed."""
    _stored_twin: StoredTwin | None = None

    def static_html(self) -> str:
        """Return the state as self-contained HTML without scripts."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def _repr_mimebundle_(self, **_options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        twin = {"text/plain": repr(self), "text/html": self.static_html()}
        if self.comm is None:
            return twin, {}
        return {**twin, VIEW_MIMETYPE: self._view()}, {}

    def _ipython_display_(self) -> None:
        with LOCK:
            if self.closed or not self._twin().display(self._view(), repr(self), self.static_html()):
                raise NotImplementedError  # IPython falls back to the bundle

    def _view(self) -> dict[str, Any]:
        return {"version_major": 2, "version_minor": 1, "model_id": self.model_id}

    def _twin(self) -> StoredTwin:
        """Return the stored twin; from the first display on it follows the traits that it shows."""
        if self._stored_twin is None:
            self._stored_twin = StoredTwin(self.model_id)
            for name in self._twin_shows:
                owner, _, trait = name.rpartition(".")
                (getattr(self, owner) if owner else self).observe(self._update_twin, trait)
        return self._stored_twin

    def _update_twin(self, _change: Any = None) -> None:
        with LOCK:
            if not self.closed and self._is_settled():
                self._twin().update(self.static_html())

    def _is_settled(self) -> bool:
        """Return whether the twin is worth storing: not while a run that it shows goes on."""
        feed = getattr(self, "feed", None)
        return feed is None or feed.run is None or feed.run.done

    @property
    def closed(self) -> bool:
        return self.comm is None

    def close(self) -> None:
        """Remove the widget from every page; its last state and its static twin stay."""
        if self.comm is None:
            return
        with LOCK:
            layout = self.layout
            super().close()
            # ipywidgets removes the bundle of a closed widget, but the twin needs no page.
            self.__dict__.pop("_repr_mimebundle_", None)
            if layout is not None:
                # ipywidgets does not close the layout, which would stay in memory as a live model.
                layout.close()
            self._release()

    def open(self) -> None:
        """Connect to the page; messages from it are handled while a cell runs, too."""
        super().open()
        # JupyterLab sends clicks on a subshell, beside the running cell. ipykernel would move them to the queue of
        # the cell that made the widget, where Stop would wait for the run that it should stop. None keeps them on the
        # subshell; a kernel without this attribute never moves them.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = None  # noqa: SLF001
        self.on_msg(self._set_from_page)

    def _set_from_page(self, _widget: Any, message: Any, _buffers: Any) -> None:
        """Set the traits of a ``state`` message, which static/asking.js sends ahead of a request."""
        if isinstance(message, dict) and message.get("kind") == "state":
            self.set_state(message["state"])

    def _release(self) -> None:
        """Close the parts that belong to this widget alone; called once, by ``close``."""

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        with LOCK:
            super()._handle_msg(msg)
