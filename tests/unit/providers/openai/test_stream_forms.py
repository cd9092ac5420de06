"""Where one event of a stream ends and the next begins, however a server writes and cuts it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.observing import Observed
from tests.fakes.scripted_server import ScriptedServer, Stream, completion_events
from tests.unit.providers.openai.conftest import MakeProvider
from workbench.errors import RemoteConnectionError
from workbench.protocol import StopReason

SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r\n"
"""What `str.splitlines` splits at; JSON leaves three of them as they are."""
TEXT = f"a{'b'.join(SEPARATORS)}Köln 🌍"
END = completion_events()[-1]


def raw(event: Any) -> str:
    return json.dumps(event, ensure_ascii=False)


def sse(*events: Any) -> str:
    return "".join(f"data: {raw(event)}\n\n" for event in events)


def ollama(*texts: str) -> list[Any]:
    return [{"response": text} for text in texts] + [{"response": "", "done": True, "done_reason": "stop"}]


def packets(body: str, cuts: list[int]) -> list[bytes]:
    whole = body.encode()
    ends = sorted({cut % len(whole) for cut in cuts} - {0})
    return [whole[start:end] for start, end in zip([0, *ends], [*ends, len(whole)], strict=True)]


async def told(make: MakeProvider, dialect: str = "openai") -> str:
    message = (await make(dialect).completion("small", "x")).completion_message
    assert message.stop_reason is StopReason.end_of_turn
    return str(message.content)


@settings(max_examples=budget(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from(f"ab{SEPARATORS}ö🌍")), cuts=st.lists(st.integers(0, 1000), max_size=5))
@pytest.mark.parametrize("kind", ["events", "lines"])
async def test_a_text_comes_through_whatever_it_holds_and_wherever_packets_end(
    server: ScriptedServer, make: MakeProvider, kind: str, text: str, cuts: list[int]
) -> None:
    if kind == "events":
        server.script("/v1/completions", Stream(packets(sse(*completion_events(text)), cuts)))
        assert await told(make) == text
    else:
        body = "".join(f"{raw(event)}\n" for event in ollama(text))
        server.script("/api/generate", Stream(packets(body, cuts), "closed"))
        assert await told(make, "ollama") == text


FIRST, SECOND = (raw(event) for event in completion_events("One ", TEXT, finish_reason=None))
WRITTEN = {
    "carriage returns": f"data: {FIRST}\r\n\r\ndata: {SECOND}\r\n\r\ndata: {raw(END)}\r\n\r\n",
    "carriage returns alone": f"data: {FIRST}\r\rdata: {SECOND}\r\rdata: {raw(END)}\r\r",
    "no space behind the colon": f"data:{FIRST}\n\ndata:{SECOND}\n\ndata:{raw(END)}\n\n",
    "comments": f": hello\n\ndata: {FIRST}\n: still here\n\n: ping\n\ndata: {SECOND}\n\n:\n\n{sse(END)}",
    "keep-alives behind ids": f"id: 1\ndata: {FIRST}\n\n: ping\n\nid: 2\ndata: {SECOND}\n\n: ping\n\n{sse(END)}",
    "keep-alives that are events": f"event: ping\n\nretry: 3000\n\n{sse(json.loads(FIRST))}event: ping\ndata:\n\n"
    f"data: {SECOND}\n\n{sse(END)}",
    "several lines of data": "".join(
        "".join(f"data: {line}\n" for line in json.dumps(json.loads(event), indent=1).split("\n")) + "\n"
        for event in (FIRST, SECOND, raw(END))
    ),
    "no end of the last event": f"data: {FIRST}\n\ndata: {SECOND}\n\ndata: {raw(END)}\n",
    "no end of the last line": f"data: {FIRST}\n\ndata: {SECOND}\n\ndata: {raw(END)}",
}


@pytest.mark.parametrize("name", WRITTEN)
async def test_events_are_read_as_the_standard_has_them(server: ScriptedServer, make: MakeProvider, name: str) -> None:
    server.script("/v1/completions", Stream([WRITTEN[name]], "closed"))
    assert await told(make) == f"One {TEXT}"


@pytest.mark.parametrize("ending", ["\r\n", "\n\n"])
async def test_lines_may_end_in_two_ways_or_not_at_all(server: ScriptedServer, make: MakeProvider, ending: str) -> None:
    body = ending.join(map(raw, ollama("One ", TEXT)))
    server.script("/api/generate", Stream([body], "closed"))
    assert await told(make, "ollama") == f"One {TEXT}"


@pytest.mark.parametrize("cut", [2, 12, 30])
async def test_half_an_event_at_the_end_is_an_answer_that_broke_off(
    server: ScriptedServer, make: MakeProvider, cut: int
) -> None:
    event = raw(completion_events("🌍🌍🌍🌍🌍🌍🌍🌍")[0]).encode()
    server.script("/v1/completions", Stream([sse(completion_events("One")[0]), b"data: " + event[:-cut]], "closed"))
    with pytest.raises(RemoteConnectionError):
        await make().completion("small", "x")
    lines = [f"{raw(ollama('One')[0])}\n", raw(ollama("🌍🌍🌍🌍🌍🌍🌍🌍")[0]).encode()[:-cut]]
    server.script("/api/generate", Stream(lines, "closed"))
    with pytest.raises(RemoteConnectionError):
        await make("ollama").completion("small", "x")


async def test_null_is_as_good_as_absent(server: ScriptedServer, make: MakeProvider) -> None:
    lines = [json.dumps(event | {"error": None, "logprobs": None}) + "\n" for event in ollama("One")]
    server.script("/api/generate", Stream(lines, "closed"))
    assert await told(make, "ollama") == "One"
    events = [{"error": None, "choices": None, "usage": None}, *completion_events("One"), {"choices": None}]
    server.script("/v1/completions", Stream(events))
    assert await told(make) == "One"


@pytest.mark.parametrize(
    "usages, wanted",
    [
        ([{"prompt_tokens": 0, "completion_tokens": 0}], (0, 0, 0)),
        ([{}], (0, 0, 2)),
        ([None], (0, 0, 2)),
        ([{"prompt_tokens": 7, "completion_tokens": None, "prompt_tokens_details": None}], (7, 0, 2)),
        ([{"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}, {"completion_tokens": 3}], (7, 4, 3)),
    ],
    ids=["zero", "empty", "null", "in part", "bit by bit"],
)
async def test_a_count_of_zero_is_a_count_and_none_is_none(
    server: ScriptedServer, make: MakeProvider, usages: list[Any], wanted: tuple[int, int, int]
) -> None:
    events = completion_events("One", " two") + [{"choices": [], "usage": usage} for usage in usages]
    server.script("/v1/completions", Stream(events))
    observed = Observed(make())
    await observed.completion("small", "x")
    usage = observed.folded.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.reused_tokens, usage.generated_tokens) == wanted
