"""The model picker: the models that a session serves, grouped by provider, with their model cards.

The page can register another model, which may download weights and take minutes: a thread does it, and the trait
``registration`` has its progress.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import traitlets

from workbench.errors import BusyError, InvalidRequestError, ModelNotFoundError
from workbench.records import ModelCard
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, WorkbenchWidget
from workbench.widgets.coalescing import has_ended
from workbench.widgets.contract import ServedModel, SessionLike
from workbench.widgets.html import twins
from workbench.widgets.precisions import device_choices, precision_choices
from workbench.widgets.wire.run import error_text

_QUIET = {"state": "idle", "said": ""}
_INTERVAL_S = 0.5


class ModelPicker(WorkbenchWidget):
    """The served models to choose from, each with its model card; showing a card never loads the model.

    Args:
        session: a `Workbench`.
        value: identifier of the initial model; None takes the first one served.
        kind: ``causal`` (text generation) or ``embedding``; None shows both.
    """

    _esm = module_source("model_picker")
    _css = style_source("model_picker")
    _twin_shows = ("cards", "value")

    cards: traitlets.List[dict[str, Any]] = traitlets.List(
        help="The model card of each served model, as a dictionary."
    ).tag(sync=True)
    value = traitlets.Unicode(None, allow_none=True, help="Identifier of the chosen model.").tag(sync=True)

    providers: traitlets.List[dict[str, Any]] = traitlets.List(
        help="Id, type, precisions and devices of each provider that can register a model."
    ).tag(sync=True)
    registration = traitlets.Dict(
        help="State of the last registration or removal, with its message, and the bytes of its download."
    ).tag(sync=True)

    def __init__(self, session: SessionLike, *, value: str | None = None, kind: str | None = "causal") -> None:
        self._session = session
        self._kind = kind
        self._thread: threading.Thread | None = None
        cards = served_cards(session, kind)
        providers = [
            {
                "provider_id": one.provider_id,
                "provider_type": one.provider_type,
                "precisions": precision_choices(one),
                "devices": device_choices(one, session.devices(one.provider_id)),
            }
            for one in session.config.providers.get("inference", ())
        ]
        super().__init__(cards=cards, value=_chosen(cards, value), providers=providers, registration=dict(_QUIET))
        self.on_msg(self._answer)

    @property
    def card(self) -> ModelCard | None:
        """The card of the chosen model, as last read."""
        for card in self.cards:
            if card["value"] == self.value:
                return ModelCard(**{name: fact for name, fact in card.items() if name != "value"})
        return None

    def refresh(self) -> None:
        """Read the models and their cards again, for example after one was registered or loaded."""
        cards = served_cards(self._session, self._kind)
        with LOCK:
            self.cards = cards
            if self.value not in [card["value"] for card in cards]:
                self.value = cards[0]["value"] if cards else None

    def register(
        self,
        identifier: str,
        source: str | None = None,
        *,
        provider_id: str | None = None,
        precision: str | None = None,
        device: str | None = None,
        progress: Callable[[str, int, int | None], None] | None = None,
    ) -> None:
        """Register a model and choose it; arguments and errors are those of ``Workbench.register_model``.

        Blocks, for minutes while weights are downloaded.
        """
        model = self._session.register_model(
            identifier, source, provider_id=provider_id, precision=precision, device=device, progress=progress
        )
        self.refresh()
        with LOCK:
            self.value = self._name_of(model) or self.value

    def unregister(self, value: str | None = None) -> None:
        """Stop serving a model, by default the chosen one; its files stay."""
        name = self.value if value is None else value
        if name is None:
            raise InvalidRequestError("value", name, "the name of a served model")
        self._session.unregister_model(name)
        self.refresh()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the last request from the page is finished; return False on a timeout."""
        return has_ended(self._thread, timeout_s)

    def static_html(self) -> str:
        return twins.card_html(self.card)

    def __repr__(self) -> str:
        return f"ModelPicker(value={self.value!r})"

    @traitlets.validate("value")
    def _is_served(self, proposal: Any) -> str | None:
        value: str | None = proposal["value"]
        served = [card["value"] for card in self.cards]
        if value is not None and value not in served:
            raise ModelNotFoundError(value, served)
        return value

    def _name_of(self, model: ServedModel) -> str | None:
        """Return the value by which a model is chosen; None if models of its kind are not shown."""
        named = (
            card["value"]
            for card in self.cards
            if (card["provider_id"], card["identifier"]) == (model.provider_id, model.identifier)
        )
        return next(named, None)

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        begin = {"register": self._register, "unregister": self._unregister, "find": self._find}.get(str(kind))
        if begin is None:
            return
        error: str | None = None
        try:
            begin(message)
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            error = error_text(problem)
        self.send({"kind": "reply", "id": message.get("id"), "error": error})

    def _register(self, message: dict[str, Any]) -> None:
        self._begin(*self._registering(message))

    def _unregister(self, message: dict[str, Any]) -> None:
        self._begin(*self._unregistering(message))

    def _find(self, _message: dict[str, Any]) -> None:
        """Send the models on this machine; no trait has them, so that no saved notebook lists a reader's disk."""
        self.send({"kind": "found", "models": [asdict(model) for model in self._session.models_found()]})

    def _registering(self, message: dict[str, Any]) -> tuple[str, Callable[[], str]]:
        """Return the text during a request, and the function that performs it."""
        name, source = (str(message.get(field) or "").strip() for field in ("name", "source"))
        if not source:
            allowed = "a catalog name, a folder, a GGUF file or a hub id"
            raise InvalidRequestError("source", source, allowed, in_form=f"Enter {allowed}.")
        precision, device = message.get("precision") or None, message.get("device") or None
        said = f"Registering {name or source} …"

        def work() -> str:
            arguments = (name, source) if name else (source,)
            with _in_the_forms_words(is_named=bool(name)):
                self.register(
                    *arguments,
                    provider_id=message.get("provider_id"),
                    precision=precision,
                    device=device,
                    progress=self._shown(said),
                )
            return f"Registered {name or source}{_held(self.card)}."

        return said, work

    def _shown(self, said: str) -> Callable[[str, int, int | None], None]:
        """Return a callback that shows the progress of a download, twice a second: pages drop faster messages."""
        shown_s = -math.inf

        def show(stage: str, done: int, total: int | None) -> None:
            nonlocal shown_s
            now_s = time.monotonic()
            if now_s - shown_s < _INTERVAL_S and done != total:
                return
            shown_s = now_s
            with LOCK:
                if not self.closed:
                    self.registration = {"state": "working", "said": said, "stage": stage, "done": done, "total": total}

        return show

    def _unregistering(self, message: dict[str, Any]) -> tuple[str, Callable[[], str]]:
        name = message.get("value")
        if not isinstance(name, str):
            raise InvalidRequestError("value", name, "the name of a served model")

        def work() -> str:
            self.unregister(name)
            return f"Removed {name}. If the run config names it, it returns at the next start."

        return f"Removing {name} …", work

    def _begin(self, said: str, work: Callable[[], str]) -> None:
        with LOCK:
            if not self.wait(0):
                raise BusyError("another model is being registered or removed; wait until that is done")
            self.registration = {"state": "working", "said": said}
            self._thread = threading.Thread(target=self._carry_out, args=(work,), name="workbench-models", daemon=True)
            self._thread.start()

    def _carry_out(self, work: Callable[[], str]) -> None:
        try:
            outcome = {"state": "done", "said": work()}
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            outcome = {"state": "failed", "said": error_text(problem)}
        with LOCK:
            if not self.closed:
                self.registration = outcome


