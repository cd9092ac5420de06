"""Values are read as Python's own readers read them, in any cut, and what those would not read is refused."""

from __future__ import annotations

import ast
import itertools
import json
import math
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.prompts.tools.literals import MAX_DEPTH, LiteralReader

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
objects = st.dictionaries(st.text(), values, max_size=4)


def read(text: str, *, python: bool = False, places: tuple[int, ...] = ()) -> LiteralReader:
    reader = LiteralReader(python=python)
    for start, end in itertools.pairwise([0, *sorted(places), len(text)]):
        reader.feed(text[start:end])
    return reader


@given(objects, st.booleans(), st.sampled_from([None, 1]), st.data())
def test_json_is_read_as_json_reads_it(value: Any, ascii_only: bool, indent: int | None, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    reader = read(text, places=tuple(data.draw(st.lists(st.integers(0, len(text)), max_size=5))))
    assert reader.fault is None
    assert reader.ended
    assert reader.value == json.loads(text)


@given(objects, st.data())
def test_python_literals_are_read_as_python_reads_them(value: Any, data: st.DataObject) -> None:
    text = repr(value)
    reader = read(text, python=True, places=tuple(data.draw(st.lists(st.integers(0, len(text)), max_size=5))))
    assert reader.fault is None
    assert reader.value == ast.literal_eval(text)


PIECES = (
    *'{}[],:"\\ 01-+.eE\n',
    '"a"',
    "true",
    "null",
    "nul",
    "12",
    "0.5",
    "\\u00e9",
    "\\ud800",
    "\\",
    "\x01",
    "é",
    "{}",
)


def refuse(name: str) -> NoReturn:
    raise ValueError(name)


@given(st.lists(st.sampled_from(PIECES), max_size=14))
def test_a_text_is_refused_exactly_where_json_is(pieces: list[str]) -> None:
    text = '{"a":' + "".join(pieces) + "}"
    reader = read(text)
    try:
        expected = json.loads(text, parse_constant=refuse)
    except ValueError:
        assert reader.fault is not None or not reader.ended or reader.feed(text) < len(text)
    else:
        assert reader.fault is None
        assert reader.ended
        assert reader.value == json.loads(json.dumps(expected).replace("\\ud800", "\\ufffd"))


PYTHON_PIECES = (
    *"{}[](),:'\"\\ 01-.\n",
    "'a'",
    '"""',
    "'''",
    "True",
    "None",
    "12",
    "0.5",
    "\\x41",
    "\\101",
    "\\N",
    "\\q",
    "#",
)


@given(st.lists(st.sampled_from(PYTHON_PIECES), max_size=14))
def test_whatever_is_taken_for_a_python_literal_is_one(pieces: list[str]) -> None:
    text = "{'a':" + "".join(pieces) + "}"
    reader = LiteralReader(python=True)
    end = reader.feed(text)
    if reader.ended:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown escapes stand for themselves, with a warning
            assert reader.value == as_json(ast.literal_eval(text[:end]))


def as_json(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return {key: as_json(one) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    "text,value",
    [
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ('{"a": "\\ud83d"}', {"a": "\ufffd"}),
        ('{"a": 1e308, "b": -0, "c": 0.0}', {"a": 1e308, "b": 0, "c": 0.0}),
    ],
)
def test_where_json_leaves_a_choice_it_is_the_documented_one(text: str, value: Any) -> None:
    assert read(text).value == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "b\nc"}',
        '{"a": "\x00"}',
        '{"a": 01}',
        '{"a": .5}',
        '{"a": +1}',
        '{"a": 1,}',
        "{'a': 1}",
        '{"a": True}',
        '{"a" 1}',
        '{"a": [}',
        "[1]",
        "1",
    ],
)
def test_what_json_has_not_is_refused(text: str) -> None:
    reader = read(text)
    assert reader.fault
    assert not reader.ended


def test_brackets_nest_to_the_limit_and_no_deeper() -> None:
    for depth, fits in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False)):
        reader = read('{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}")
        assert (reader.fault is None) == fits == reader.ended


@pytest.mark.parametrize(
    "text,arguments",
    [
        (")", {}),
        (" a = 1 , b='x' )", {"a": 1, "b": "x"}),
        ("a=[1, 2,], b=(1,), c=(1), d=(),)", {"a": [1, 2], "b": [1], "c": 1, "d": []}),
        ("a={'x': -1.5e3,})", {"a": {"x": -1500}}),
        ("a=true, b=null, c=None)", {"a": True, "b": None, "c": None}),
        ("a=1_000, b=+.5, c=1., d='')", {"a": 1000, "b": 0.5, "c": 1.0, "d": ""}),
        ("a='''it's\n\"''', b=\"\"\"\"\"\")", {"a": "it's\n\"", "b": ""}),
        (r"a='\x41\101\u00e9\n\'\q\/\\')", {"a": "AAé\n'\\q/\\"}),
    ],
)  # fmt: skip
def test_the_arguments_of_a_call(text: str, arguments: dict[str, Any]) -> None:
    for places in ((), tuple(range(len(text)))):
        reader = LiteralReader(python=True, arguments=True)
        for start, end in itertools.pairwise([0, *places, len(text)]):
            reader.feed(text[start:end])
        assert reader.fault is None
        assert reader.value == arguments


@pytest.mark.parametrize(
    "text", ["1)", "a=b)", "a=1 b=2)", "a=1, a=2)", "**a)", "a=f'x')", "a=0x1f)", "a=1+1)", "a='b\nc')"]
)
def test_what_would_have_to_be_computed_is_refused(text: str) -> None:
    reader = LiteralReader(python=True, arguments=True)
    reader.feed(text)
    assert reader.fault


def test_numbers_are_finite() -> None:
    reader = read('{"a": [1e-999, 123456789012345678901234567890]}')
    assert reader.value == {"a": [0.0, 123456789012345678901234567890]}
    assert all(math.isfinite(number) for number in reader.value["a"])
