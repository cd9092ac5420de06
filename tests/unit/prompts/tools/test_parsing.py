"""However an answer is cut into pieces, its text and its calls are the same; nothing in it makes the parser raise."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.assistant_texts import PROSE, AssistantText, corpus, tools
from tests.budget import budget, some
from workbench.prompts.tools.call_syntax import WINDOW
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.parsing import ToolCallParser
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.protocol import ToolCall, ToolCallDelta, ToolCallParseStatus, ToolDefinition

TOOLS = tools()
TEXTS_OF_A_SYNTAX = budget(200)  # times five syntaxes
CUTS_OF_A_SYNTAX = budget(400)
SYNTAXES = pytest.mark.parametrize("syntax", ToolSyntax)
STARTED, IN_PROGRESS, SUCCESS, FAILURE = (
    ToolCallParseStatus[name] for name in ("started", "in_progress", "success", "failure")
)

Event = str | ToolCallDelta
Normal = list[tuple[str, Any]]


@cache
def texts(syntax: ToolSyntax) -> Sequence[AssistantText]:
    return corpus(syntax, TEXTS_OF_A_SYNTAX)


def parser(syntax: ToolSyntax, tools: Toolset = TOOLS) -> ToolCallParser:
    return ToolCallParser(tools, syntax, map("call{:05}".format, itertools.count()).__next__)


def events(pieces: Iterable[str], syntax: ToolSyntax) -> list[Event]:
    one = parser(syntax)
    return [event for piece in pieces for event in one.feed(piece)] + one.close()


def normal(all_events: list[Event]) -> Normal:
    """Events as they would be if the text had come at once: neighbours of one kind are one."""
    merged: Normal = []
    for event in all_events:
        kind, content = ("text", event) if isinstance(event, str) else (event.parse_status.value, event.content)
        if kind in {"text", "in_progress"} and merged and merged[-1][0] == kind:
            merged[-1] = (kind, merged[-1][1] + content)
        else:
            merged.append((kind, content))
    return merged


def read(text: str, syntax: ToolSyntax) -> Normal:
    return normal(events([text], syntax))


def calls_of(read: Normal) -> list[tuple[str, dict[str, Any]]]:
    return [(str(content.tool_name), content.arguments) for kind, content in read if kind == "success"]


def content_of(read: Normal) -> str:
    """What a response keeps as its content: plain text, and the raw text of failures."""
    return "".join(content for kind, content in read if kind in {"text", "failure"})


def cut(text: str, *places: int) -> list[str]:
    bounds = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


# ----------------------------------------------------------------------------------------------------------- laws


@SYNTAXES
@settings(max_examples=CUTS_OF_A_SYNTAX)
@given(index=st.integers(0, TEXTS_OF_A_SYNTAX - 1), place=st.floats(0, 1))
def test_any_cut_of_a_text_in_two_gives_what_the_whole_gives(syntax: ToolSyntax, index: int, place: float) -> None:
    text = texts(syntax)[index].text
    assert normal(events(cut(text, int(place * len(text))), syntax)) == read(text, syntax), (text, place)


@SYNTAXES
def test_any_number_of_cuts_gives_what_the_whole_gives(syntax: ToolSyntax) -> None:
    draw = random.Random(1)
    for one in texts(syntax):
        whole = read(one.text, syntax)
        assert normal(events(one.text, syntax)) == whole, one.text
        for _ in range(8):
            places = [draw.randint(0, len(one.text)) for _ in range(draw.randint(2, 20))]  # some pieces are empty
            assert normal(events(cut(one.text, *places), syntax)) == whole, (one.text, places)


@SYNTAXES
def test_whole_calls_are_read_as_they_were_written_and_prose_stays(syntax: ToolSyntax) -> None:
    known = [one for one in texts(syntax) if one.calls is not None]
    assert sum(len(one.calls or ()) for one in known) > TEXTS_OF_A_SYNTAX / 2
    for one in known:
        found = read(one.text, syntax)
        assert calls_of(found) == one.calls, one.text
        assert content_of(found) == one.plain, one.text


@SYNTAXES
def test_a_call_is_started_goes_on_and_ends_once(syntax: ToolSyntax) -> None:
    for one in texts(syntax):
        kinds = [kind for kind, _ in read(one.text, syntax) if kind != "text"]
        assert len(kinds) % 3 == 0
        for begun, going_on, ended in zip(kinds[::3], kinds[1::3], kinds[2::3], strict=True):
            assert (begun, going_on) == ("started", "in_progress")
            assert ended in {"success", "failure"}


@SYNTAXES
def test_a_failure_holds_the_raw_text_that_was_in_progress_and_nothing_is_lost(syntax: ToolSyntax) -> None:
    failures = 0
    for one in texts(syntax):
        found = read(one.text, syntax)
        for (_, going_on), (kind, content) in itertools.pairwise(found):
            if kind == "failure":
                failures += 1
                assert going_on == content
        told = "".join(content for kind, content in found if kind in {"text", "in_progress"})
        lost = subtracted(one.text, told)
        assert set(lost) <= set("</function></tool_call>], \r\n\t")  # what closes or separates calls that were read
        if not calls_of(found):
            assert told == content_of(found) == one.text
    assert failures > TEXTS_OF_A_SYNTAX / 10


def subtracted(text: str, kept: str) -> str:
    """The characters of a text that are left when ``kept`` is taken out of it, in its order."""
    rest, wanted = [], iter(kept)
    following = next(wanted, None)
    for character in text:
        if character == following:
            following = next(wanted, None)
        else:
            rest.append(character)
    assert following is None, "something was told that is not in the text"
    return "".join(rest)


FRAGMENTS = (
    *('{"type": "function", ', '{"name": "now", ', '"parameters": {', '"arguments": {}', '"name": "get_weather"', "}}"),
    *("<function=now>", "<function=", "</function>", "<tool_call>", "</tool_call>", "<tool", "[TOOL_CALLS]", "[TOOL_"),
    *("[now(", "[get_weather(location=", "'Rome'", '"Rome"', '"""', "[", "]", "(", ")", "{", "}", ",", ":", "=", "\\"),
    *(
        " ",
        "\n",
        "\n\n",
        "1",
        "-",
        "1e999",
        "NaN",
        "true",
        "None",
        "x",
        "é😀",
        "\ud83d",
        "\x00",
        "'",
        '"',
        "<",
        ">",
        "**",
    ),
)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.sampled_from(ToolSyntax), st.data())
def test_any_pile_of_fragments_is_read_alike_in_every_cut(
    fragments: list[str], syntax: ToolSyntax, data: st.DataObject
) -> None:
    text = "".join(fragments)
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    whole = read(text, syntax)
    assert normal(events(cut(text, *places), syntax)) == whole
    assert normal(events(text, syntax)) == whole
    if not calls_of(whole):
        assert content_of(whole) == text.replace("\ud83d", "\ufffd")


