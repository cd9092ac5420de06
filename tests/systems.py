"""Marks of tests that need what not every system has, nor the one that ``tests/other_system`` simulates."""

from __future__ import annotations

import os
import sys

import pytest

SYSTEM = os.environ.get("SIMULATED_SYSTEM") or sys.platform

needs_fork = pytest.mark.skipif(SYSTEM == "win32", reason="Windows has no fork")
needs_pipes_as_files = pytest.mark.skipif(SYSTEM == "win32", reason="Windows has no pipes among its files")
