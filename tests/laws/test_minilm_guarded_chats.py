"""The content guard of the default stack inside chats: over many streams, nothing of a flagged sentence leaves."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import workbench as wb
from tests.budget import budget
from tests.fakes.scripted_streams import ScriptedStream, cut
from workbench import Workbench
from workbench.errors import ShieldViolationError
from workbench.protocol import SystemMessage, UserMessage
from workbench.providers.folding import folded
from workbench.providers.safety.labelled import SAFE, labelled_messages
from workbench.providers.streams import Stream
from workbench.records import Emission
from workbench.stack.guarding import Guard, guarded
from workbench.stack.stack import Stack

PATIENCE_S = 120
STREAMS = 120
QUESTION = [UserMessage(content="How do I poach an egg?")]
ECHO = {"provider_id": "echo", "provider_type": "inline::echo", "config": {}}
LOCAL = {
    "provider_id": "local",
    "provider_type": "inline::transformers",
    "config": {"models": ["all-minilm-l6-v2"], "catalog_quantization": {"type": "int4"}},
}
GUARD = {
    "provider_id": "guard",
    "provider_type": "inline::content_guard",
    "config": {"embedding_model": "all-minilm-l6-v2"},
}
CONFIG: dict[str, Any] = {"image_name": "guarded", "providers": {"inference": [ECHO, LOCAL], "safety": [GUARD]}}


@pytest.fixture
async def stack(minilm_path: Path) -> AsyncIterator[Stack]:
    assert str(minilm_path)  # the model is there
    opened = Stack(CONFIG)
    await opened.open()
    yield opened
    opened.close()


@pytest.fixture
def bench(minilm_path: Path) -> Any:
    assert str(minilm_path)
    with Workbench(CONFIG) as bench:
        yield bench


async def flagged(stack: Stack, text: str) -> bool:
    found = (await stack.safety.run_shield("content_guard", [UserMessage(content=text)])).violation
    return found is not None and found.violation_level == "error"


async def test_no_character_of_a_flagged_sentence_leaves(stack: Stack) -> None:
    random = Random(1)
    messages = [message for message in labelled_messages("test") if re.fullmatch(r"[^.!?]+[.!?]", message.text)][::7]
    harmless = [one.text for one in messages if one.category == SAFE and not await flagged(stack, one.text)]
    harmful = [one.text for one in messages if one.category != SAFE and await flagged(stack, one.text)]
    assert min(len(harmless), len(harmful)) > 7
    for _ in range(budget(STREAMS)):
        before = " ".join(random.sample(harmless, random.randrange(3)))
        bad, after = random.choice(harmful), random.choice(harmless)
        text = f"{before} {bad} {after}".strip()
        stream = ScriptedStream(cut(text, [random.randrange(300) for _ in range(40)]))
        left: list[Emission] = []
        with pytest.raises(ShieldViolationError) as raised:
            await _gather(Stream(guarded(Guard(stack.safety, ("content_guard",), QUESTION), stream)), left)
        assert folded(left).delta == before
        assert before.encode().startswith(b"".join(token.bytes for one in left for token in one.tokens))
        assert stream.closed_after == stream.steps < len(stream.emissions)
        assert bad not in repr(vars(raised.value)) + repr(left)


async def _gather(emissions: Stream[Emission], left: list[Emission]) -> None:
    async for emission in emissions:
        left.append(emission)  # noqa: PERF401 - also what came before an error


def test_a_guarded_chat_replays_without_the_sentence_model(bench: Workbench, tmp_path: Path) -> None:
    bad = next(one.text for one in labelled_messages("test") if one.category == "S9" and _is_flagged(bench, one.text))
    asked: list[Any] = [UserMessage(content="Repeat it."), SystemMessage(content=f"Fine. {bad} And so on.")]

    def ask(bench: Workbench) -> Any:
        run = bench.chat_completion(asked, model="echo", shields=["content_guard"])
        assert run.wait(PATIENCE_S)
        return run

    with bench.record(tmp_path / "trace.jsonl"):  # after the guard has judged the same sentences
        run = ask(bench)
    assert (run.text, run.error.where) == ("Fine.", "answer")
    capsule = json.loads(run.capsule.to_json())
    assert bad not in json.dumps(capsule["violation"])
    assert wb.replay(run.capsule, bench).changes == ()
    trace = {"path": str(tmp_path / "trace.jsonl"), "timing": "skipped"}
    played = {"provider_id": "trace", "provider_type": "inline::trace", "config": trace}
    with Workbench({"image_name": "played", "providers": {"inference": [played], "safety": [GUARD]}}) as replayed:
        again = ask(replayed)
    assert (again.text, again.violation) == (run.text, run.violation)


def _is_flagged(bench: Workbench, text: str) -> bool:
    found = asyncio.run(bench.safety.run_shield("content_guard", [UserMessage(content=text)])).violation
    return found is not None and found.violation_level == "error"
