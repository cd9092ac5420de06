"""Widgets are dark where the page around them is, in every host's way of being dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import playground

JUPYTER = """
body { color: #000; --jp-layout-color1: #fff; --jp-layout-color2: #eee; --jp-ui-font-color1: rgb(0 0 0 / 87%); }
[data-jp-theme-light="false"] { color: #fff; background: #111; --jp-layout-color1: #111; --jp-layout-color2: #424242;
  --jp-ui-font-color0: #fff; --jp-ui-font-color1: rgb(255 255 255 / 87%); --jp-border-color2: #424242; }"""
"""As JupyterLab, Notebook 7 and Voilà have it."""
HOSTS = {
    "jupyter": (JUPYTER, "document.body.dataset.jpThemeLight = 'false'"),
    "voila": (".theme-dark { color: #fff; background: #111; }", "document.body.classList.add('theme-dark')"),
    "marimo": (".dark { color: oklch(0.95 0 0); background: #181c1a; }", "document.body.classList.add('dark')"),
    "vscode": (".vscode-dark { color: #ccc; background: #1f1f1f; }", "document.body.classList.add('vscode-dark')"),
    "page": ("html.night { color-scheme: dark; }", "document.documentElement.classList.add('night')"),
}
DARK = 100


@pytest.fixture
def box(modules: ModuleHost) -> Locator:
    session = FakeSession(tokens_per_s=5000)
    opened = playground(session)
    opened.start("Hello").wait(60)
    assert opened.feed.wait(60)
    modules.show(opened)
    return modules.browser.locator(".wb-playground")


def brightness(box: Locator) -> float:
    """Of what is drawn behind the text, 0 to 255."""
    pixel = """(el) => {
      const pixel = document.createElement("canvas").getContext("2d");
      pixel.fillStyle = getComputedStyle(el).backgroundColor;
      pixel.fillRect(0, 0, 1, 1);
      return [...pixel.getImageData(0, 0, 1, 1).data];
    }"""
    return float(sum(box.evaluate(pixel)[:3])) / 3


@pytest.mark.parametrize("host", HOSTS)
def test_a_widget_follows_its_host(modules: ModuleHost, box: Locator, host: str, screenshots: Path) -> None:
    style, switch = HOSTS[host]
    assert brightness(box) > DARK
    modules.browser.add_style_tag(content=style)
    modules.browser.evaluate(switch)
    expect(box).to_have_attribute("data-wb-scheme", "dark")
    assert brightness(box) < DARK
    text = box.evaluate("(el) => getComputedStyle(el).color")
    assert text.startswith(("rgb(255", "rgba(255", "rgb(204"))
    for part in box.locator(".wb-root").all():
        assert brightness(part) < DARK
    box.screenshot(path=screenshots / f"dark-{host}.png")


def test_a_page_that_follows_the_preference_takes_its_widgets_along(modules: ModuleHost, box: Locator) -> None:
    modules.browser.emulate_media(color_scheme="dark")
    expect(box).to_have_attribute("data-wb-scheme", "light")  # this page is light whatever is preferred
    modules.browser.add_style_tag(content="@media (prefers-color-scheme: dark) { body { color: #eee; } }")
    expect(box).to_have_attribute("data-wb-scheme", "dark")
    for preferred in ("light", "dark"):
        modules.browser.emulate_media(color_scheme=preferred)
        expect(box).to_have_attribute("data-wb-scheme", preferred)


def test_a_widget_in_a_shadow_root_follows_the_page_around_it(modules: ModuleHost, box: Locator) -> None:
    modules.browser.evaluate(
        """() => {
          const host = document.createElement("div");
          host.style.color = "#eee";
          host.attachShadow({ mode: "open" }).append(wb.views[0].el);
          document.body.append(host);
        }"""
    )
    expect(box).to_have_attribute("data-wb-scheme", "dark")