# ---------------------------------------------------------------------------------------------------------- prose


@SYNTAXES
@given(st.text())
def test_without_tools_everything_is_plain_text_at_once(syntax: ToolSyntax, text: str) -> None:
    one = parser(syntax, Toolset())
    for piece in ['{"name": "now", "parameters": {}}', "<tool_call>{", "[now()]", text]:
        assert one.feed(piece) == ([piece] if piece else [])
    assert one.close() == []


@SYNTAXES
def test_prose_with_brackets_and_tags_is_shown_as_it_comes(syntax: ToolSyntax) -> None:
    for text in PROSE:
        one, shown = parser(syntax), ""
        for position, character in enumerate(text, 1):
            shown += "".join(str(event) for event in one.feed(character))
            assert position - len(shown) <= len('{"name": "Bob", "a')
        assert shown + "".join(str(event) for event in one.close()) == text


@SYNTAXES
def test_what_cannot_begin_a_call_is_not_held_back(syntax: ToolSyntax) -> None:
    one = parser(syntax)
    for piece in ("a", " ", "\n", "( ", "😀", '"', "}", "]", ">", "=", "x", "\n\n"):
        assert one.feed(piece) == [piece]


@SYNTAXES
def test_no_more_than_a_window_is_ever_held_back(syntax: ToolSyntax) -> None:
    for text in ('{ "type"' + " " * 1000, "<function=" + "a" * 1000, "[" + " " * 1000, "[now" + " " * 1000, "<" * 1000):
        one, shown = parser(syntax), 0
        for position, character in enumerate(text, 1):
            shown += sum(len(str(event)) for event in one.feed(character))
            assert position - shown <= WINDOW


# ---------------------------------------------------------------------------------------------------------- calls

NOW: tuple[str, dict[str, Any]] = ("now", {})
ROME = {"location": "Rome", "days": 1, "exact": True}
ROME_JSON = '{"location": "Rome", "days": 1, "exact": true}'


