"""A run can be read, awaited, watched and stopped from anywhere, and what has ended changes no more."""

from __future__ import annotations

import asyncio
import copy
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.models import EOS, IM_END, FakeDecoder, Gate, answering, scripted_speech
from tests.fakes.serving import FakeModels
from workbench import Workbench
from workbench.errors import ClosedError, InvalidRequestError
from workbench.protocol import LogProbConfig, SamplingParams, StopReason, ToolDefinition, UserMessage
from workbench.providers.chunks import ChunkMaker
from workbench.records import Emission
from workbench.session.event_loop_thread import BackgroundLoop

TEXT = "A scripted answer."
PROMPT = "\0"


class Bench:
    """A workbench whose one model says `TEXT`, with a gate before every step."""

    def __init__(self, fake_models: FakeModels, text: str = TEXT) -> None:
        self.decoder = fake_models.add("script", FakeDecoder(scripted_speech(text)))
        self.gate = Gate()
        self.gate.open()
        self.decoder.before_decode = lambda _: self.gate()
        self.fake_models = fake_models
        self.workbench = Workbench(fake_models.config)

    def hold(self) -> None:
        """From the next step on, steps wait to be let through."""
        self.gate = Gate()

    def run(self, **more: Any) -> Any:
        return self.workbench.completion(PROMPT, **more)


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Bench]:
    made = Bench(fake_models)
    yield made
    made.gate.open()
    made.workbench.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)


def check_stopped(bench: Bench) -> None:
    """The engine, held at its gate, hears of the cancelling and finishes the step under way and no other."""
    engine, steps = bench.fake_models.engines["script"], len(bench.decoder.decodes)
    wait_until(lambda: all(generation.handle.cancelled.is_set() for generation in engine._loop._active))
    bench.gate.open()
    wait_until(lambda: engine.in_flight == 0)
    assert len(bench.decoder.decodes) <= steps + 1


def test_a_run_gives_the_protocols_response(bench: Bench) -> None:
    run = bench.run(logprobs=LogProbConfig(top_k=2))
    response = run.result(60)
    assert response.completion_message.content == run.text == TEXT
    assert run.state == "finished"
    assert run.done
    assert run.stop_reason == response.completion_message.stop_reason == StopReason.end_of_turn
    assert len(response.logprobs) == len(run.tokens) == run.usage.generated_tokens == len(TEXT)
    assert b"".join(token.bytes for token in run.tokens).decode() == TEXT
    assert [token.position for token in run.tokens] == list(range(len(TEXT)))
    assert run.result() == response


