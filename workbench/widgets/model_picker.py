"""Which model answers: the models that a session serves, grouped by provider, with the facts of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import traitlets

from workbench.errors import ModelNotFoundError
from workbench.records import ModelCard
from workbench.widgets import static_html
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, WorkbenchWidget
from workbench.widgets.contract import SessionLike


class ModelPicker(WorkbenchWidget):
    """Shows what is served and holds the choice; looking at a card never loads its model.

    Args:
        session: asked for ``list_models()`` and ``card(name)``.
        value: identifier to begin with; None takes the first model served.
        kind: ``causal`` (text generation) or ``embedding``; None shows both.
    """

    _esm = module_source("model_picker")
    _css = style_source("model_picker")

    cards: traitlets.List[dict[str, Any]] = traitlets.List(
        help="Facts of each model served, as plain dictionaries."
    ).tag(sync=True)
    value = traitlets.Unicode(None, allow_none=True, help="Identifier of the chosen model.").tag(sync=True)

    def __init__(self, session: SessionLike, *, value: str | None = None, kind: str | None = "causal") -> None:
        self._session = session
        self._kind = kind
        cards = self._served_cards()
        super().__init__(cards=cards, value=_chosen(cards, value))

    @property
    def card(self) -> ModelCard | None:
        """The facts of the chosen model as they were last read."""
        for card in self.cards:
            if card["value"] == self.value:
                return ModelCard(**{name: fact for name, fact in card.items() if name != "value"})
        return None

    def refresh(self) -> None:
        """Read the models and their facts again, for example after one was registered or loaded."""
        cards = self._served_cards()
        with LOCK:
            self.cards = cards
            if self.value not in [card["value"] for card in cards]:
                self.value = cards[0]["value"] if cards else None

    def static_html(self) -> str:
        return static_html.card_html(self.card)

    def __repr__(self) -> str:
        return f"ModelPicker(value={self.value!r})"

    @traitlets.validate("value")
    def _is_served(self, proposal: Any) -> str | None:
        value: str | None = proposal["value"]
        served = [card["value"] for card in self.cards]
        if value is not None and value not in served:
            raise ModelNotFoundError(value, served)
        return value

    def _served_cards(self) -> list[dict[str, Any]]:
        names = _names(self._session)
        cards = [{"value": name, **asdict(self._session.card(name))} for name in names]
        return [card for card in cards if self._kind is None or card["kind"] == self._kind]


def _names(session: SessionLike) -> list[str]:
    """One name for each model: the plain identifier, with its provider in front where it was taken before."""
    names: list[str] = []
    for model in session.list_models():
        plain = model.identifier
        names.append(f"{model.provider_id}/{plain}" if plain in names else plain)
    return names


def _chosen(cards: Sequence[dict[str, Any]], value: str | None) -> str | None:
    if value is not None:
        return value
    return cards[0]["value"] if cards else None
