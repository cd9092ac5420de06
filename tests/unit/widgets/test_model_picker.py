"""The picker shows what is served, and its value is what a run asks for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tests.unit.widgets.fake_session import FakeSession
from tests.unit.widgets.recorded_page import Page
from workbench.errors import InvalidRequestError, ModelNotFoundError, UnknownModelError
from workbench.protocol import Provider, SamplingParams
from workbench.records import FoundModel
from workbench.widgets import ModelPicker
from workbench.widgets.precisions import device_choices, precision_choices


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
    session.completion("Hi", sampling_params=SamplingParams()).wait(60)
    picker.refresh()
    assert picker.card.memory_bytes == 612_000_000


def test_a_session_that_serves_nothing_is_an_empty_picker(page: Page) -> None:
    class Empty(FakeSession):
        def list_models(self) -> list[object]:  # type: ignore[override]
            return []

    picker = ModelPicker(Empty())  # type: ignore[arg-type]
    assert (picker.value, picker.card) == (None, None)
    assert "No model is served." in picker.static_html()


# ------------------------------------------------------------------------------------------- one more, and one fewer


def asked(page: Page, picker: ModelPicker, kind: str, **fields: Any) -> dict[str, Any]:
    """What came of a click, once it has come to its end."""
    page.send(picker, {"kind": kind, "id": 1, **fields})
    assert page.customs(picker, "reply")[-1] == {"kind": "reply", "id": 1, "error": None}
    assert picker.wait(60)
    outcome: dict[str, Any] = picker.registration
    return outcome


def test_a_model_that_is_registered_is_chosen(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    picker.register("mine", "some-source", provider_id="exact")
    assert picker.value == "mine"
    assert picker.card is not None
    assert picker.card.provider_id == "exact"


def test_the_form_offers_the_providers_of_the_run_config_and_registers_with_one(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    assert [one["provider_id"] for one in picker.providers] == ["local", "exact"]
    outcome = asked(page, picker, "register", source=" smollm2-135m-instruct ", name="mine", provider_id="exact")
    assert outcome == {"state": "done", "said": "Registered mine in float32."}
    assert picker.value == "mine"
    assert page.writes(picker, "registration")[0] == {"state": "working", "said": "Registering mine …"}
    assert page.writes(picker, "value")[-1] == "mine"


def test_a_source_alone_gives_its_own_name(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    assert asked(page, picker, "register", source="third", name="", provider_id="local")["state"] == "done"
    assert picker.value == "third"


@pytest.mark.parametrize(
    "source, words", [("/no/such/folder", "no folder /no/such/folder"), ("big-70b", "choose a smaller model")]
)
def test_a_refusal_is_said_in_words_and_the_choice_stays(page: Page, source: str, words: str) -> None:
    picker = ModelPicker(FakeSession())
    outcome = asked(page, picker, "register", source=source, name="", provider_id="local")
    assert outcome["state"] == "failed"
    assert words in outcome["said"]
    assert picker.value == "smollm2-135m-instruct"
    with pytest.raises(UnknownModelError, match="no folder"):
        picker.register("x", "/no/such/folder")


def test_a_form_without_a_source_is_refused_at_once(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    page.send(picker, {"kind": "register", "id": 4, "source": "  ", "name": "x", "provider_id": "local"})
    (reply,) = page.customs(picker, "reply")
    assert reply["id"] == 4
    assert reply["error"] == "Enter a catalog name, a folder, a GGUF file or a hub id."


def test_a_refused_field_is_named_as_the_form_names_it(page: Page) -> None:
    class Refusing(FakeSession):
        def register_model(self, identifier: str, source: str | None = None, **_: Any) -> Any:
            raise InvalidRequestError(identifier if source is None else source, "x", "another; see identifier")

    picker = ModelPicker(Refusing())
    for field, name, label in (
        ("identifier", "", "Source"),
        ("identifier", "mine", "Name"),
        ("metadata.precision", "", "Precision"),
        ("metadata.device", "", "Device"),
        ("provider_id", "mine", "Provider"),
        ("prompt", "", "prompt"),
    ):
        outcome = asked(page, picker, "register", source=field, name=name, provider_id="local")
        assert outcome == {"state": "failed", "said": f"{label} must be another; see identifier; got 'x'"}


def test_a_click_returns_while_the_weights_are_fetched_and_a_second_one_waits_its_turn(page: Page) -> None:
    session = FakeSession()
    session.may_register.clear()
    picker = ModelPicker(session)
    page.send(picker, {"kind": "register", "id": 1, "source": "slow", "name": "", "provider_id": "local"})
    assert picker.registration["state"] == "working"
    assert not picker.wait(0)
    page.send(picker, {"kind": "register", "id": 2, "source": "other", "name": "", "provider_id": "local"})
    assert "another model is being registered or removed" in page.customs(picker, "reply")[-1]["error"]
    session.may_register.set()
    assert picker.wait(60)
    assert (picker.registration["state"], picker.value) == ("done", "slow")


def test_the_bytes_of_a_download_are_shown_twice_a_second_and_at_its_end(page: Page) -> None:
    session = FakeSession()
    session.downloads = [("wait", 0, None), *(("download", done, 1000) for done in range(0, 1001, 10))]
    picker = ModelPicker(session)
    outcome = asked(page, picker, "register", source="mine", name="", provider_id="local")
    assert outcome["state"] == "done"
    shown = [one for one in page.writes(picker, "registration") if "stage" in one]
    working = {"state": "working", "said": "Registering mine …"}
    assert shown[0] == working | {"stage": "wait", "done": 0, "total": None}
    assert shown[-1] == working | {"stage": "download", "done": 1000, "total": 1000}
    assert len(shown) < 20  # of 102, even where this takes seconds


def test_a_picker_that_was_closed_meanwhile_says_nothing_more(page: Page) -> None:
    session = FakeSession()
    session.may_register.clear()
    picker = ModelPicker(session)
    page.send(picker, {"kind": "register", "id": 1, "source": "slow", "name": "", "provider_id": "local"})
    picker.close()
    session.may_register.set()
    assert picker.wait(60)
    assert picker.registration["state"] == "working"
    assert [model.identifier for model in session.list_models()][-1] == "slow"


def test_an_unregistered_model_is_gone_and_the_first_one_is_chosen(page: Page) -> None:
    picker = ModelPicker(FakeSession(), value="exact/smollm2-135m-instruct")
    outcome = asked(page, picker, "unregister", value="exact/smollm2-135m-instruct")
    assert outcome["said"].startswith("Removed exact/smollm2-135m-instruct.")
    assert [card["value"] for card in picker.cards] == ["smollm2-135m-instruct"]
    assert asked(page, picker, "unregister", value="exact/smollm2-135m-instruct")["state"] == "failed"
    picker.unregister()
    assert picker.value is None
    with pytest.raises(InvalidRequestError, match="the name of a served model"):
        picker.unregister()


def test_a_model_of_another_kind_is_registered_and_not_chosen(page: Page) -> None:
    picker = ModelPicker(FakeSession())
    picker.register("all-minilm-l6-v2", provider_id="exact")
    assert picker.value == "smollm2-135m-instruct"


def test_the_static_twin_names_the_template(page: Page) -> None:
    assert "template 5d3c5d3c5d3c" in ModelPicker(FakeSession()).static_html()


# ---------------------------------------------------------------------------------------------- on this machine


def test_models_are_looked_for_when_the_page_asks_and_kept_in_no_trait(page: Page) -> None:
    session = FakeSession()
    picker = ModelPicker(session)
    page.send(picker, {"kind": "find", "id": 3})
    assert page.customs(picker, "found") == [
        {"kind": "found", "models": [asdict(model) | {"aliases": []} for model in session.models_found()]}
    ]
    assert page.customs(picker, "reply") == [{"kind": "reply", "id": 3, "error": None}]
    assert "llama3.2:1b" not in str(picker.get_state()) + picker.static_html()


def test_a_search_that_fails_says_why(page: Page) -> None:
    class Failing(FakeSession):
        def models_found(self) -> list[FoundModel]:
            raise InvalidRequestError("HOME", "~nobody", "a path whose ~ names a user of this machine")

    picker = ModelPicker(Failing())
    page.send(picker, {"kind": "find", "id": 3})
    (reply,) = page.customs(picker, "reply")
    assert "HOME must be a path" in reply["error"]


# --------------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(
    "provider_type, config, default",
    [
        ("inline::transformers", {}, "float32 (default)"),
        (
            "inline::transformers",
            {"catalog_quantization": {"type": "int4"}},
            "float32 (default; int4 for catalog models)",
        ),
        ("inline::transformers", {"quantization": {"type": "int8"}}, "int8 (default)"),
        ("inline::ray", {"engine": {"quantization": {"type": "bf16"}}}, "bf16 (default)"),
    ],
)
def test_the_form_offers_the_precisions_of_a_provider_that_holds_the_weights(
    provider_type: str, config: dict[str, Any], default: str
) -> None:
    choices = precision_choices(Provider(provider_id="one", provider_type=provider_type, config=config))
    assert choices[0] == {"value": "", "text": default}
    assert [one["value"] for one in choices[1:]] == ["float32", "bf16", "fp8", "int8", "int4"]


@pytest.mark.parametrize(
    "provider_type, config",
    [("inline::echo", {}), ("remote::ollama", {}), ("inline::ray", {"engine_type": "inline::echo"})],
)
def test_the_form_offers_no_precision_of_weights_that_are_elsewhere(provider_type: str, config: dict[str, Any]) -> None:
    assert precision_choices(Provider(provider_id="one", provider_type=provider_type, config=config)) == []


@pytest.mark.parametrize("chosen, precision", [("int8", "int8"), ("", None), (None, None)])
def test_the_precision_of_the_form_is_the_registrations(page: Page, chosen: str | None, precision: str | None) -> None:
    given: list[str | None] = []

    class Noting(FakeSession):
        def register_model(self, *args: Any, precision: str | None = None, **options: Any) -> Any:
            given.append(precision)
            return super().register_model(*args, **options)

    picker = ModelPicker(Noting())
    asked(page, picker, "register", source="third", name="", provider_id="local", precision=chosen)
    assert given == [precision]


# ---------------------------------------------------------------------------------------------------------- device


def test_devices_are_offered_only_where_there_is_more_than_the_cpu(page: Page) -> None:
    provider = Provider(provider_id="one", provider_type="inline::transformers", config={})
    named = provider.model_copy(update={"config": {"device": "cpu"}})
    assert device_choices(provider, []) == device_choices(provider, ["cpu"]) == []
    for one, default in ((provider, "cuda:0"), (named, "cpu")):
        assert device_choices(one, ["cuda:0", "cpu"]) == [
            {"value": "", "text": f"{default} (default)"},
            {"value": "cuda:0", "text": "cuda:0"},
            {"value": "cpu", "text": "cpu"},
        ]
    session = FakeSession()
    assert [one["devices"] for one in ModelPicker(session).providers] == [[], []]
    session.devices_here = ["cuda:0", "cpu"]
    picker = ModelPicker(session)
    assert [len(one["devices"]) for one in picker.providers] == [3, 3]
    outcome = asked(page, picker, "register", source="third", name="", provider_id="local", device="cuda:0")
    assert outcome["said"] == "Registered third in int4 on cuda:0."
    assert "on cuda:0" in picker.static_html()
    assert asked(page, picker, "register", source="fourth", device="")["said"] == "Registered fourth in int4."
    assert "cpu" not in picker.static_html()
