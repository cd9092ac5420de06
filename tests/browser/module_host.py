"""The widgets' modules in a plain page, with their Python widgets behind them and no Jupyter between."""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import Page as BrowserPage

from tests.unit.widgets.recorded_page import Page
from workbench.widgets.base import WorkbenchWidget

_FAKE_HOST = Path(__file__).with_name("fake_host.js").read_text(encoding="utf-8")
_NOT_SHOWN = {"_esm", "_css", "layout"}


class ModuleHost:
    """Carries messages between a widget's module in the browser and the widget in this process."""

    def __init__(self, browser: BrowserPage, wire: Page) -> None:
        self.browser = browser
        self._wire = wire
        self._carried = 0
        self._widgets: dict[str, WorkbenchWidget] = {}
        browser.add_script_tag(content=_FAKE_HOST)

    def show(self, widget: WorkbenchWidget) -> None:
        """One more view of a widget; the widgets that it refers to are opened with it."""
        self._open(widget)
        self.browser.evaluate("(ref) => wb.view(ref)", _ref(widget))
        self.carry()

    def carry(self) -> None:
        """Deliver what either side has sent, and let the page draw it."""
        has_news = False
        while sent := self.browser.evaluate("() => wb.outbox.splice(0)"):
            has_news = True
            for ref, kind, content in sent:
                widget = self._widgets[ref.removeprefix("anywidget:")]
                if not widget.closed:
                    (self._wire.send(widget, content) if kind == "send" else self._wire.set(widget, **content))
                if kind == "state":
                    self.browser.evaluate("(ref) => wb.model(ref).answered()", ref)
        for widget in list(self._widgets.values()):
            self._open_parts(widget)  # some of them may be new
        fresh = self._wire.messages[self._carried :]
        self._carried += len(fresh)
        for comm_id, msg_type, data in fresh:
            if comm_id in self._widgets and msg_type == "comm_msg":
                has_news = True
                self.browser.evaluate("([ref, data]) => wb.model(ref).receive(data)", [f"anywidget:{comm_id}", data])
        if has_news:
            self.browser.evaluate("() => new Promise(requestAnimationFrame)")

    def wait(self, condition: str, *, timeout_s: float = 60.0) -> None:
        """Carry messages until a JavaScript expression is true."""
        deadline = time.monotonic() + timeout_s
        while not self.browser.evaluate(condition):
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {condition}\n{self.browser.inner_text('body')[:2000]}")
            self.carry()
            self.browser.wait_for_timeout(10)
        self.carry()

    def drop(self) -> None:
        """Lose what Python has sent and the browser has not yet received."""
        self._carried = len(self._wire.messages)

    def _open(self, widget: WorkbenchWidget) -> None:
        if widget.model_id in self._widgets:
            return
        self._open_parts(widget)
        state = {name: value for name, value in widget.get_state().items() if name not in _NOT_SHOWN}
        self._widgets[widget.model_id] = widget
        self.browser.evaluate("(args) => wb.open(...args)", [_ref(widget), widget._esm, widget._css, state])

    def _open_parts(self, widget: WorkbenchWidget) -> None:
        for name in widget.trait_names(sync=True):
            value = getattr(widget, name)
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, WorkbenchWidget):
                    self._open(part)


def _ref(widget: WorkbenchWidget) -> str:
    return f"anywidget:{widget.model_id}"