def test_a_run_grows_while_it_runs_and_is_readable_all_the_time(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    for count in (0, 1, 2):
        bench.gate.wait()
        wait_until(lambda count=count: len(run.tokens) == count)  # type: ignore[misc]
        assert (run.text, run.state, run.done) == (TEXT[:count], "running", False)
        bench.gate.step()
    bench.gate.open()
    assert run.result(60).completion_message.content == TEXT


def test_a_timeout_ends_the_wait_and_not_the_run(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    with pytest.raises(TimeoutError, match=f"{run.id} is still"):
        run.result(0.05)
    assert not run.wait(0.05)
    bench.gate.open()
    assert run.wait(60)
    assert run.result().completion_message.content == TEXT


def test_chunks_can_be_looped_over_again_and_again(bench: Bench) -> None:
    run = bench.run()
    first, second = list(run), list(run)
    assert first == second
    assert "".join(chunk.delta for chunk in first) == TEXT
    assert first[-1].stop_reason == StopReason.end_of_turn


def test_chat_chunks_are_the_protocols(bench: Bench) -> None:
    run = bench.workbench.chat_completion([UserMessage(content=PROMPT)])
    kinds = [chunk.event.event_type for chunk in run]
    assert (kinds[0], kinds[-1]) == ("start", "complete")
    assert run.result(60).completion_message.content == run.text


async def test_no_chunk_is_made_before_somebody_loops_over_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    chunks = ChunkMaker.chunks

    def counted(maker: ChunkMaker, emission: Emission) -> Iterator[Any]:
        made.append(emission)
        return chunks(maker, emission)

    monkeypatch.setattr(ChunkMaker, "chunks", counted)
    run = bench.run(logprobs=LogProbConfig())
    assert (await run).completion_message.content == run.result(60).completion_message.content == TEXT
    assert made == []
    assert len(list(run)) == len(made) > 0


def test_leaving_the_loop_leaves_the_run(bench: Bench) -> None:
    run = bench.run()
    for _ in run:
        break
    assert run.result(60).completion_message.content == TEXT


async def test_async_loops_and_await_work_in_another_event_loop(bench: Bench) -> None:
    run = bench.run()
    deltas = [chunk.delta async for chunk in run]
    assert "".join(deltas) == TEXT
    assert [chunk.delta async for chunk in run] == deltas
    assert (await run).completion_message.content == TEXT
    assert (await bench.run()).completion_message.content == TEXT


def test_await_works_in_two_loops_at_once(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    answers: list[str] = []

    async def wait() -> str:
        content: str = (await run).completion_message.content
        return content

    threads = [threading.Thread(target=lambda: answers.append(asyncio.run(wait()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    bench.gate.open()
    for thread in threads:
        thread.join(60)
    assert answers == [TEXT, TEXT]


async def test_result_works_inside_a_running_event_loop(bench: Bench) -> None:
    """As in a notebook, whose cells run inside one."""
    assert bench.run().result(60).completion_message.content == TEXT
    assert "".join(chunk.delta for chunk in bench.run()) == TEXT


async def test_cancelling_the_awaiting_task_cancels_the_run(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 0.05)
    assert run.state == "cancelled"


def test_cancelling_keeps_what_was_there_and_changes_nothing_after(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    bench.gate.step(4)
    wait_until(lambda: len(run.tokens) == 4)
    run.cancel()
    assert (run.state, run.done) == ("cancelled", True)
    partial = run.result(60)
    check_stopped(bench)
    assert partial.completion_message.content == run.text == TEXT[:4]
    assert run.result() == partial
    assert run.stop_reason is None
    run.cancel()
    assert bench.run().result(60).completion_message.content == TEXT


def test_a_cancelled_run_never_changes_however_the_timing_falls(bench: Bench) -> None:
    for index in range(60):
        run = bench.run()
        wait_until(lambda run=run, index=index: len(run.tokens) >= index % 5)  # type: ignore[misc]
        run.cancel()
        seen = (run.text, len(run.tokens), run.state)
        time.sleep(0.002)
        assert (run.text, len(run.tokens), run.state) == seen
        assert run.done


def test_a_chunk_that_was_under_way_when_the_run_was_cancelled_is_left_out(bench: Bench) -> None:
    bench.hold()
    bench.fake_models.may_load.clear()
    run, other = bench.run(), bench.run()
    run.cancel()
    bench.fake_models.may_load.set()
    bench.gate.open()
    other.result(60)
    run._add(next(iter(other)))
    assert (run.text, run.tokens, list(run)) == ("", [], [])


def test_a_run_can_be_cancelled_before_it_starts(bench: Bench) -> None:
    bench.fake_models.may_load.clear()
    run = bench.run()
    run.cancel()
    assert run.result(1).completion_message.content == ""
    bench.fake_models.may_load.set()


def test_errors_keep_their_type_for_every_way_of_waiting(bench: Bench) -> None:
    bench.run().result(60)

    good_steps = iter([1])

    def fail(_: Any) -> None:
        if not next(good_steps, 0):
            raise ArithmeticError("in a step")

    bench.decoder.before_decode = fail
    run = bench.run()
    began = time.monotonic()
    with pytest.raises(ArithmeticError, match="in a step"):
        run.result(60)
    assert time.monotonic() - began < 1
    assert (run.state, run.wait(0)) == ("failed", True)
    assert isinstance(run.error, ArithmeticError)
    chunks = []
    with pytest.raises(ArithmeticError):
        chunks.extend(run)
    with pytest.raises(ArithmeticError):
        asyncio.run(_await(run))
    assert run.text == TEXT[:1], "what came before the error stays"


async def _await(run: Any) -> Any:
    return await run


def test_a_prompt_that_only_the_model_can_refuse_fails_the_run(bench: Bench) -> None:
    run = bench.workbench.completion("")
    with pytest.raises(InvalidRequestError, match="content"):
        run.result(60)


@pytest.mark.parametrize("waiting", ["result", "loop"])
def test_interrupting_the_wait_cancels_the_run(bench: Bench, waiting: str) -> None:
    bench.hold()
    run = bench.run()
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run.result(60) if waiting == "result" else list(run)
    timer.join()
    assert run.state == "cancelled"
    check_stopped(bench)
    assert bench.run().result(60).completion_message.content == TEXT


# ------------------------------------------------------------------------------------------------------- watching


def test_a_listener_hears_every_token_and_every_state(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    heard: list[tuple[str, int]] = []
    run.subscribe(lambda run: heard.append((run.state, len(run.tokens))))
    bench.gate.open()
    run.result(60)
    wait_until(lambda: bool(heard) and heard[-1] == ("finished", len(TEXT)))
    assert [count for _, count in heard] == sorted(count for _, count in heard)
    assert {count for _, count in heard} >= set(range(2, len(TEXT) + 1))


def test_a_listener_that_comes_late_is_told_at_once(bench: Bench) -> None:
    run = bench.run()
    run.result(60)
    heard: list[str] = []
    run.subscribe(lambda run: heard.append(run.state))
    assert heard == ["finished"]


def test_an_unsubscribed_listener_hears_no_more(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    heard: list[int] = []
    unsubscribe = run.subscribe(lambda run: heard.append(len(run.tokens)))
    unsubscribe()
    unsubscribe()
    count = len(heard)
    bench.gate.open()
    run.result(60)
    assert len(heard) == count


def test_a_listener_that_raises_is_dropped_and_the_run_goes_on(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    calls: list[int] = []
    unsubscribe: Callable[[], None] = lambda: None  # noqa: E731 - replaced below, once there is one

    def broken(run: Any) -> None:
        calls.append(len(run.tokens))
        unsubscribe()
        raise RuntimeError("the widget is gone")

    unsubscribe = run.subscribe(broken)
    bench.gate.open()
    assert run.result(60).completion_message.content == TEXT
    assert len(calls) == 1


def test_a_listener_may_cancel_its_run(bench: Bench) -> None:
    bench.hold()
    run = bench.run()
    run.subscribe(lambda run: run.cancel() if len(run.tokens) >= 3 and not run.done else None)
    bench.gate.open()
    assert len(run.result(60).completion_message.content) == 3
    assert run.state == "cancelled"


def test_a_callback_that_raises_on_an_ended_run_is_the_callbacks_own_trouble(bench: Bench) -> None:
    run = bench.run()
    run.result(60)
    called: list[Any] = []

    def broken(run: Any) -> None:
        called.append(run)
        raise RuntimeError("the widget is gone")

    run.subscribe(broken)()
    assert called == [run]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_a_run_is_not_copied(bench: Bench, copied: Callable[[Any], Any]) -> None:
    run = bench.run()
    with pytest.raises(TypeError, match="run-1 cannot be copied or pickled"):
        copied(run)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
    ids=["copy", "deep", "pickle"],
)
def test_responses_chunks_and_tokens_can_be_copied(bench: Bench, copied: Callable[[Any], Any]) -> None:
    chat = bench.workbench.chat_completion([UserMessage(content=PROMPT)], logprobs=LogProbConfig(top_k=1))
    for run in (bench.run(logprobs=LogProbConfig(top_k=1)), chat):
        for answer in (run.result(60), *run, run.tokens, run.usage):
            assert copied(answer) == answer


def test_before_its_first_token_a_run_has_no_distribution_and_says_so(bench: Bench) -> None:
    bench.fake_models.may_load.clear()
    run = bench.run()
    for look in (run.distribution, run.sampling_trace, run.sampling_frame):
        with pytest.raises(InvalidRequestError, match=r"position must be .* this run has no tokens so far; got 0"):
            look(0)
    bench.fake_models.may_load.set()
    run.result(60)
    assert len(run.distribution(0))


# -------------------------------------------------------------------------------------------------------- showing


def test_the_repr_is_stable_and_short(bench: Bench) -> None:
    run = bench.run()
    run.result(60)
    assert repr(run) == f"<Run run-1 script: finished, {len(TEXT)} tokens, 'A scripted answer.'>"
    assert bench.run().id == "run-2"


def test_the_end_is_a_record_of_its_own_with_its_distribution(bench: Bench) -> None:
    run = bench.run(logprobs=LogProbConfig(top_k=2))
    assert run.end is None or run.done
    run.result()
    assert (run.end.token_id, run.end.position) == (EOS, len(TEXT)) == (EOS, len(run.tokens))
    assert run.distribution(run.end.position)["token_id"][0] == EOS
    assert "".join(token.text for token in run.tokens) == run.text == TEXT


def test_an_end_that_comes_at_once_has_its_distribution_too(fake_models: FakeModels) -> None:
    fake_models.add("mute", FakeDecoder(scripted_speech("")))
    with Workbench(fake_models.config) as bench:
        run = bench.completion(PROMPT, logprobs=LogProbConfig(top_k=2))
        run.result()
        assert (run.tokens, run.end and run.end.position) == ([], 0)
        assert run.distribution(0)["token_id"][0] == EOS


def test_what_could_have_come_in_place_of_the_end_is_gone_on_from(bench: Bench) -> None:
    run = bench.run(logprobs=LogProbConfig(top_k=2))
    run.result()
    branch = run.branch(run.end.position, run.end.alternatives[0].token_id)
    branch.result()
    assert [token.token_id for token in branch.tokens[: len(TEXT) + 1]] == [
        *TEXT.encode(),
        run.end.alternatives[0].token_id,
    ]


@pytest.mark.parametrize("tools", [None, [ToolDefinition(tool_name="look")]])
def test_a_chats_answer_has_its_end_too(fake_models: FakeModels, tools: Any) -> None:
    fake_models.add("chat", FakeDecoder(answering("Said.")))
    with Workbench(fake_models.config) as bench:
        run = bench.chat_completion([UserMessage(content="Hi")], tools=tools)
        run.result()
        assert run.end is not None
        assert (run.end.token_id, run.end.position) == (IM_END, len("Said."))


def test_a_frame_has_a_row_for_every_token(bench: Bench) -> None:
    run = bench.run()
    run.result(60)
    frame = run.to_frame()
    assert list(frame.columns) == ["position", "token_id", "text", "logprob", "probability", "rank", "entropy"]
    assert "".join(frame["text"]) == TEXT
    assert frame["rank"].tolist() == [1] * len(TEXT)


def test_a_run_without_tokens_has_an_empty_frame_with_the_same_columns(bench: Bench) -> None:
    run = bench.run(sampling_params=SamplingParams(stop=[TEXT[0]]))
    assert run.result(60).completion_message.content == ""
    assert len(run.to_frame()) == 0
    assert "entropy" in run.to_frame().columns


# ------------------------------------------------------------------------------------------------ the loop beneath


def test_a_closed_loop_takes_nothing_more() -> None:
    loop = BackgroundLoop("test-loop")
    loop.close()
    loop.close()
    with pytest.raises(ClosedError):
        loop.wait(asyncio.sleep(0))
    assert not [thread for thread in threading.enumerate() if thread.name == "test-loop"]


def test_whatever_is_started_while_the_loop_closes_ends() -> None:
    """Every future ends, cancelled or refused; none is left to wait for ever."""
    for _ in range(30):
        loop = BackgroundLoop("test-loop")
        futures: list[Any] = []

        def start(loop: BackgroundLoop = loop, futures: list[Any] = futures) -> None:
            for _ in range(50):
                try:
                    futures.append(loop.start(asyncio.sleep(30)))
                except ClosedError:
                    return

        thread = threading.Thread(target=start)
        thread.start()
        loop.close()
        thread.join(60)
        for future in futures:
            wait_until(future.done)


def test_a_loop_that_is_closing_takes_nothing_more() -> None:
    """Otherwise it would be scheduled after the stop, and whoever waits for it would wait for ever."""
    loop, release = BackgroundLoop("test-loop"), threading.Event()

    async def occupy() -> None:
        release.wait(60)

    loop.start(occupy())
    closing = threading.Thread(target=loop.close)
    closing.start()
    wait_until(lambda: loop._closed)
    with pytest.raises(ClosedError):
        loop.start(asyncio.sleep(0))
    release.set()
    closing.join(60)


def test_a_task_on_the_loop_may_close_it() -> None:
    loop = BackgroundLoop("test-loop")

    async def close() -> None:
        loop.close()

    loop.wait(close())
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "test-loop"])
