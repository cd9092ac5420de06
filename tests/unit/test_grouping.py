"""Tests that share what takes long to start are run by one process."""

from __future__ import annotations

import pytest


def test_the_process_that_shares_out_the_tests_is_told_their_groups(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("one process runs all tests")
    assert all("@" in item.nodeid for item in request.session.items)
