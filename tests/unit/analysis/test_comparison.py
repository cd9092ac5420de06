"""Runs side by side: where they part is what `expect.divergence` says, and KL is that of the whole distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.fakes.models import VOCAB, FakeCache, FakeDecoder, random_speech, scripted_speech
from tests.fakes.serving import FakeModels
from tests.unit.widgets.fake_session import FakeRun
from workbench import Comparison, Run, Workbench, expect
from workbench.analysis.distributions import kl_nats
from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import LogProbConfig, SamplingParams, SamplingStrategy, UserMessage
from workbench.records import TokenRecord


def shifted(cache: FakeCache) -> Any:
    """Nearly what `random_speech` says."""
    logits = random_speech()(cache)
    logits[:128] += 0.01
    return logits


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Workbench]:
    fake_models.add("random", FakeDecoder(random_speech()))
    fake_models.add("shifted", FakeDecoder(shifted))
    fake_models.add("hello", FakeDecoder(scripted_speech("hello")))
    fake_models.add("help", FakeDecoder(scripted_speech("help")))
    fake_models.add("wide", FakeDecoder(scripted_speech("hello", vocab=VOCAB + 4), vocab_size=VOCAB + 4))
    with Workbench(fake_models.config) as bench:
        yield bench


def answers(bench: Workbench, *models: str, **options: Any) -> list[Run[Any, Any]]:
    params = SamplingParams(max_tokens=8)
    runs = [bench.completion("\0", model=model, **{"sampling_params": params} | options) for model in models]
    for run in runs:
        run.result(30)
    return runs


def spelled(*texts: str, ids: Sequence[int] | None = None, model: str = "tiny") -> FakeRun:
    """A run of these tokens; each text has an id of its own, unless others are given."""
    numbers = ids or [sum(text.encode()) for text in texts]
    rows = zip(range(len(texts)), numbers, texts, strict=True)
    records = [TokenRecord(at, token_id, text, text.encode(), -1.0, 1, 1.0) for at, token_id, text in rows]
    run = FakeRun(f"run-{model}", records=records, model=model)
    run.step(len(texts) + 1)
    return run


# -------------------------------------------------------------------------------------------------- where they part


@pytest.mark.parametrize("models", [("hello", "help"), ("help", "hello"), ("random", "shifted"), ("random", "random")])
def test_runs_part_where_the_expectation_says(bench: Workbench, models: tuple[str, str]) -> None:
    one, other = answers(bench, *models)
    compared = Comparison([one, other])
    assert expect.divergence(one, other, position=compared.divergence) == compared.divergence


def test_an_answer_that_ends_first_parts_at_its_end() -> None:
    compared = Comparison([spelled("a", "b"), spelled("a", "b", "c")])
    assert compared.divergence == 2
    assert [frame.tolist() for _, frame in compared.to_frame().groupby("run")["is_same"]] == [
        [True, True],
        [True, True, False],
    ]


def test_of_several_runs_the_first_that_leaves_the_reference_counts(bench: Workbench) -> None:
    compared = Comparison(answers(bench, "hello", "hello", "help", "random"))
    parted = [pair.divergence.position if pair.divergence else None for pair in compared.pairs]
    assert parted[:2] == [None, 3]
    assert compared.divergence == min(at for at in parted if at is not None)


def test_read_while_they_grow_it_is_what_it_is_at_the_end() -> None:
    def fresh() -> list[FakeRun]:
        texts = ["a", " b", " c", " d"], ["a", " b", " x", " d", " e"]
        return [FakeRun(f"run-{i}", part, model="tiny") for i, part in enumerate(texts)]

    runs = fresh()
    growing = Comparison(runs)
    seen = []
    for step in (0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1):
        runs[step].step()
        seen.append(growing.divergence)
    assert growing.done
    assert seen == sorted(seen, key=lambda at: at is not None)  # once known it stays
    whole = Comparison(runs)
    assert (growing.divergence, growing.pairs[0].kl_nats) == (whole.divergence, whole.pairs[0].kl_nats)
    assert seen[-1] == 2


def test_where_they_part_is_known_before_any_distribution_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    handed_out = FakeRun.logprobs

    def logprobs(run: FakeRun, position: int) -> Any:
        asked.append(position)
        return handed_out(run, position)

    monkeypatch.setattr(FakeRun, "logprobs", logprobs)
    compared = Comparison([spelled("a", " b", " c"), spelled("a", " b", " x")])
    (pair,) = compared.read(patience_s=0)
    assert pair.divergence is not None
    assert (pair.divergence.position, pair.kl_nats, asked) == (2, [], [])
    (pair,) = compared.read()
    assert len(pair.kl_nats) == 3
    assert asked == [0, 0, 1, 1, 2, 2]


# ------------------------------------------------------------------------------------------------- how far they are


def test_kl_is_that_of_the_whole_distributions_up_to_the_first_difference(bench: Workbench) -> None:
    one, other = answers(bench, "random", "shifted")
    (pair,) = Comparison([one, other]).pairs
    assert len(pair.kl_nats) == (8 if pair.divergence is None else pair.divergence.position + 1)
    for position, value in enumerate(pair.kl_nats):
        p, q = (run.distribution(position).set_index("token_id").sort_index() for run in (one, other))
        assert value == pytest.approx((p["probability"] * (p["logprob"] - q["logprob"])).sum(), abs=1e-6)
        assert 0 < value < 0.001


def test_a_run_with_itself_is_nowhere_apart_and_other_settings_change_no_distribution(bench: Workbench) -> None:
    sampled = SamplingParams(strategy=SamplingStrategy.top_p, temperature=2.0, top_p=1.0, seed=3, max_tokens=8)
    (one,) = answers(bench, "random")
    (other,) = answers(bench, "random", sampling_params=sampled)
    assert Comparison([one, one]).pairs[0].kl_nats == [0.0] * 8
    (pair,) = Comparison([one, other]).pairs
    assert pair.divergence is not None
    assert pair.kl_nats == [0.0] * (pair.divergence.position + 1)


def test_kl_follows_its_definition_with_nothing_below_zero() -> None:
    p, q = np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.5, 0.25])
    assert kl_nats(p, q) == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))
    assert kl_nats(p, p) == 0.0
    with np.errstate(divide="ignore"):
        narrow = np.log([1.0, 0.0, 0.0])
    assert kl_nats(narrow, p) == pytest.approx(math.log(2))
    assert kl_nats(p, narrow) == math.inf


def test_logits_that_are_gone_leave_a_gap_and_nothing_else() -> None:
    class Forgetful(FakeRun):
        def logprobs(self, position: int) -> Any:
            if position < 2:
                raise InvalidRequestError("position", position, "one with logits still available")
            return super().logprobs(position)

    run = Forgetful()
    run.step(100)
    (pair,) = Comparison([run, run]).pairs
    assert [math.isnan(value) for value in pair.kl_nats[:4]] == [True, True, False, False]
    assert pair.mean_kl_nats == 0.0
    assert pair.why is None


def test_the_table_has_a_row_for_every_token_of_every_run(bench: Workbench) -> None:
    one, other = answers(bench, "hello", "help")
    frame = Comparison([one, other]).to_frame()
    assert list(frame.columns[:9]) == ["run", "model", *one.to_frame().columns]
    for index, run in enumerate((one, other)):
        own = frame[frame["run"] == index]
        assert own[run.to_frame().columns].reset_index(drop=True).equals(run.to_frame())
    assert frame.loc[frame["run"] == 1, "is_same"].tolist() == [True, True, True, False]
    assert frame.loc[frame["run"] == 1, "kl_nats"].notna().tolist() == [True, True, True, True]
    assert frame.loc[frame["run"] == 0, "kl_nats"].isna().all()


# --------------------------------------------------------------------------------------------- where there is no KL


def test_tokenizers_that_contradict_each_other_are_compared_by_their_characters() -> None:
    one = spelled("The", " sky", " is", " blue", model="one")
    other = spelled("The sky", " i", "s re", "d", " sky", ids=[1, 2, 3, 4, 5], model="other")
    (pair,) = Comparison([one, other]).pairs
    assert pair.divergence is not None
    assert (pair.divergence.position, pair.divergence.other_position) == (3, 2)
    assert (pair.by_text, pair.kl_nats) == (True, [])
    same_id = Comparison([spelled("ab", "c", ids=[1, 2], model="one"), spelled("xy", ids=[1], model="other")])
    assert same_id.pairs[0].why == "their tokenizers differ: token 1 is 'ab' and 'xy'"
    same_text = Comparison([spelled("ab", ids=[1], model="one"), spelled("ab", ids=[2], model="other")])
    assert same_text.pairs[0].why == "their tokenizers differ: 'ab' is token 1 and 2"
    assert same_text.divergence is None


def test_half_a_character_in_common_is_none() -> None:
    one = FakeRun(records=[TokenRecord(0, 1, "é", "é".encode(), -1, 1, 1)], model="one")
    other = FakeRun(records=[TokenRecord(0, 1, "è", "è".encode(), -1, 1, 1)], model="other")
    for run in (one, other):
        run.step(2)
    divergence = Comparison([one, other]).pairs[0].divergence
    assert divergence is not None
    assert divergence.position == 0


def test_a_space_that_begins_no_text_is_no_difference() -> None:
    one = FakeRun(records=[TokenRecord(0, 1, " Hello", b" Hello", -1, 1, 1)], model="one", text="Hello")
    other = spelled("Hel", "lo", ids=[1, 2], model="other")
    one.step(2)
    assert Comparison([one, other]).divergence is None


def test_vocabularies_of_different_sizes_have_no_kl(bench: Workbench) -> None:
    (pair,) = Comparison(answers(bench, "hello", "wide", logprobs=LogProbConfig(top_k=2))).pairs
    assert pair.why == "their vocabularies have 260 and 264 tokens"
    assert (pair.by_text, pair.divergence, pair.kl_nats) == (True, None, [])


def test_other_prompts_and_other_templates_are_said_to_be_the_reason() -> None:
    one, other = spelled("a"), spelled("a")
    other.prompt = [UserMessage(content="Hi")]
    assert Comparison([one, other]).pairs[0].why == "their prompts differ"
    (pair,) = Comparison([one, one], templates=["f00", "ba5"]).pairs
    assert (pair.why, pair.kl_nats, pair.divergence) == ("their chat templates differ", [], None)
    assert Comparison([one, one], templates=["f00", "f00"]).pairs[0].kl_nats == [0.0]


def test_a_model_elsewhere_has_no_kl_and_its_tokens_are_compared() -> None:
    class Elsewhere(FakeRun):
        def logprobs(self, position: int) -> Any:
            raise UnsupportedFieldError("position", self.model, "in a run whose model is in this process")

    one = Elsewhere(texts=["a", " b"])
    one.step(3)
    (pair,) = Comparison([one, spelled("a", " c")]).pairs
    assert pair.why == "a model outside this process provides no distributions"
    assert pair.divergence is not None
    unknown = [spelled("a", "b", ids=[-1, -1], model=model) for model in ("one", "other")]
    (pair,) = Comparison(unknown).pairs
    assert (pair.why, pair.divergence) == ("it is unknown whether their tokenizers are the same", None)


# ------------------------------------------------------------------------------------------------------- the object


def test_waiting_is_for_all_runs_and_telling_is_by_any() -> None:
    runs = [FakeRun("run-1"), FakeRun("run-2")]
    compared = Comparison(runs)
    told: list[str] = []
    stop = compared.subscribe(lambda run: told.append(run.id))
    assert not compared.wait(0.01)
    for run in runs:
        run.step(100)
    assert compared.wait(1)
    assert set(told) == {"run-1", "run-2"}
    stop()
    assert [run.subscribers for run in runs] == [0, 0]


def test_its_repr_says_who_where_and_how_far(bench: Workbench) -> None:
    shown = repr(Comparison(answers(bench, "hello", "hello", "help")))
    assert shown == ("<Comparison with hello: hello the same, mean KL 0 nat; help differs from token 4, mean KL 5 nat>")


@pytest.mark.parametrize("runs", [[], [spelled("a")], "ab", [1, 2], None])
def test_fewer_than_two_runs_are_refused(runs: Any) -> None:
    with pytest.raises(InvalidRequestError, match="runs must be two or more runs"):
        Comparison(runs)
    with pytest.raises(InvalidRequestError, match="templates must be a list with one hash for each"):
        Comparison([spelled("a"), spelled("b")], templates=["f00"])