@pytest.mark.parametrize(
    "syntax,text,calls,content",
    [
        ("json", '{"name": "now", "parameters": {}}', [NOW], ""),
        ("json", '{"type": "function", "name": "now"}', [NOW], ""),
        ("json", '{"name": "now", "type": "function", "arguments": {}} ok', [NOW], " ok"),
        ("json", '{"name": "now"}', [], '{"name": "now"}'),
        ("json", '\n{"name": "now", "parameters": {}}\n\t {"name": "now", "parameters": {}} \n', [NOW, NOW], "\n"),
        ("json", '{"name": "now", "parameters": {}} \n{"name": "Bo"} ', [NOW], ' \n{"name": "Bo"} '),
        ("json", f'`{{"name": "get_weather", "parameters": {ROME_JSON}}}`', [("get_weather", ROME)], "``"),
        ("json", '{"name": "now", "parameters": {}}{"name": "now", "parameters": {}}', [NOW, NOW], ""),
        ("function_tag", "<function=now>{}", [NOW], ""),
        ("function_tag", "<function=now>\n{} \n</function> ok", [NOW], " ok"),
        ("function_tag", "<function=now>{}</functio", [NOW], "</functio"),
        ("python_list", "[now( ) , now(),]!", [NOW, NOW], "!"),
        ("python_list", "[ now() and more", [NOW], " and more"),
        ("python_list", "[now(), and more]", [NOW], ", and more]"),
        ("python_list", "[get_weather(location='Rome', days=1, exact=true)]", [("get_weather", ROME)], ""),
        ("python_list", "[travel-to(cities=(), speed=+1_0.5, how=(1, (2), {'a': ()}))]",
         [("travel-to", {"cities": [], "speed": 10.5, "how": [1, 2, {"a": []}]})], ""),
        ("tool_call_tag", '<tool_call>{"name": "now"}', [NOW], ""),
        ("tool_call_tag", 'Now: <tool_call> [{"name": "now"},{"name": "now"} ]\n</tool_call>.', [NOW, NOW], "Now: ."),
        ("mistral", '[TOOL_CALLS][{"name": "now", "id": "x"}]', [NOW], ""),
        ("mistral", '[TOOL_CALLS] {"name": "now"}', [NOW], ""),
    ],
)  # fmt: skip
def test_calls_are_read_in_every_form_that_models_give_them(
    syntax: ToolSyntax, text: str, calls: list[Any], content: str
) -> None:
    found = read(text, ToolSyntax(syntax))
    assert calls_of(found) == calls
    assert content_of(found) == content


@pytest.mark.parametrize(
    "syntax,text,reason",
    [
        ("json", '{"type": "function", "name": "no_such", "parameters": {}} x', "there is no tool 'no_such'"),
        ("json", f'{{"name": "get_weather", "parameters": {ROME_JSON[:-1]}, "wind": 1}}}}', "'wind' is unknown"),
        ("json", '{"name": "get_weather", "parameters": {"location": "Rome"}}', "'days' is a required property"),
        ("json", '{"name": "now", "parameters": {}, "strict": true}', "unknown key 'strict' in the call"),
        ("json", '{"name": "now", "parameters": "{}"}', "one object"),
        ("json", '{"name": "now", "parameters": {}, "arguments": {}}', "one object"),
        ("json", '{"type": "function", "name": ["now"]}', "needs a name"),
        ("json", '{"name": "now", "parameters": {"a": NaN}}', "'NaN' is not a value"),
        ("json", '{"name": "now", "parameters": {"a": "b', "ended before the call"),
        ("function_tag", "<function=now>{'a': 1}</function>", "expected a "),
        ("function_tag", "<function=now>now</function> x", "expected a "),
        ("function_tag", "<function=no_such>{}</function> x", "no_such"),
        ("python_list", "[now(x=now())]", "'now' is not a value"),
        ("python_list", "[now(**{'x': 1})]", "found '*'"),
        ("python_list", "[now(1)]", "'1' is not a name"),
        ("python_list", "[no_such(x=1)] x", "no_such"),
        ("python_list", "[now(x=1, x=1)]", "'x' is given twice"),
        ("python_list", "[now(x=f'{1}')]", "'f' is not a value"),
        ("python_list", "[now(x=1 + 1)]", "found '+'"),
        ("python_list", "[now(x='a' 'b')]", "found a string"),
        ("tool_call_tag", "<tool_call>rubbish</tool_call> x", "expected a "),
        ("tool_call_tag", '<tool_call>{"name": "now", "arguments": {"a": }}</tool_call> x', "unexpected }"),
        ("mistral", '[TOOL_CALLS] [{"name": "now", "arguments": []}] x', "one object"),
    ],
)  # fmt: skip
def test_what_is_no_call_is_a_failure_with_its_raw_text_and_a_reason(
    syntax: ToolSyntax, text: str, reason: str
) -> None:
    one = parser(ToolSyntax(syntax))
    found = normal(one.feed(text) + one.close())
    assert [kind for kind, _ in found][:3] == ["started", "in_progress", "failure"]
    assert found[2][1] == text.removesuffix(" x")
    assert content_of(found) == text
    assert len(one.faults) == 1
    assert reason in one.faults[0]


