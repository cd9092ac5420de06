"""Runs that go on from others, pause and are asked anew: the same tokens where nothing was changed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import workbench as wb
from tests import ended_runs
from tests.fakes.models import (
    EOM,
    EOS,
    IM_END,
    FakeCache,
    FakeDecoder,
    answering,
    endless_speech,
    random_speech,
    scripted_speech,
)
from tests.fakes.serving import FakeModels
from workbench import Breakpoint, Capsule, Workbench
from workbench.errors import InvalidRequestError, NotRecordedError, UnsupportedFieldError
from workbench.protocol import LogProbConfig, SamplingParams, SamplingStrategy, StopReason, UserMessage

PATIENCE_S = 60
CALL = '{"type": "function", "name": "look", "parameters": {"what": "Rome"}}'
QUESTION: list[Any] = [UserMessage(content="How is Rome?")]
LOGPROBS = LogProbConfig(top_k=2)
SAMPLED = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, max_tokens=24)


def look(what: str) -> str:
    """Look at something.

    Args:
        what: a place.
    """
    return what


def rambling(cache: FakeCache) -> Tensor:
    """Anything, but an end: tests need runs of some length from every seed."""
    logits = random_speech()(cache)
    logits[[EOS, IM_END, EOM]] = -30.0
    return logits


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Workbench]:
    """``random`` draws, ``script`` says a text after a NUL byte, ``endless`` never ends, ``caller`` calls a tool."""
    fake_models.add("random", FakeDecoder(rambling))
    fake_models.add("script", FakeDecoder(scripted_speech("héllo wörld 😀.")))
    fake_models.add("endless", FakeDecoder(endless_speech))
    fake_models.add("caller", FakeDecoder(answering(f"I look. {CALL}")))
    with Workbench(fake_models.config) as bench:
        yield bench


def ended(run: Any) -> Any:
    return ended_runs.ended(run, PATIENCE_S)


def ids(run: Any) -> list[int]:
    return [token.token_id for token in run.tokens]


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)


# ------------------------------------------------------------------------------------------------------- branching


def test_a_branch_without_a_change_is_the_run_again_with_the_seed_that_was_drawn_by_chance(bench: Workbench) -> None:
    run = ended(bench.completion("a prompt that is long enough", sampling_params=SAMPLED, logprobs=LOGPROBS))
    assert run.sampling_params.seed is None
    for position in (0, 5, len(run.tokens)):
        branch = ended(run.branch(position))
        assert (ids(branch), branch.text, branch.stop_reason) == (ids(run), run.text, run.stop_reason)
        assert branch.seed == run.seed
        assert branch.tokens[:position] == run.tokens[:position]
        assert branch.result().logprobs == run.result().logprobs
        assert (branch.parent, branch.branched_at) == (run, position)
    assert (run.parent, run.branched_at) == (None, None)


def test_a_branch_takes_the_token_that_it_is_given_and_leaves_its_parent_alone(bench: Workbench) -> None:
    run = ended(bench.completion("a prompt that is long enough", sampling_params=SAMPLED, logprobs=LOGPROBS))
    before, other = list(run.tokens), run.tokens[4].alternatives[0]
    branch = ended(run.branch(4, other.token_id))
    assert ids(branch)[:5] == [*ids(run)[:4], other.token_id]
    assert branch.tokens[4].logprob == other.logprob
    assert branch.usage.kept_tokens == 4
    assert branch.usage.generated_tokens == len(branch.tokens) - 4
    assert branch.usage.reused_tokens == branch.usage.prompt_tokens + 4 - 1
    assert run.tokens == before
    assert run.branch(4, run.tokens[4].token_id).result(PATIENCE_S) == run.result()


def test_a_branch_may_have_other_parameters_and_goes_on_with_the_same_numbers(bench: Workbench) -> None:
    run = ended(bench.completion("a prompt", sampling_params=SAMPLED))
    colder = SAMPLED.model_copy(update={"temperature": 0.3})
    assert ended(run.branch(3, sampling_params=colder)).seed == run.seed
    reseeded = ended(run.branch(3, sampling_params=SAMPLED.model_copy(update={"seed": 7})))
    assert reseeded.seed == 7
    assert ids(reseeded)[:3] == ids(run)[:3]


def test_a_character_of_many_tokens_may_be_parted_by_a_branch(bench: Workbench) -> None:
    run = ended(bench.completion("\0", model="script"))
    for position in range(len(run.tokens) + 1):
        assert ended(run.branch(position)).text == run.text == "héllo wörld 😀."


def test_what_was_looked_up_at_a_kept_position_is_the_parents(bench: Workbench) -> None:
    run = ended(bench.completion("a prompt", sampling_params=SAMPLED))
    branch = ended(ended(run.branch(6, 97)).branch(9))
    for position in (2, 7, 9):
        source = run if position < 6 else branch
        assert branch.distribution(position).equals(source.distribution(position))
        number = branch.sampling_trace(position).number
        assert number == run.sampling_trace(position).number, "the same draw at the same place"


def test_a_chat_with_a_call_branches_within_the_call(bench: Workbench) -> None:
    run = ended(bench.chat_completion(QUESTION, model="caller", tools=[look], logprobs=LOGPROBS))
    assert [call.arguments for call in run.tool_calls] == [{"what": "Rome"}]
    for position in (0, 8, 30, len(run.tokens)):
        branch = ended(run.branch(position))
        assert branch.result() == run.result()
        assert branch.tool_calls == run.tool_calls
    assert ended(run.branch(8, IM_END)).tool_calls == []


def test_records_of_the_prompt_are_kept_and_not_measured_again(bench: Workbench) -> None:
    asked = LogProbConfig(top_k=1, prompt=True)
    run = ended(bench.completion("a prompt that is long enough", sampling_params=SAMPLED, logprobs=asked))
    branch = ended(run.branch(5))
    assert branch.prompt_tokens == run.prompt_tokens
    assert branch.result() == run.result()
    assert branch.usage.reused_tokens > 0


@pytest.mark.parametrize("position", [-1, 99, 1.5, True, None, "1"])
def test_a_position_that_is_none_is_refused(bench: Workbench, position: Any) -> None:
    run = ended(bench.completion("x", sampling_params=SAMPLED))
    with pytest.raises(InvalidRequestError, match="position must be a whole number from 0 to"):
        run.branch(position)


def test_what_cannot_be_branched_so_is_refused_by_name(bench: Workbench) -> None:
    run = ended(bench.completion("x", sampling_params=SAMPLED))
    with pytest.raises(InvalidRequestError, match="token_id must be None or a token id"):
        run.branch(1, -5)
    with pytest.raises(InvalidRequestError, match="token_id"):
        run.branch(1, 99_999).result(PATIENCE_S)
    with pytest.raises(InvalidRequestError, match="sampling_params must be a SamplingParams"):
        run.branch(1, sampling_params={"temperature": 1})
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.max_tokens must be 0, or at least 6"):
        run.branch(5, 97, sampling_params=SamplingParams(max_tokens=5))


def test_tokens_of_a_model_that_has_the_name_no_more_are_refused(bench: Workbench) -> None:
    run = ended(bench.completion("x", sampling_params=SAMPLED))
    object.__setattr__(run.tokens[1], "bytes", b"of another vocabulary")
    with pytest.raises(
        InvalidRequestError, match="position must be that of a run of the model that is now served under this name"
    ):
        run.branch(3).result(PATIENCE_S)


# ----------------------------------------------------------------------------------------------- extending, again


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(bench: Workbench) -> None:
    whole = ended(bench.completion("\0", model="script"))
    cut = ended(bench.completion("\0", model="script", sampling_params=SamplingParams(max_tokens=4)))
    assert cut.stop_reason == StopReason.out_of_tokens
    assert len(ended(cut.extend()).tokens) == 8
    assert len(ended(ended(cut.extend()).extend()).tokens) == 12, "as many again, however often"
    assert len(ended(cut.extend(3)).tokens) == 7
    assert ended(cut.extend(0)).text == whole.text
    assert cut.extend().parent is cut


def test_a_stopped_run_goes_on_with_what_was_left(bench: Workbench) -> None:
    run = bench.completion("x", model="endless", sampling_params=SamplingParams(max_tokens=2000))
    wait_until(lambda: len(run.tokens) > 3)
    run.cancel()
    run.wait()
    longer = ended(run.extend())
    assert len(longer.tokens) == 2000
    assert longer.tokens[: len(run.tokens)] == run.tokens
    assert longer.branched_at == len(run.tokens)


def test_a_run_that_is_whole_or_goes_on_cannot_be_extended(bench: Workbench) -> None:
    with pytest.raises(InvalidRequestError, match="state must be cancelled, failed or out_of_tokens"):
        ended(bench.completion("\0", model="script")).extend()
    run = bench.completion("x", model="endless", sampling_params=SamplingParams(max_tokens=3000))
    with pytest.raises(InvalidRequestError, match="state"):
        run.extend()
    run.cancel()
    run.wait()
    with pytest.raises(InvalidRequestError, match="max_tokens"):
        run.extend(-1)


def test_again_is_the_same_request_with_another_seed(bench: Workbench) -> None:
    run = ended(bench.completion("a prompt", sampling_params=SAMPLED.model_copy(update={"seed": 3})))
    again, same = ended(run.again()), ended(run.again(3))
    assert again.seed != 3
    assert ids(same) == ids(run)
    branch = ended(run.branch(4))
    once_more = ended(branch.again())
    assert ids(once_more)[:4] == ids(run)[:4]
    assert (once_more.parent, once_more.branched_at) == (run, 4)
    with pytest.raises(InvalidRequestError, match="seed"):
        run.again(-1)


def test_what_the_caller_changes_later_changes_no_run_that_is_asked_again(bench: Workbench) -> None:
    messages = list(QUESTION)
    run = ended(bench.chat_completion(messages, model="caller", tools=[look]))
    messages.append(UserMessage(content="more"))
    assert ended(run.again()).prompt == run.prompt == QUESTION


# ------------------------------------------------------------------------------------------------------- pausing


def test_a_run_pauses_and_goes_on_as_if_it_had_not(bench: Workbench) -> None:
    whole = ended(bench.completion("a prompt", sampling_params=SAMPLED))
    run = bench.completion(
        "a prompt",
        sampling_params=SAMPLED.model_copy(update={"seed": whole.seed}),
        breakpoints=[Breakpoint(entropy_above=0.0)],
    )
    pauses = 0
    while run.wait_for_pause(PATIENCE_S):
        pauses += 1
        assert (run.state, run.done, run.breakpoint) == ("paused", False, Breakpoint(entropy_above=0.0))
        assert len(run.tokens) <= pauses
        run.resume()
    assert pauses >= len(whole.tokens) - 1
    assert ids(ended(run)) == ids(whole)
    assert run.breakpoint is None
    assert not run.wait_for_pause()


def test_pausing_is_told_to_whoever_watches(bench: Workbench) -> None:
    run = bench.completion("x", model="endless", sampling_params=SamplingParams(max_tokens=3000))
    states: list[str] = []
    run.subscribe(lambda run: states.append(run.state))
    wait_until(lambda: len(run.tokens) > 2)
    run.pause()
    assert run.wait_for_pause(PATIENCE_S)
    assert states[-1] == "paused"
    count = len(run.tokens)
    assert not run.wait(0.05)
    assert len(run.tokens) == count
    branch = run.branch(2, 97, sampling_params=SamplingParams(max_tokens=5))
    assert ended(branch).text == run.text[:2] + "a" + branch.text[3:]
    run.resume()
    wait_until(lambda: len(run.tokens) > count)
    run.cancel()
    assert run.wait(PATIENCE_S)
    assert run.state == "cancelled"


def test_a_paused_run_is_cancelled_and_closed_like_any_other(bench: Workbench, fake_models: FakeModels) -> None:
    runs = [bench.completion("x", model="endless") for _ in range(2)]
    for run in runs:
        run.pause()
        assert run.wait_for_pause(PATIENCE_S)
    runs[0].cancel()
    assert runs[0].wait(PATIENCE_S)
    assert runs[0].state == "cancelled"
    wait_until(lambda: fake_models.engines["endless"].in_flight == 1)
    bench.close()
    assert runs[1].wait(PATIENCE_S)
    for run in runs:
        run.pause()
        run.resume()
        assert run.state == "cancelled"


def test_a_pause_that_is_asked_for_while_the_model_loads_is_remembered(
    bench: Workbench, fake_models: FakeModels
) -> None:
    fake_models.may_load.clear()
    run = bench.completion("\0", model="script")
    run.pause()
    fake_models.may_load.set()
    assert run.wait_for_pause(PATIENCE_S)
    assert len(run.tokens) <= 2
    run.resume()
    assert ended(run).text == "héllo wörld 😀."


def test_a_run_pauses_right_after_a_text(bench: Workbench) -> None:
    run = bench.completion("\0", model="script", breakpoints=[Breakpoint(text="zzz"), Breakpoint(text="lo w")])
    assert run.wait_for_pause(PATIENCE_S)
    assert run.text == "héllo w"
    assert run.breakpoint == Breakpoint(text="lo w")
    run.resume()
    assert ended(run).text == "héllo wörld 😀."


def test_a_run_pauses_where_a_call_begins_and_reads_it_to_its_end(bench: Workbench) -> None:
    run = bench.chat_completion(QUESTION, model="caller", tools=[look], breakpoints=[Breakpoint(tool_call=True)])
    assert run.wait_for_pause(PATIENCE_S)
    assert run.text.strip() == "I look."
    assert run.tool_calls == []
    assert 'parameters": {"what' not in "".join(token.text for token in run.tokens)
    run.resume()
    assert [call.arguments for call in ended(run).tool_calls] == [{"what": "Rome"}]


def test_a_branch_has_the_breakpoints_of_its_parent_beyond_what_it_keeps(bench: Workbench) -> None:
    run = bench.completion("\0", model="script", breakpoints=[Breakpoint(text="l")])
    for text in ("hél", "héll"):
        assert run.wait_for_pause(PATIENCE_S)
        assert run.text == text
        if text == "hél":
            run.resume()
    branch = run.branch(len(run.tokens))
    assert branch.wait_for_pause(PATIENCE_S)
    assert branch.text == "héllo wörl"
    for paused in (run, branch):
        paused.cancel()
        paused.wait()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text": ""},
        {"text": 5},
        {"entropy_above": -1},
        {"entropy_above": math.nan},
        {"entropy_above": True},
        {"tool_call": 1},
        {"text": "a", "tool_call": True},
    ],
)
def test_a_breakpoint_is_at_one_thing_that_can_be(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="breakpoint"):
        Breakpoint(**given)


def test_breakpoints_that_cannot_be_are_refused_by_name(bench: Workbench) -> None:
    with pytest.raises(InvalidRequestError, match="breakpoints must be a list of Breakpoint"):
        bench.completion("x", breakpoints=["here"])  # type: ignore[list-item]
    with pytest.raises(InvalidRequestError, match=r"breakpoints\[0\]\.tool_call must be absent"):
        bench.chat_completion(QUESTION, model="caller", breakpoints=[Breakpoint(tool_call=True)])


# ------------------------------------------------------------------------------------------- elsewhere than here


def test_a_provider_that_cannot_says_so_by_name(fake_models: FakeModels, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.providers.capabilities import Capabilities
    from workbench.providers.transformers import TransformersProvider

    fake_models.add("script", FakeDecoder(scripted_speech("said")))
    monkeypatch.setattr(TransformersProvider, "capabilities", Capabilities())
    with Workbench(fake_models.config) as bench:
        run = ended(bench.completion("\0"))
        assert (run.can_pause, bench.capabilities().pause) == (False, False)
        for call in (run.pause, run.resume):
            with pytest.raises(UnsupportedFieldError, match="one whose provider offers pause"):
                call()
        with pytest.raises(UnsupportedFieldError, match=r"offers branch; provider fakes .* offers completion, chat"):
            run.branch(1)
        with pytest.raises(UnsupportedFieldError, match="offers pause"):
            bench.completion("\0", breakpoints=[Breakpoint(text="a")])
        assert ended(run.again()).text == "said"


def test_a_recording_plays_branches_and_pauses_at_breakpoints(bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"

    def told(bench: Workbench) -> list[Any]:
        run = bench.completion("\0", model="script", breakpoints=[Breakpoint(text="lo")])
        assert run.wait_for_pause(PATIENCE_S)
        paused_at = run.text
        run.resume()
        branch = ended(ended(run).branch(4, ord("y")))
        return [paused_at, run.text, ids(branch), branch.tokens[:4] == run.tokens[:4], branch.usage.kept_tokens]

    with bench.record(path):
        recorded = told(bench)
    config = {"path": str(path), "timing": "skipped"}
    instance = {"provider_id": "trace", "provider_type": "inline::trace", "config": config}
    with Workbench({"image_name": "trace", "providers": {"inference": [instance]}}) as played:
        assert told(played) == recorded
        with pytest.raises(NotRecordedError, match="beginning"):
            ended(played.completion("\0", model="script", breakpoints=[Breakpoint(text="zzz")])).branch(0, ord("x"))


def test_the_capsule_of_a_branch_gives_the_same_ids(bench: Workbench) -> None:
    run = ended(bench.completion("a prompt", sampling_params=SAMPLED))
    branch = ended(run.branch(5, 97))
    capsule = Capsule.from_json(branch.capsule.to_json())
    assert (run.capsule.given, capsule.given) == (0, 6)
    replay = wb.replay(capsule, bench)
    assert replay.same, replay
    assert ids(replay.run) == ids(branch)


def test_how_much_a_branch_was_given_is_sealed_too(bench: Workbench) -> None:
    run = ended(bench.completion("a prompt", sampling_params=SAMPLED))
    plain, branched = (json.loads(one.capsule.to_json()) for one in (run, ended(run.branch(5, 97))))
    assert "given" not in plain
    for changed in (plain | {"given": 2}, branched | {"given": 2}, {k: v for k, v in branched.items() if k != "given"}):
        with pytest.raises(InvalidRequestError, match=r"^given"):
            Capsule.from_json(changed)