@contextmanager
def _in_the_forms_words(*, is_named: bool) -> Iterator[None]:
    """Let an error about a field of the form name it as the form does."""
    labels = {
        "identifier": "Name" if is_named else "Source",
        "source": "Source",
        "provider_id": "Provider",
        "metadata.precision": "Precision",
        "metadata.device": "Device",
    }
    try:
        yield
    except InvalidRequestError as error:
        if error.in_form is None and error.field in labels:
            error.in_form = str(error).replace(error.field, labels[error.field], 1)
        raise


def _held(card: ModelCard | None) -> str:
    """Return in which precision and on which device a model is held, as the end of a sentence; the CPU goes unsaid."""
    if card is None:
        return ""
    precision = f" in {card.precision}" if card.precision else ""
    return precision if card.device in (None, "cpu") else f"{precision} on {card.device}"


def served_cards(session: SessionLike, kind: str | None) -> list[dict[str, Any]]:
    """Return the card of every model of a kind (None: of all), with the value by which it is chosen as ``value``."""
    cards = [{"value": name, **asdict(session.card(name))} for name in _names(session)]
    return [card for card in cards if kind is None or card["kind"] == kind]


def _names(session: SessionLike) -> list[str]:
    """Return one value per model: its identifier, prefixed with the provider if an earlier model has the same."""
    names: list[str] = []
    for model in session.list_models():
        plain = model.identifier
        names.append(f"{model.provider_id}/{plain}" if plain in names else plain)
    return names


def _chosen(cards: Sequence[dict[str, Any]], value: str | None) -> str | None:
    if value is not None:
        return value
    return cards[0]["value"] if cards else None
