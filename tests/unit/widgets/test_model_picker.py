"""The picker shows what is served, and its value is what a run asks for."""

from __future__ import annotations

import pytest

from tests.unit.widgets.fake_session import FakeSession
from tests.unit.widgets.recorded_page import Page
from workbench.errors import ModelNotFoundError
from workbench.protocol import SamplingParams
from workbench.widgets import ModelPicker


def test_chat_models_are_listed_once_each_by_the_name_that_reaches_them(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    assert [card["value"] for card in picker.cards] == ["smollm2-135m-instruct", "exact/smollm2-135m-instruct"]
    assert [card["precision"] for card in picker.cards] == ["int4", "float32"]
    assert picker.value == "smollm2-135m-instruct"


def test_every_kind_is_shown_when_asked_for(page: Page) -> None:
    assert len(ModelPicker(FakeSession(), kind=None).cards) == 3


def test_the_choice_of_the_page_is_the_choice_of_python(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    page.set(picker, value="exact/smollm2-135m-instruct")
    assert picker.value == "exact/smollm2-135m-instruct"
    assert picker.card is not None
    assert picker.card.precision == "float32"
    picker.value = "smollm2-135m-instruct"
    assert page.writes(picker, "value")[-1] == "smollm2-135m-instruct"


def test_a_model_that_is_not_served_is_refused_by_name(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    with pytest.raises(ModelNotFoundError, match=r"'gpt-5'.*smollm2-135m-instruct"):
        picker.value = "gpt-5"
    with pytest.raises(ModelNotFoundError):
        ModelPicker(FakeSession(), value="gpt-5")
    assert picker.value == "smollm2-135m-instruct"


def test_refreshing_shows_the_memory_that_a_loaded_model_takes(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    picker = ModelPicker(session)
    assert picker.card is not None
    assert picker.card.memory_bytes is None
    session.completion("Hi", sampling_params=SamplingParams()).wait(5)
    picker.refresh()
    assert picker.card.memory_bytes == 612_000_000


def test_a_session_that_serves_nothing_is_an_empty_picker(page: Page) -> None:
    class Empty(FakeSession):
        def list_models(self) -> list[object]:  # type: ignore[override]
            return []

    picker = ModelPicker(Empty())  # type: ignore[arg-type]
    assert (picker.value, picker.card) == (None, None)
    assert "No model is served." in picker.static_html()
