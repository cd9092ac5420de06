"""A chat with shields: the run says what was refused, and everything that works with a run works with a guarded one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.fakes.models import FakeDecoder, answering
from tests.fakes.serving import FakeModels
from tests.fakes.shields import FORBIDDEN, WordShields, word_shields
from workbench import Capsule, Workbench
from workbench.analysis.comparison import Comparison
from workbench.errors import (
    InvalidRequestError,
    ShieldError,
    ShieldNotFoundError,
    ShieldViolationError,
    UnsupportedFieldError,
)
from workbench.protocol import (
    Chunk,
    LogProbConfig,
    QueryDocumentsResponse,
    SamplingParams,
    SamplingStrategy,
    UserMessage,
    ViolationLevel,
)
from workbench.records import Breakpoint

HELLO: list[Any] = [UserMessage(content="Hello")]
FINE = "I am fine. And you? Well."
BAD = f"I am fine. It is {FORBIDDEN}. And so on, for a long time."
FIRST = "I am fine."
PATIENCE_S = 60


class Guarded:
    """A workbench with a model that says `FINE` and one that says `BAD`, and a shield named ``words``."""

    def __init__(self, fake_models: FakeModels, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoders = {
            name: fake_models.add(name, FakeDecoder(answering(text))) for name, text in [("fine", FINE), ("bad", BAD)]
        }
        safety = word_shields(monkeypatch, "words", {"identifier": "lenient", "params": {"refused": ["nothing"]}})
        self.config = fake_models.config
        self.config = {**self.config, "providers": {**self.config["providers"], "safety": [safety]}}
        self.workbench = Workbench(self.config)
        self.shield: WordShields = self.workbench._stack.safety_providers["words"]  # type: ignore[assignment]
        self.may_judge = threading.Event()
        self.may_judge.set()
        self.is_judging = threading.Event()

    def hold_verdicts(self) -> None:
        """Let the verdicts on answers wait until ``may_judge`` is set."""
        self.may_judge.clear()

        async def wait() -> None:
            if len(self.shield.judged) > 1:
                self.is_judging.set()
                await asyncio.to_thread(self.may_judge.wait, PATIENCE_S)

        self.shield.before_verdict = wait

    def chat(self, model: str = "bad", messages: list[Any] | None = None, **settings: Any) -> Any:
        options: dict[str, Any] = {"shields": ["words"], "logprobs": LogProbConfig(top_k=2)} | settings
        return self.workbench.chat_completion(HELLO if messages is None else messages, model=model, **options)


@pytest.fixture
def guarded(fake_models: FakeModels, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    made = Guarded(fake_models, monkeypatch)
    yield made
    made.may_judge.set()
    made.workbench.close()


def test_a_refused_answer_ends_before_the_refused_sentence(guarded: Guarded) -> None:
    run = guarded.chat()
    assert run.wait(PATIENCE_S)
    assert run.state == "failed"
    assert run.text == FIRST
    assert b"".join(token.bytes for token in run.tokens).decode() == FIRST
    assert isinstance(run.error, ShieldViolationError)
    assert (run.error.shield, run.error.where) == ("words", "answer")
    assert run.violation is run.error.violation
    assert run.violation.violation_level is ViolationLevel.error
    assert run.violation.metadata["probability"] == 0.93
    assert (run.stop_reason, run.end) == (None, None)
    assert FORBIDDEN not in repr(run._emissions) + repr(run) + str(vars(run.error))
    with pytest.raises(ShieldViolationError, match="S9"):
        run.result()
    with pytest.raises(ShieldViolationError):
        assert not [chunk for chunk in run if FORBIDDEN in str(chunk)]


def test_a_refused_prompt_computes_nothing(guarded: Guarded) -> None:
    run = guarded.chat(messages=[UserMessage(content=f"Say {FORBIDDEN}")])
    assert run.wait(PATIENCE_S)
    assert (run.error.where, run.text, run.tokens) == ("prompt", "", [])
    assert guarded.decoders["bad"].prefills == []


def test_a_harmless_answer_is_that_without_shields(guarded: Guarded) -> None:
    run, plain = guarded.chat("fine"), guarded.chat("fine", shields=[])
    assert run.result(PATIENCE_S) == plain.result(PATIENCE_S)
    assert run.text == FINE
    assert (
        run.token_ids
        if hasattr(run, "token_ids")
        else [token.token_id for token in run.tokens] == [token.token_id for token in plain.tokens]
    )
    assert run.violation is None
    assert run.notes == plain.notes == ()
    assert run.end.token_id == plain.end.token_id
    assert run.logprobs(3).tolist() == plain.logprobs(3).tolist()
    assert guarded.shield.judged == ["Hello", "I am fine.", "I am fine. And you?", FINE]


@pytest.mark.parametrize("shields, names", [(["nope"], "lenient, words"), (["words", "w/nope"], "lenient, words")])
def test_an_unknown_shield_is_refused_with_those_that_are_served(
    guarded: Guarded, shields: list[str], names: str
) -> None:
    with pytest.raises(ShieldNotFoundError, match=f"served shields: {names}"):
        guarded.chat(shields=shields)
    assert guarded.decoders["bad"].prefills == []
    assert guarded.shield.judged == []


@pytest.mark.parametrize("shields", ["words", [""], [None], {"words": 1}, 3, [["words"]]])
def test_shields_that_are_no_list_of_names_are_refused_by_name(guarded: Guarded, shields: Any) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        guarded.chat(shields=shields)
    assert raised.value.field == "shields"


def test_a_shield_is_found_by_its_full_name_and_runs_once_where_it_is_named_twice(guarded: Guarded) -> None:
    run = guarded.chat("fine", shields=["words/words", "words/words"])
    assert run.result(PATIENCE_S).completion_message.content == FINE
    assert len(guarded.shield.judged) == 4


def test_a_workbench_without_shields_says_so(fake_models: FakeModels) -> None:
    fake_models.add("fine", FakeDecoder(answering(FINE)))
    with Workbench({**fake_models.config}) as bench:
        served = [one.identifier for one in bench.shields.definitions()]
        with pytest.raises(ShieldNotFoundError, match="'nope'") as raised:
            bench.chat_completion(HELLO, shields=["nope"])
        assert raised.value.served == served


def test_a_provider_alone_refuses_shields(guarded: Guarded) -> None:
    provider = guarded.workbench._stack.providers["fakes"]
    with pytest.raises(UnsupportedFieldError, match=r"^shields must be absent"):
        provider.chat_completion("fine", HELLO, shields=["words"])


def test_a_shield_that_has_no_verdict_lets_nothing_pass(guarded: Guarded) -> None:
    run = guarded.chat(messages=[UserMessage(content="unclear")])
    assert run.wait(PATIENCE_S)
    assert isinstance(run.error, ShieldError)
    assert run.violation is None
    assert guarded.decoders["bad"].prefills == []


def test_a_shield_that_is_unregistered_meanwhile_lets_nothing_pass(guarded: Guarded) -> None:
    guarded.hold_verdicts()
    run = guarded.chat("fine")
    assert guarded.is_judging.wait(PATIENCE_S)
    guarded.workbench._loop.wait(guarded.workbench.shields.unregister_shield("words"))
    guarded.may_judge.set()
    assert run.wait(PATIENCE_S)
    assert isinstance(run.error, ShieldNotFoundError)
    assert run.text == FIRST


# ---------------------------------------------------------------------------------------------------- while it judges


def test_a_run_is_cancelled_while_a_shield_judges(guarded: Guarded, fake_models: FakeModels) -> None:
    guarded.hold_verdicts()
    run = guarded.chat()
    assert guarded.is_judging.wait(PATIENCE_S)
    run.cancel()
    assert run.wait(PATIENCE_S)
    assert (run.state, run.text, run.tokens) == ("cancelled", "", [])
    wait_until_idle(fake_models, "bad")


def test_a_run_is_paused_while_a_shield_judges_and_continues(guarded: Guarded) -> None:
    guarded.hold_verdicts()
    run = guarded.chat("fine", breakpoints=[Breakpoint(text="you")])
    assert guarded.is_judging.wait(PATIENCE_S)
    assert run.state == "running"
    guarded.may_judge.set()
    assert run.wait_for_pause(PATIENCE_S)
    assert run.text == FIRST  # the sentence of the breakpoint has not ended, so it has not been judged
    assert run.breakpoint == Breakpoint(text="you")
    run.resume()
    assert run.result(PATIENCE_S).completion_message.content == FINE


def wait_until_idle(fake_models: FakeModels, name: str) -> None:
    idle = threading.Event()
    engine = fake_models.engines[name]
    for _ in range(10_000):
        if engine.in_flight == 0:
            return
        idle.wait(0.005)
    raise AssertionError("the engine never came to rest")


# ------------------------------------------------------------------------------------------- what works with any run


def test_a_branch_is_guarded_too(guarded: Guarded) -> None:
    run = guarded.chat()
    assert run.wait(PATIENCE_S)
    branch = run.branch(4, ord("s"))
    assert branch.wait(PATIENCE_S)
    assert branch.request.shields == ("words",)
    assert branch.tokens[4].token_id == ord("s")
    assert branch.text == "I amsfine."
    again = run.again()
    assert again.wait(PATIENCE_S)
    assert again.text == FIRST


def test_guarded_runs_are_compared_by_the_tokens_that_passed(guarded: Guarded) -> None:
    run, plain = guarded.chat(), guarded.chat(shields=None)
    assert plain.result(PATIENCE_S).completion_message.content == BAD
    assert run.wait(PATIENCE_S)
    comparison = Comparison([plain, run])
    assert comparison.wait(PATIENCE_S)
    assert comparison.divergence == len(FIRST)
    assert list(comparison.to_frame().groupby("run").size()) == [len(BAD), len(FIRST)]


def test_a_capsule_keeps_the_violation_and_replays(guarded: Guarded, tmp_path: Path) -> None:
    run = guarded.chat()
    assert run.wait(PATIENCE_S)
    run.capsule.save(tmp_path / "capsule.json")
    written = (tmp_path / "capsule.json").read_text()
    assert FORBIDDEN not in written
    capsule: Any = Capsule.load(tmp_path / "capsule.json")
    assert capsule.violation.shield == "words"
    assert capsule.violation.where == "answer"
    assert capsule.violation.violation == run.violation
    assert capsule.request.shields == ["words"]
    replay = wb.replay(tmp_path / "capsule.json", guarded.workbench)
    assert replay.same
    assert replay.changes == ()
    assert replay.again.violation == capsule.violation


def test_a_replay_says_that_the_shield_has_changed(guarded: Guarded) -> None:
    run = guarded.chat()
    assert run.wait(PATIENCE_S)
    lenient = run.capsule.request.model_copy(update={"shields": ["lenient"]})
    replay = wb.replay(run.capsule.model_copy(update={"request": lenient}), guarded.workbench)
    assert [change.field for change in replay.changes] == ["violation"]
    assert "violation was words refused the answer (S9) and is absent: the shield" in repr(replay)


def test_a_capsule_without_shields_is_as_before(guarded: Guarded) -> None:
    run = guarded.chat("fine", shields=None)
    run.result(PATIENCE_S)
    assert "shields" not in run.capsule.to_json()
    assert "violation" not in run.capsule.to_json()


def test_a_recorded_run_replays_with_its_shields(guarded: Guarded, tmp_path: Path) -> None:
    with guarded.workbench.record(tmp_path / "trace.jsonl"):
        refused, fine = guarded.chat(), guarded.chat("fine")
        assert refused.wait(PATIENCE_S)
        fine.result(PATIENCE_S)
    trace = {"path": str(tmp_path / "trace.jsonl"), "timing": "skipped"}
    inference = [{"provider_id": "trace", "provider_type": "inline::trace", "config": trace}]
    config = {**guarded.config, "providers": {**guarded.config["providers"], "inference": inference}}
    with Workbench(config) as played:
        again = played.chat_completion(HELLO, model="bad", shields=["words"], logprobs=LogProbConfig(top_k=2))
        assert again.wait(PATIENCE_S)
        assert (again.text, again.violation) == (refused.text, refused.violation)
        assert [token.token_id for token in again.tokens] == [token.token_id for token in refused.tokens]
        again = played.chat_completion(HELLO, model="fine", shields=["words"], logprobs=LogProbConfig(top_k=2))
        assert again.result(PATIENCE_S) == fine.result()


def test_the_results_of_functions_are_checked_like_messages(guarded: Guarded) -> None:
    def look() -> str:
        """Look at it."""
        looked.append(True)
        return FORBIDDEN

    looked: list[bool] = []
    guarded.decoders["fine"].speech = answering('{"type": "function", "name": "look", "parameters": {}}', FINE)
    settings: dict[str, Any] = {"tools": [look], "approve": True, "model": "fine"}
    assert guarded.workbench.converse(HELLO, **settings).text == FINE
    with pytest.raises(ShieldViolationError, match="refused the prompt"):
        guarded.workbench.converse(HELLO, **settings, shields=["words"])
    assert looked == [True, True]


def test_a_call_is_refused_by_its_arguments_and_not_run(guarded: Guarded) -> None:
    def look(place: str) -> str:
        """Look at a place."""
        raise AssertionError(place)

    call = f'{{"type": "function", "name": "look", "parameters": {{"place": "{FORBIDDEN}"}}}}'
    guarded.decoders["fine"].speech = answering(f"Let me look. {call}", FINE)
    run = guarded.chat("fine", tools=[look])
    assert run.wait(PATIENCE_S)
    assert isinstance(run.error, ShieldViolationError)
    assert (run.text, run.call_attempts, run.tool_calls) == ("Let me look. ", [], [])
    assert FORBIDDEN not in repr(run._emissions)


class Bank:
    """A memory whose one bank has a passage on tea and one on coffee."""

    queries = 0

    async def query_documents(self, bank_id: str, query: str, params: Any = None) -> QueryDocumentsResponse:
        self.queries += 1
        text = f"Coffee is {FORBIDDEN}." if "Coffee" in query else "Tea is warm."
        return QueryDocumentsResponse(chunks=[Chunk(content=text, token_count=3, document_id="a")], scores=[1.0])


def test_retrieved_chunks_are_checked_with_the_question(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, bank = guarded.workbench, Bank()
    monkeypatch.setattr(bench.inference, "memory", bank)
    fine = bench.ask("Tea?", "notes", model="fine", shields=["words"])
    assert fine.result(PATIENCE_S).completion_message.content == FINE
    refused: Any = bench.ask("Coffee?", "notes", model="fine", shields=["words"])
    assert refused.wait(PATIENCE_S)
    assert (refused.error.where, refused.text) == ("prompt", "")
    with pytest.raises(ShieldNotFoundError):
        bench.ask("Tea?", "notes", model="fine", shields=["nope"])
    assert bank.queries == 2


def test_a_recording_begins_without_what_shields_kept(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[Path] = []
    recording = tmp_path / "trace.jsonl"
    monkeypatch.setattr(guarded.shield, "forget", lambda: forgotten.append(recording))
    with guarded.workbench.record(recording):
        assert forgotten == [recording]


def test_sampled_answers_replay_with_their_seed(guarded: Guarded) -> None:
    run = guarded.chat(sampling_params=SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, top_p=0.9))
    assert run.wait(PATIENCE_S)
    assert run.seed is not None
    assert run.usage.generated_tokens > len(run.tokens)
