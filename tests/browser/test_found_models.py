"""The picker lists the models that other programs have downloaded, and a click serves one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.fakes.found_models import empty_home, fill
from tests.unit.widgets.fake_session import FakeSession
from workbench.found import find_models
from workbench.protocol import ModelDefWithProvider
from workbench.records import FoundModel
from workbench.widgets import ModelPicker


class FindingSession(FakeSession):
    """Finds the models of a home, and serves what a real session would serve."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.registered: list[tuple[Any, ...]] = []

    def models_found(self) -> list[FoundModel]:
        return find_models([self._folder])

    def register_model(self, identifier: str, source: str | None = None, **options: Any) -> ModelDefWithProvider:
        self.registered.append((identifier, source, options))
        return super().register_model(Path(identifier).name, **options)


def test_models_on_this_machine_are_listed_and_a_click_serves_one(
    modules: ModuleHost, screenshots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = empty_home(tmp_path / "home", monkeypatch)
    fill(home)
    session = FindingSession(home / "my models")
    picker = ModelPicker(session)
    modules.show(picker)
    page = modules.browser
    opener = page.get_by_role("button", name="On this machine…")
    opener.press("Enter")
    modules.wait("document.querySelectorAll('.wb-found li').length > 0")
    panel = page.get_by_role("group", name="On this machine")
    names = panel.locator("li b").all_text_contents()
    assert names == [model.name for model in sorted(session.models_found(), key=lambda model: not model.servable)]
    assert len(set(names)) == len(names) == 10
    expect(panel.get_by_role("status")).to_have_text("10 found, 9 of which can be served.")
    ollama = panel.locator("li", has_text="llama3.2:1b")
    expect(ollama).to_contain_text("Ollama · llama · 4,672 · Q4_K_M · 18 kB · fits in memory")
    expect(ollama.get_by_role("button")).to_be_enabled()
    mlx = panel.locator("li", has_text="publisher/mlx")
    expect(mlx).to_contain_text("its quantized weights are not supported: mlx")
    expect(mlx.get_by_role("button")).to_be_disabled()
    assert Axe().run(page, context=".wb-picker").violations_count == 0
    page.locator(".wb-picker").screenshot(path=screenshots / "found-models.png")
    panel.get_by_role("button", name="Serve ~/my models/mine").click()
    modules.wait("document.querySelector('.wb-picker').dataset.wbRegistration === 'done'")
    [(identifier, source, options)] = session.registered
    assert (identifier, source) == ("~/my models/mine", None)
    assert (options["provider_id"], options["precision"]) == ("local", None)
    assert picker.value == "mine"
    expect(panel.get_by_role("button", name="Serve ~/my models/mine")).to_be_enabled()
    opener.click()
    expect(panel).to_be_hidden()
