"""The widgets' modules in a blank page: what is drawn, what is sent, and what is cleaned up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.unit.widgets.fake_session import FakeRun, FakeSession
from workbench.protocol import SamplingParams, SamplingStrategy
from workbench.widgets import ModelPicker, SamplingControls, playground


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def texts(host: ModuleHost, selector: str) -> list[str]:
    return host.browser.locator(selector).all_text_contents()


# ----------------------------------------------------------------------------------------------------- the controls


def test_a_value_out_of_range_is_explained_and_the_last_good_one_stays(modules: ModuleHost) -> None:
    controls = SamplingControls()
    before = controls.value
    modules.show(controls)
    for label, typed, allowed in [
        ("Temperature", "-1", "0 to 1,000,000"),
        ("Temperature", "nan", "0 to 1,000,000"),
        ("Temperature", "1e999", "0 to 1,000,000"),
        ("Top-p", "1.5", "above 0 and at most 1"),
        ("Top-p", "0", "above 0 and at most 1"),
        ("Max tokens", "2.5", "a whole number, 0 or above"),
        ("Repetition penalty", "0", "above 0"),
        ("Seed", "-3", "a whole number, 0 or above, or leave it empty"),
        ("Seed", "9223372036854775808", "a whole number, 0 or above, or leave it empty"),
    ]:
        field = modules.browser.get_by_role("textbox", name=label, exact=True)
        good = field.input_value()
        field.fill(typed)
        modules.carry()
        assert field.get_attribute("aria-invalid") == "true", (label, typed)
        expect(modules.browser.get_by_role("alert").filter(has_text="Keeping")).to_contain_text(allowed)
        assert controls.value == before
        field.fill(good)
        expect(modules.browser.get_by_role("alert").filter(has_text="Keeping")).to_have_count(0)


def test_what_is_typed_and_slid_is_the_value_in_python(modules: ModuleHost) -> None:
    controls = SamplingControls()
    modules.show(controls)
    page = modules.browser
    page.get_by_label("Temperature", exact=True).fill("0,9")
    page.get_by_label("Seed").fill("9223372036854775807")
    page.get_by_label("Max tokens").fill("70")
    page.get_by_label("Top-p, slider").fill("0.5")
    page.get_by_role("textbox", name="Stop strings").fill("\\nUser:")
    page.get_by_role("textbox", name="Stop strings").press("Enter")
    modules.carry()
    value = controls.value
    assert (value.temperature, value.seed, value.max_tokens, value.top_p) == (0.9, 2**63 - 1, 70, 0.5)
    assert value.stop == ["\nUser:"]
    page.get_by_role("button", name="Remove").click()
    modules.carry()
    assert controls.value.stop is None


def test_one_click_applies_what_the_model_recommends(modules: ModuleHost) -> None:
    controls = SamplingControls()
    before = controls.value
    modules.show(controls)
    button = modules.browser.locator(".wb-own")
    expect(button).to_be_hidden()
    controls.recommend({"strategy": "top_k", "temperature": 0.6, "top_k": 20, "min_p": 0.05})
    modules.carry()
    expect(button).to_have_text("Model's own: temperature 0.6 · top-k 20 · min-p 0.05")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert controls.value == before
    button.click()
    modules.carry()
    expect(button).to_have_attribute("aria-pressed", "true")
    value = controls.value
    assert (value.strategy, value.temperature, value.top_k, value.min_p) == ("top_k", 0.6, 20, 0.05)
    assert value.max_tokens == before.max_tokens


def test_setting_the_value_moves_every_view(modules: ModuleHost) -> None:
    controls = SamplingControls()
    modules.show(controls)
    modules.show(controls)
    controls.value = SamplingParams(strategy=SamplingStrategy.top_k, temperature=1.25, top_k=40, seed=7)
    modules.carry()
    fields = modules.browser.get_by_label("Temperature", exact=True)
    assert [fields.nth(i).input_value() for i in range(2)] == ["1.25", "1.25"]
    assert modules.browser.get_by_label("Top-k", exact=True).nth(3).input_value() == "40"
    sliders = modules.browser.get_by_label("Temperature, slider")
    assert [sliders.nth(i).input_value() for i in range(2)] == ["1.25", "1.25"]


def test_a_control_that_the_strategy_ignores_is_disabled_and_says_why(modules: ModuleHost) -> None:
    controls = SamplingControls()
    modules.show(controls)
    page = modules.browser
    page.get_by_role("radio", name="Greedy").check()
    modules.carry()
    field = page.get_by_label("Temperature", exact=True)
    expect(field).to_be_disabled()
    expect(field).to_have_accessible_description("Not used by greedy. Divides the logits: below 1 the likely tokens gain, above 1 the unlikely ones. 0 is greedy.")  # fmt: skip  # noqa: E501
    assert controls.value.strategy == "greedy"
    expect(page.get_by_label("Max tokens")).to_be_enabled()


def test_presets_set_the_controls_and_are_recognised(modules: ModuleHost) -> None:
    controls = SamplingControls()
    modules.show(controls)
    preset = modules.browser.get_by_label("Preset")
    preset.select_option("Neutral")
    modules.carry()
    assert (controls.value.temperature, controls.value.top_p) == (1.0, 1.0)
    modules.browser.get_by_label("Temperature", exact=True).fill("0.3")
    modules.carry()
    expect(preset).to_have_value("")


def test_copy_as_code_copies_the_call(modules: ModuleHost) -> None:
    controls = SamplingControls(SamplingParams(max_tokens=5))
    modules.show(controls)
    modules.browser.evaluate("document.execCommand = () => { wb.copied = document.activeElement.value; return true; }")
    modules.browser.get_by_role("button", name="Copy as code").click()
    modules.wait("wb.copied === 'wb.SamplingParams(max_tokens=5)'")
    expect(modules.browser.get_by_role("status")).to_have_text("Copied")


# ------------------------------------------------------------------------------------------------------- the picker


def test_models_are_grouped_by_provider_and_the_choice_reaches_python(modules: ModuleHost) -> None:
    picker = ModelPicker(FakeSession())
    modules.show(picker)
    groups = "(select) => [...select.children].map((g) => [g.label, [...g.children].map((o) => o.textContent)])"
    select = modules.browser.get_by_label("Model", exact=True)
    assert select.evaluate(groups) == [["local", ["smollm2-135m-instruct"]], ["exact", ["smollm2-135m-instruct"]]]
    facts = "135 M · int4 · 8,192-token context · about 600 MB of 2 GB when loaded"
    assert texts(modules, ".wb-model-facts") == [facts]
    select.select_option("exact/smollm2-135m-instruct")
    modules.carry()
    assert picker.value == "exact/smollm2-135m-instruct"
    expect(modules.browser.locator(".wb-model-facts")).to_contain_text("float32")


def test_the_card_opens_by_keyboard(modules: ModuleHost) -> None:
    modules.show(ModelPicker(FakeSession()))
    button = modules.browser.get_by_role("button", name="Model card")
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    expect(modules.browser.locator(".wb-card")).to_contain_text("Apache-2.0")


def test_a_model_is_registered_from_the_form_and_taken_back(modules: ModuleHost) -> None:
    picker = ModelPicker(FakeSession())
    modules.show(picker)
    page = modules.browser
    opener = page.get_by_role("button", name="Register…")
    opener.press("Enter")
    expect(page.get_by_label("Source")).to_be_focused()
    page.get_by_label("Source").fill("/no/such/folder")
    page.get_by_label("Source").press("Enter")
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'failed'")
    expect(page.get_by_role("alert")).to_have_text("there is no folder /no/such/folder")
    page.get_by_label("Source").fill("third")
    page.get_by_label("Name").fill("mine")
    page.get_by_label("Provider").select_option("exact")
    page.get_by_role("button", name="Register", exact=True).click()
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'done'")
    modules.wait("document.querySelector('.wb-picker').dataset.wbValue === 'mine'")
    expect(page.get_by_role("status").first).to_have_text("Registered mine in float32.")
    expect(page.get_by_role("group", name="Register a model")).to_be_hidden()
    expect(opener).to_be_focused()
    page.get_by_role("button", name="Model card").click()
    page.get_by_role("button", name="Unregister…").click()
    expect(page.get_by_role("button", name="Keep")).to_be_focused()
    page.get_by_role("button", name="Unregister", exact=True).click()
    modules.wait("document.querySelector('.wb-picker').dataset.wbValue === 'smollm2-135m-instruct'")
    assert [card["value"] for card in picker.cards] == ["smollm2-135m-instruct", "exact/smollm2-135m-instruct"]


def test_the_form_is_left_by_escape_and_kept_while_a_model_is_fetched(modules: ModuleHost) -> None:
    session = FakeSession()
    session.may_register.clear()
    picker = ModelPicker(session)
    modules.show(picker)
    page = modules.browser
    page.get_by_role("button", name="Register…").click()
    page.get_by_label("Source").press("Escape")
    expect(page.get_by_label("Source")).to_be_hidden()
    page.get_by_role("button", name="Register…").click()
    page.get_by_role("button", name="Register", exact=True).click()
    modules.wait("!document.querySelector('[role=alert]').hidden")
    expect(page.get_by_role("alert")).to_have_text("Enter a catalog name, a folder, a GGUF file or a hub id.")
    page.get_by_label("Source").fill("slow")
    page.get_by_label("Source").press("Enter")
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'working'")
    expect(page.get_by_role("button", name="Registering …")).to_be_disabled()
    expect(page.get_by_role("alert")).to_be_hidden()
    session.may_register.set()
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'done'")


def test_what_went_wrong_goes_with_the_form_and_with_the_next_attempt(modules: ModuleHost) -> None:
    session = FakeSession()
    picker = ModelPicker(session)
    modules.show(picker)
    page = modules.browser
    alert = page.locator(".wb-outcome [role=alert]")
    for leave in ("Escape", "opener", "next"):
        page.get_by_role("button", name="Register…").click()
        page.get_by_label("Source").fill("/no/such/folder")
        page.get_by_label("Source").press("Enter")
        modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'failed'")
        expect(alert).to_be_visible()
        session.may_register.clear()
        if leave == "Escape":
            page.get_by_label("Source").press("Escape")
        elif leave == "opener":
            page.get_by_role("button", name="Register…").click()
        else:
            page.get_by_label("Source").press("Enter")
        expect(alert).to_be_hidden()
        modules.carry()
        assert picker.registration["state"] == ("working" if leave == "next" else "idle")
        session.may_register.set()


def test_a_download_is_shown_as_one_bar_of_bytes(modules: ModuleHost) -> None:
    session = FakeSession()
    session.downloads = [("download", 1_150_000_000, 2_300_000_000)]
    session.may_register.clear()
    picker = ModelPicker(session)
    modules.show(picker)
    page = modules.browser
    page.get_by_role("button", name="Register…").click()
    page.get_by_label("Source").fill("org@name")
    page.get_by_label("Source").press("Enter")
    modules.wait("!document.querySelector('.wb-download').hidden")
    bar = page.get_by_role("progressbar", name="Download")
    expect(page.locator(".wb-download")).to_have_text("1.1 GB of 2.3 GB downloaded")
    assert bar.evaluate("bar => bar.position") == pytest.approx(0.5)
    session.may_register.set()
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'done'")
    expect(page.locator(".wb-download")).to_be_hidden()


def test_the_form_offers_the_precisions_and_registers_in_the_chosen_one(modules: ModuleHost) -> None:
    session = FakeSession()
    given: list[str | None] = []
    register = session.register_model

    def noting(*args: Any, precision: str | None = None, **named: Any) -> Any:
        given.append(precision)
        return register(*args, **named)

    session.register_model = noting  # type: ignore[method-assign]
    modules.show(ModelPicker(session))
    page = modules.browser
    page.get_by_role("button", name="Register…").click()
    precision = page.get_by_label("Precision")
    expect(precision.locator("option")).to_have_text(["float32 (default)", "float32", "bf16", "fp8", "int8", "int4"])
    precision.select_option("int8")
    page.get_by_label("Source").fill("third")
    page.get_by_label("Source").press("Enter")
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'done'")
    assert given == ["int8"]


def test_the_sampling_controls_fold_into_a_line_that_says_their_settings(modules: ModuleHost) -> None:
    controls = SamplingControls(expanded=False)
    modules.show(controls)
    page = modules.browser
    fold = page.get_by_role("button", name="Sampling")
    expect(fold).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("slider").first).to_be_hidden()
    line = page.locator(".wb-settings")
    expect(line).to_have_text("top-p 0.95 · temperature 0.7 · up to 256 tokens")
    page.get_by_label("Preset").select_option("Precise")
    expect(line).to_have_text("greedy · up to 256 tokens")
    fold.press("Enter")
    modules.carry()
    expect(page.get_by_role("slider").first).to_be_visible()
    expect(line).to_be_hidden()
    assert controls.expanded
    controls.expanded = False
    modules.carry()
    expect(line).to_be_visible()


# ----------------------------------------------------------------------------------------------------- all together


@pytest.mark.parametrize("width", [480, 850, 1090])
def test_the_prompt_is_the_first_stop_of_the_keyboard_and_nothing_stands_above_it(
    modules: ModuleHost, width: int
) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    modules.show(playground(FakeSession()))
    page = modules.browser
    page.keyboard.press("Tab")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    tops = "(parts) => parts.map((part) => part.getBoundingClientRect().top)"
    prompt, *others = page.locator(".wb-prompt, .wb-playground :is(button, select, input):visible").evaluate_all(tops)
    assert prompt < min(others)
    # The keyboard goes the way of the eye: what is reached later stands in the same row or below.
    reached = [prompt]
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getBoundingClientRect().bottom"))
    assert all(later > before - 30 for before, later in pairwise(reached))


def test_a_model_without_a_chat_template_is_asked_for_a_completion_and_the_page_says_why(modules: ModuleHost) -> None:
    session = FakeSession()
    session.without_template = {"exact/smollm2-135m-instruct"}
    shown = playground(session, prompt="Once")
    modules.show(shown)
    page = modules.browser
    page.get_by_label("Model", exact=True).select_option("exact/smollm2-135m-instruct")
    modules.carry()
    expect(page.get_by_role("radio", name="Completion")).to_be_checked()
    expect(page.get_by_role("radio", name="Chat")).to_be_disabled()
    expect(page.get_by_text("exact/smollm2-135m-instruct has no chat template")).to_be_visible()
    page.locator(".wb-run").click()
    modules.wait("document.querySelector('.wb-playground').dataset.wbState === 'finished'")
    assert session.calls[-1]["method"] == "completion"
    page.get_by_label("Model", exact=True).select_option("smollm2-135m-instruct")
    modules.carry()
    expect(page.get_by_role("radio", name="Chat")).to_be_checked()
    expect(page.get_by_text("has no chat template")).to_be_hidden()


def test_an_attempt_that_fails_leaves_the_answer_on_the_screen(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    shown = playground(session, prompt="Hi")
    modules.show(shown)
    page = modules.browser
    page.locator(".wb-run").click()
    modules.wait("document.querySelector('.wb-playground').dataset.wbState === 'finished'")
    text = page.locator(".wb-output").inner_text()
    session._texts, session._error = [], RuntimeError("the template refuses it")
    page.locator(".wb-run").click()
    modules.wait("document.querySelector('.wb-stream .wb-error').textContent !== ''")
    expect(page.get_by_role("alert").filter(has_text="the template refuses it")).to_be_visible()
    assert page.locator(".wb-output").inner_text() == text


def test_a_restarted_kernel_disables_the_controls_and_leaves_what_there_is_to_read(modules: ModuleHost) -> None:
    shown = playground(FakeSession())
    modules.show(shown)
    shown.feed.follow(finished(FakeRun()))
    modules.carry()
    page = modules.browser
    text = page.locator(".wb-output").inner_text()
    page.evaluate("(ref) => wb.model(ref).emit('comm_live_update')", f"anywidget:{shown.model_id}")
    expect(page.get_by_role("alert").filter(has_text="The kernel was restarted.")).to_have_count(1)
    for control in page.locator("button, input, select, textarea").all():
        expect(control).to_be_disabled()
    assert page.locator(".wb-output").inner_text() == text


@pytest.mark.parametrize("width", [360, 1090])
def test_choosing_a_token_moves_nothing(modules: ModuleHost, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    shown = playground(FakeSession())
    modules.show(shown)
    shown.feed.follow(finished(FakeRun()))
    modules.carry()
    tops = "(parts) => parts.map((part) => part.getBoundingClientRect().top)"
    parts = modules.browser.locator(".wb-output, .wb-metrics, .wb-tabs")
    before = parts.evaluate_all(tops)
    shown.selected = 3
    modules.wait("document.querySelector('.wb-sampled ~ *') !== null")
    assert parts.evaluate_all(tops) == before


def test_tabs_show_the_code_of_the_next_run(modules: ModuleHost) -> None:
    shown = playground(FakeSession(), prompt="Hi")
    modules.show(shown)
    for key, tab in [("ArrowRight", "waterfall"), ("ArrowRight", "layers"), ("End", "code")]:
        modules.browser.get_by_role("tab", selected=True).press(key)
        modules.carry()
        assert shown.tab == tab
    expect(modules.browser.get_by_role("tabpanel")).to_contain_text('[wb.UserMessage(content="Hi")]')
