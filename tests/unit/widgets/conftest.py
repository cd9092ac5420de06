"""Fixtures of the widgets' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.widgets.recorded_page import Page, recorded_page


@pytest.fixture
def page() -> Iterator[Page]:
    """Stands for the browser: it has what the widgets sent, and speaks to them."""
    with recorded_page() as shown:
        yield shown
