"""The browser's end of every comm, in Python."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comm
from comm.base_comm import BaseComm
from ipywidgets.widgets import widget as ipywidget


class Page:
    """The browser's end of every comm."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, Any]] = []
        self._lock = threading.Lock()

    def record(self, comm_id: str, msg_type: str, data: Any) -> None:
        # As JSON, because that is what crosses: NaN or an object would fail here as it would there.
        copied = json.loads(json.dumps(data, allow_nan=False, default=str))
        with self._lock:
            self.messages.append((comm_id, msg_type, copied))

    def customs(self, widget: Any, kind: str | None = None) -> list[dict[str, Any]]:
        """Contents of the custom messages that a widget sent."""
        contents = [data["content"] for data in self._data(widget) if data.get("method") == "custom"]
        return [content for content in contents if kind is None or content["kind"] == kind]

    def writes(self, widget: Any, name: str) -> list[Any]:
        """The values of a trait as they were sent, one after the other."""
        states = [data["state"] for data in self._data(widget) if data.get("method") == "update"]
        return [state[name] for state in states if name in state]

    def size(self, widget: Any) -> int:
        """Bytes that a widget sent after it was made."""
        return sum(len(json.dumps(data, ensure_ascii=False).encode()) for data in self._data(widget))

    def send(self, widget: Any, content: dict[str, Any]) -> None:
        """A custom message from the page."""
        self._deliver(widget, {"method": "custom", "content": content})

    def set(self, widget: Any, **state: Any) -> None:
        """A change of traits from the page."""
        self._deliver(widget, {"method": "update", "state": state})

    def _deliver(self, widget: Any, data: dict[str, Any]) -> None:
        widget.comm.handle_msg({"content": {"data": data}, "buffers": []})

    def _data(self, widget: Any) -> list[dict[str, Any]]:
        with self._lock:
            return [data for comm_id, kind, data in self.messages if comm_id == widget.model_id and kind == "comm_msg"]


@contextmanager
def recorded_page() -> Iterator[Page]:
    """Every widget made inside speaks to the page that is given; none of them outlives it."""
    shown = Page()

    class RecordingComm(BaseComm):
        def publish_msg(
            self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
        ) -> None:
            shown.record(self.comm_id, msg_type, data)

    create, before = comm.create_comm, set(ipywidget._instances)
    comm.create_comm = RecordingComm
    try:
        yield shown
    finally:
        comm.create_comm = create
        for model_id, left in list(ipywidget._instances.items()):
            if model_id not in before:
                left.close()