@pytest.mark.parametrize(
    "syntax,text,failed",
    [
        ("json", '{"type": "function", "name": "now", "parameters": {"a": 1}\n{"name": "now", "parameters": {}}', 1),
        ("json", '{"type": "function", "name": "now", "parameters": {"a": "b}}\n{"name": "now", "parameters": {}}', 1),
        ("json", '{"type": "function", "name": "now", "x": [{}}]} {"name": "now", "parameters": {}}', 1),
        ("function_tag", "<function=now>{</function><function=now>{}</function>", 1),
        ("function_tag", "<function=now>{<function=now>{}</function>", 1),
        ("function_tag", "<function=now>{x\n\nText <function=now>{}</function>", 1),
        ("tool_call_tag", '<tool_call>{"name": "now", {}\n</tool_call>\n<tool_call>{"name": "now"}</tool_call>', 1),
        ("python_list", "[now(x=now()), now()]", 1),
        ("python_list", "[now(x=']\n[now()]", 1),
        ("mistral", '[TOOL_CALLS] [{"name": "no_such"}, {"name": "now", x}, {"name": "now"}]', 2),
    ],
)  # fmt: skip
def test_a_call_after_a_broken_one_is_read(syntax: ToolSyntax, text: str, failed: int) -> None:
    found = read(text, ToolSyntax(syntax))
    assert [kind for kind, _ in found].count("failure") == failed
    assert calls_of(found) == [NOW]


def test_every_call_has_an_id_of_its_own() -> None:
    one = ToolCallParser(TOOLS, ToolSyntax.python_list)
    made = [event.content for event in one.feed("[now(), now(), now()]") if isinstance(event, ToolCallDelta)]
    ids = {call.call_id for call in made if isinstance(call, ToolCall)}
    assert len(ids) == 3
    assert all(len(name) == 9 and name.isalnum() for name in ids)


def test_a_builtin_tool_is_called_by_its_name() -> None:
    toolset = Toolset.of([ToolDefinition(tool_name="brave_search")])
    one = ToolCallParser(toolset, ToolSyntax.json)
    found = normal(one.feed('{"name": "brave_search", "parameters": {"query": "x"}}') + one.close())
    assert calls_of(found) == [("brave_search", {"query": "x"})]


# -------------------------------------------------------------------------------------------------------- size

LONG: dict[str, tuple[ToolSyntax, Callable[[int], str]]] = {
    "prose": (ToolSyntax.json, lambda n: "some words " * (n // 11)),
    "open objects": (ToolSyntax.json, lambda n: "{" * n),
    "near misses": (ToolSyntax.json, lambda n: '{"type": "functio' * (n // 17)),
    "depth": (ToolSyntax.json, lambda n: '{"type": "function", "x": ' + "[" * n),
    "a long string": (ToolSyntax.json, lambda n: '{"type": "function", "x": "' + "\\n" * (n // 2)),
    "a long array": (ToolSyntax.json, lambda n: '{"type": "function", "x": [' + "1, " * (n // 3)),
    "calls": (ToolSyntax.json, lambda n: '{"name": "now", "parameters": {}}\n' * (n // 34)),
    "open tags": (ToolSyntax.tool_call_tag, lambda n: "<tool_call>{" * (n // 12)),
    "half a tag": (ToolSyntax.tool_call_tag, lambda n: "<tool_call>{x" + "</tool_cal" * (n // 10)),
    "a long name": (ToolSyntax.function_tag, lambda n: "<function=" + "a" * n),
    "open lists": (ToolSyntax.python_list, lambda n: "[" * n),
    "a long list": (ToolSyntax.python_list, lambda n: "[" + "now(), " * (n // 7)),
    "a long number": (ToolSyntax.python_list, lambda n: "[now(x=" + "1_" * (n // 2)),
    "quotes": (ToolSyntax.python_list, lambda n: '[now(x="""' + '""a' * (n // 3)),
    "more of a list": (ToolSyntax.mistral, lambda n: "[TOOL_CALLS] [" + '{"name": "now"}, ' * (n // 17)),
}


def steps_for(text: str, syntax: ToolSyntax, piece: int) -> int:
    """Calls of functions, in Python and in C: a measure of work that no other program disturbs."""
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    pieces = [text[start : start + piece] for start in range(0, len(text), piece)]
    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        events(pieces, syntax)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("kind", some([*LONG], at_least=3))
def test_twice_the_text_is_twice_the_work(kind: str) -> None:
    syntax, make = LONG[kind]
    for piece in (5, 10**6):
        once, twice = (steps_for(make(length), syntax, piece) for length in (10_000, 20_000))
        assert twice <= 2.1 * once + 200


@pytest.mark.parametrize("kind", some([*LONG], at_least=3))
def test_a_hundred_thousand_characters_of_anything_are_read(kind: str) -> None:
    syntax, make = LONG[kind]
    text = make(100_000)
    found = read(text, syntax)
    if not calls_of(found):
        assert content_of(found) == text
