"""The static twin that a notebook stores beside a live widget, kept up to date while the widget changes.

A front end redraws an output whenever it is updated: a live view in it would lose its focus, its scroll position and
the text being typed. So a widget is displayed as two outputs, the live view and its twin, and only the twin is updated.
The style sheet of the live view hides the twin on the screen. The twin is visible where no live view can be drawn: on
GitHub, in an exported page, in print, and without a kernel.
"""

from __future__ import annotations

from typing import Any

VIEW_MIMETYPE = "application/vnd.jupyter.widget-view+json"
CLASS = "wb-twin"
"""Class of the element around a twin, which ``static/base.css`` hides."""


class StoredTwin:
    """The twin's output, in every cell that displays the widget.

    Args:
        widget_id: distinguishes the widget from all others of the kernel.
    """

    def __init__(self, widget_id: str) -> None:
        self._display_id = f"workbench-{widget_id}"
        self._html: str | None = None

    @property
    def is_displayed(self) -> bool:
        """Whether a cell has displayed the widget."""
        return self._html is not None

    def display(self, view: dict[str, Any], name: str, html: str) -> bool:
        """Display a widget; False, and nothing displayed, outside a Jupyter kernel.

        Args:
            view: the content of the live view's MIME type.
            name: text for front ends without widgets and HTML.
            html: the twin.
        """
        publisher = _publisher()
        if publisher is None:
            return False
        # Empty HTML, so that a page that cannot draw the view shows only the twin below.
        publisher.publish({VIEW_MIMETYPE: view, "text/html": "", "text/plain": name})
        self._publish(publisher, html, update=False)
        return True

    def update(self, html: str) -> None:
        """Replace the twin in every cell that displays it; thread-safe, also while no cell runs."""
        publisher = _publisher()
        if publisher is not None and self.is_displayed and html != self._html:
            self._publish(publisher, html, update=True)

    def _publish(self, publisher: Any, html: str, *, update: bool) -> None:
        self._html = html
        data = {"text/html": f'<div class="{CLASS}">{html}</div>', "text/plain": ""}
        publisher.publish(data, transient={"display_id": self._display_id}, update=update)


def _publisher() -> Any:
    """The running kernel's display publisher; None in a terminal or a plain Python process."""
    from IPython import get_ipython

    shell = get_ipython()
    return shell.display_pub if hasattr(shell, "kernel") else None
