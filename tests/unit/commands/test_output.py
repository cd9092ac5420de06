"""Output is what was meant in every encoding that a terminal or a pipe may have."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.commands import output


@given(st.text(), st.sampled_from(["utf-8", "cp1252", "ascii", "utf-16"]))
def test_json_is_read_back_whatever_the_encoding(text: str, encoding: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    with pytest.MonkeyPatch.context() as patch:
        written = io.BytesIO()
        patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace"))
        output.print_json({"text": text})
        sys.stdout.flush()
        assert json.loads(written.getvalue().decode(encoding)) == {"text": text}


def test_json_in_utf_8_is_not_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json("Straße 🌍")
    assert capsys.readouterr().out == '"Straße 🌍"\n'
