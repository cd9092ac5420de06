"""Sides of a comparison start together on one prompt, and their differences reach the page."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ipywidgets.widgets import widget as ipywidget

import workbench
from tests.budget import some
from tests.fakes.serving import FakeModels
from tests.unit.widgets.fake_answers import MODELS, PARTED, SEA, AnsweringSession
from tests.unit.widgets.fake_session import FakeSession, wait_until
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.html.test_twins import Reader, shown
from tests.unit.widgets.recorded_page import Page
from workbench import Workbench, expect
from workbench.errors import ClosedError, InsufficientMemoryError, InvalidRequestError, ModelNotFoundError
from workbench.protocol import SamplingParams, SamplingStrategy, UserMessage
from workbench.widgets import CompareView, compare
from workbench.widgets.format import visible
from workbench.widgets.wire.comparison import settings_in_words

GREEDY = SamplingParams(max_tokens=20)
WARM = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.9, top_p=0.9, max_tokens=20)


def ended(view: CompareView) -> CompareView:
    assert view.wait(60)
    return view


def test_a_comparison_is_played_from_a_recording_with_its_distances(
    page: Page, fake_models: FakeModels, tmp_path: Path
) -> None:
    fake_models.add("random")
    path, tape = tmp_path / "trace.jsonl", {"provider_id": "tape", "provider_type": "inline::trace"}
    sides = {"sampling_params": [WARM, WARM.model_copy(update={"temperature": 1.4})], "mode": "completion"}
    seen = []
    with Workbench(fake_models.config) as bench, bench.record(path):
        seen.append(read(bench.compare("once upon a time", **sides)))
    played = {"providers": {"inference": [{**tape, "config": {"path": str(path), "timing": "skipped"}}]}}
    with Workbench(played) as bench:
        seen.append(read(bench.compare("once upon a time", **sides)))
    assert seen[1] == seen[0]
    assert seen[0][1]


def read(view: CompareView) -> tuple[Any, ...]:
    assert view.comparison is not None
    (pair,) = ended(view).comparison.pairs  # type: ignore[union-attr]
    return view.divergence, pair.kl_nats, pair.why, [run.text for run in view.runs]


# ------------------------------------------------------------------------------------------------------- the sides


def test_two_models_are_asked_the_same_at_once(page: Page) -> None:
    session = AnsweringSession()
    view = ended(compare(session, "Why is the sea salty?", models=MODELS))
    assert [call["model"] for call in session.calls] == MODELS
    assert [call["prompt"] for call in session.calls] == [[UserMessage(content="Why is the sea salty?")]] * 2
    assert [(side["letter"], side["settings"]) for side in view.sides] == [("A", "int4"), ("B", "float32")]
    assert (view.divergence, view.runs) == (PARTED, tuple(session.runs))
    one, other = ([token.token_id for token in run.tokens] for run in view.runs)
    assert expect.divergence(one, other, position=PARTED) == PARTED


def test_two_settings_of_one_model_are_told_apart_by_what_differs(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ended(compare(session, "Once", sampling_params=[GREEDY, WARM], mode="completion"))
    assert [call["method"] for call in session.calls] == ["completion"] * 2
    assert [side["settings"] for side in view.sides] == ["int4 · greedy", "int4 · top-p 0.9 · temperature 0.9"]
    assert view.common == "up to 20 tokens"
    assert view.divergence is None
    assert max(view.comparison.pairs[0].kl_nats) == 0.0  # type: ignore[union-attr]


def test_models_and_settings_go_together_pair_by_pair(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    ended(compare(session, "Hi", models=MODELS, sampling_params=[GREEDY, WARM]))
    asked = [(call["model"], call["sampling_params"].strategy) for call in session.calls]
    assert asked == [(MODELS[0], "greedy"), (MODELS[1], "top_p")]


def test_sides_that_draw_share_a_seed_that_nobody_named(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    own = WARM.model_copy(update={"seed": 7})
    view = ended(compare(session, "Hi", sampling_params=[WARM, WARM, own, GREEDY]))
    first, second, named, none = [call["sampling_params"].seed for call in session.calls]
    assert first == second is not None
    assert (named, none) == (7, None)
    view.start()
    ended(view)
    assert session.calls[4]["sampling_params"].seed not in (None, first)


def test_settings_are_in_words_what_counts() -> None:
    own, common = settings_in_words([GREEDY, WARM.model_copy(update={"seed": 3, "stop": ["\n"]})])
    assert own == ["greedy", 'top-p 0.9 · temperature 0.9 · seed 3 · stops at "\\n"']
    assert common == "up to 20 tokens"


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({}, InvalidRequestError, "2 to 6 sides"),
        ({"models": MODELS[:1]}, InvalidRequestError, "2 to 6 sides"),
        ({"models": [MODELS[0]] * 7}, InvalidRequestError, "2 to 6 sides"),
        ({"models": MODELS, "sampling_params": [GREEDY] * 3}, InvalidRequestError, "equal in number, or one of either"),
        ({"models": 5}, InvalidRequestError, "models must be a list of models"),
        ({"sampling_params": [GREEDY, "warm"]}, InvalidRequestError, r"sampling_params\[1\] must be a SamplingParams"),
        ({"models": [MODELS[0], "gpt-5"]}, ModelNotFoundError, "gpt-5"),
        ({"models": MODELS, "mode": "sing"}, InvalidRequestError, "chat or completion"),
        ({"models": MODELS, "alternatives": -1}, InvalidRequestError, "alternatives"),
        ({"models": MODELS, "promt": "x"}, TypeError, "promt"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(
    page: Page, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    before, session = set(ipywidget._instances), FakeSession()
    with pytest.raises(error, match=words):
        compare(session, "Hi", **options)
    assert session.calls == []
    assert set(ipywidget._instances) == before


def test_an_empty_prompt_is_refused_and_leaves_nothing(page: Page) -> None:
    before = set(ipywidget._instances)
    with pytest.raises(InvalidRequestError, match="prompt"):
        compare(FakeSession(), "  ", models=MODELS)
    assert set(ipywidget._instances) == before


def test_where_one_side_is_refused_the_others_do_not_go_on(page: Page) -> None:
    class Halfway(FakeSession):
        def chat_completion(self, *args: Any, **options: Any) -> Any:
            if self.runs:
                raise InvalidRequestError("sampling_params.seed", 7, "one that this server knows")
            return super().chat_completion(*args, **options)

    session = Halfway(["word"] * 10_000, tokens_per_s=100)
    with pytest.raises(InvalidRequestError, match="seed"):
        compare(session, "Hi", models=MODELS)
    assert session.runs[0].wait(60)
    assert session.runs[0].state == "cancelled"


# -------------------------------------------------------------------------------------------- sides chosen in the page


def test_the_sides_of_the_call_are_what_the_page_begins_with(page: Page) -> None:
    view = ended(compare(FakeSession(tokens_per_s=5000), "Hi", models=MODELS, sampling_params=[GREEDY, WARM]))
    assert view.choices == [{"model": model, "precision": ""} for model in MODELS]
    assert [one.value for one in view.controls] == [GREEDY, WARM]
    assert [(one["value"], one["precision"]) for one in view.models] == [(MODELS[0], "int4"), (MODELS[1], "float32")]
    assert set(view.models[0]["precisions"]) == {"float32", "bf16", "fp8", "int8"}


def test_what_is_chosen_in_the_page_is_asked_at_the_next_start_and_said_from_then_on(page: Page) -> None:
    session = FakeSession(["word "] * 10_000, tokens_per_s=100)
    view = compare(session, "Hi", models=MODELS)
    told, code = list(view.sides), view.code
    page.set(view, choices=[{"model": MODELS[1], "precision": ""}] * 2)
    page.set(view.controls[1], params=view.controls[1].params | {"max_tokens": 7})
    assert (view.sides, view.code) == (told, code)
    view.stop()
    page.set(view, prompt="Hello")
    page.send(view, {"kind": "run", "id": 1})
    assert [call["model"] for call in session.calls[2:]] == [MODELS[1]] * 2
    assert [call["sampling_params"].max_tokens for call in session.calls[2:]] == [128, 7]
    assert [side["settings"] for side in view.sides] == ["float32 · up to 128 tokens", "float32 · up to 7 tokens"]
    view.close()


def test_before_the_first_start_the_titles_and_the_code_follow_the_choices(page: Page) -> None:
    view = CompareView(FakeSession(), "Hi", models=MODELS)
    page.set(view, choices=[{"model": MODELS[0], "precision": ""}] * 2)
    view.controls[1].value = WARM
    assert [(side["letter"], side["model"]) for side in view.sides] == [("A", MODELS[0]), ("B", MODELS[0])]
    assert "top-p" in view.sides[1]["settings"]
    assert f'models=["{MODELS[0]}", "{MODELS[0]}"]' in view.code
    page.set(view, prompt="Hello")
    assert '"Hello"' in view.code


def test_sides_are_added_up_to_four_and_removed_down_to_two(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ended(compare(session, "Hi", models=MODELS, sampling_params=[GREEDY, WARM]))
    before = len(ipywidget._instances)
    for _ in range(3):
        page.send(view, {"kind": "add", "id": 1})
    assert page.customs(view, "reply")[-1]["error"] == "At most four sides."
    assert [choice["model"] for choice in view.choices] == [MODELS[0], *[MODELS[1]] * 3]
    page.send(view, {"kind": "run", "id": 2})
    assert [side["letter"] for side in ended(view).sides] == list("ABCD")
    assert [call["sampling_params"].strategy for call in session.calls[2:]] == ["greedy", "top_p", "top_p", "top_p"]
    assert len(view.feeds) == len(view.runs) == 4
    for side in (0, 2, 0):
        page.send(view, {"kind": "remove", "id": 3, "side": side})
    assert page.customs(view, "reply")[-1]["error"] == "A comparison needs at least two sides."
    view.start()
    ended(view)
    assert [call["sampling_params"].strategy for call in session.calls[6:]] == ["top_p", "top_p"]
    assert len(ipywidget._instances) == before


def test_a_choice_is_sent_for_its_side_and_a_list_that_fits_no_sides_is_refused(page: Page) -> None:
    view = CompareView(FakeSession(), "Hi", models=MODELS)
    page.send(view, {"kind": "add", "id": 1})
    page.send(view, {"kind": "choose", "id": 2, "side": 1, "model": MODELS[0], "precision": ""})
    assert [choice["model"] for choice in view.choices] == [MODELS[0], MODELS[0], MODELS[1]]
    for message in ({"side": 3, "model": MODELS[0]}, {"side": 0, "model": "nobody"}):
        page.send(view, {"kind": "choose", "id": 3, **message})
        assert page.customs(view, "reply")[-1]["error"]
    for wrong in ([{"model": MODELS[0]}] * 3, view.choices[:2]):
        with pytest.raises(InvalidRequestError, match="choices must be"):
            view.choices = wrong
    assert len(view.choices) == len(view.controls) == 3
    assert ended_after(view, page)


def ended_after(view: CompareView, page: Page) -> bool:
    page.send(view, {"kind": "run", "id": 9})
    return len(ended(view).runs) == 3


def test_a_precision_that_is_not_served_yet_is_in_the_title_and_in_no_code(page: Page) -> None:
    view = CompareView(FakeSession(), models=[MODELS[0]] * 2)
    assert 'bench.compare(\n    models=["' in view.code  # no prompt yet, so none that would be refused
    view.choose(1, MODELS[0], "bf16")
    assert [side["settings"].partition(" ")[0] for side in view.sides] == ["int4", "bf16"]
    assert view.code == ""


def test_a_precision_of_a_model_whose_files_are_not_here_is_refused(page: Page) -> None:
    class Remote(FakeSession):
        def card(self, model: str | None = None) -> Any:
            return replace(super().card(model), architecture=None)

    session = Remote()
    view = CompareView(session, "Hi", models=[MODELS[0]] * 2)
    view.choose(1, MODELS[0], "bf16")
    with pytest.raises(InvalidRequestError, match="until its files are downloaded"):
        view.start()
    assert session.calls == []


def test_a_precision_that_a_model_is_not_served_in_is_registered_once(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = CompareView(session, "Hi", models=[MODELS[0]] * 2)
    chosen = [{"model": MODELS[0], "precision": ""}, {"model": MODELS[0], "precision": "int8"}]
    for _ in range(2):
        page.set(view, choices=chosen)
        view.start()
        ended(view)
        assert [side["model"] for side in view.sides] == [MODELS[0], f"{MODELS[0]}-int8"]
        assert [side["settings"].partition(" ")[0] for side in view.sides] == ["int4", "int8"]
    assert [one.identifier for one in session.list_models()].count(f"{MODELS[0]}-int8") == 1
    assert view.choices[1] == {"model": f"{MODELS[0]}-int8", "precision": ""}
    page.set(view, choices=[chosen[0], {"model": MODELS[0], "precision": "int4"}])
    view.start()
    assert [side["model"] for side in ended(view).sides] == [MODELS[0]] * 2


def test_a_precision_that_cannot_be_had_is_said_and_starts_nothing(page: Page) -> None:
    class Full(FakeSession):
        def register_model(self, *_: Any, **__: Any) -> Any:
            raise InsufficientMemoryError("float32 needs 38,000 MiB; choose int8 or int4")

    session = Full()
    view = CompareView(session, "Hi", models=[MODELS[0]] * 2)
    page.set(view, choices=[{"model": MODELS[0], "precision": name} for name in ("", "float32")])
    page.send(view, {"kind": "run", "id": 1})
    assert page.customs(view, "reply")[-1]["error"] == "float32 needs 38,000 MiB; choose int8 or int4"
    assert (session.calls, view.runs) == ([], ())


def test_the_code_asks_again_for_what_is_shown(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ended(compare(session, "Hi", models=MODELS, sampling_params=[GREEDY, WARM], mode="completion"))
    view.start("Once upon")
    ended(view)
    asked = session.calls[2:]
    again = FakeSession(tokens_per_s=5000)
    bench = SimpleNamespace(compare=partial(compare, again))
    repeated = eval(view.code.partition("is open\n")[2], {"bench": bench, "wb": workbench})
    assert again.calls == asked
    assert asked[1]["sampling_params"].seed == 2
    repeated.close()


def test_without_arguments_nothing_is_asked_and_all_is_chosen_in_the_page(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = compare(session)
    assert (session.calls, view.prompt, len(view.choices)) == ([], "", 2)
    page.set(view, choices=[{"model": model, "precision": ""} for model in MODELS])
    page.set(view, prompt="Hello")
    page.send(view, {"kind": "run", "id": 1})
    assert [call["model"] for call in session.calls] == MODELS
    ended(view)


# -------------------------------------------------------------------------------------------------------- the page


def test_the_page_gets_every_difference_once_while_they_run_and_the_whole_at_the_end(page: Page) -> None:
    session = AnsweringSession(tokens_per_s=40)
    view = ended(compare(session, "Why?", models=MODELS))
    start, whole = page.writes(view, "differences")
    assert (start["state"], start["pairs"], whole["state"]) == ("running", [], "done")
    (pair,) = whole["pairs"]
    assert pair["at"] == [PARTED, PARTED]
    said = pair["said"]
    assert said["bits"].startswith(
        f"A and B diverge at token {PARTED + 1}: “␣carry” and “␣bring”. KL(A‖B) over 7 tokens: mean "
    )
    for unit in ("bits", "nats"):
        assert re.search(rf", maximum \S+ {unit}\.$", said[unit])
    told: list[float] = []
    for message in page.customs(view, "differences"):
        assert message["number"] == whole["number"]
        assert message["pairs"][0]["from"] == len(told)
        told += message["pairs"][0]["kl"]
    assert told == pair["kl"][: len(told)]
    assert len(pair["kl"]) == PARTED + 1


def test_a_page_that_comes_late_is_told_everything(page: Page) -> None:
    view = ended(compare(AnsweringSession(), "Why?", models=MODELS))
    page.send(view, {"kind": "look", "id": 3})
    (reply,) = page.customs(view, "whole")
    assert (reply["id"], reply["differences"]) == (3, view.differences)


def test_run_and_stop_in_the_page_are_run_and_stop(page: Page) -> None:
    session = FakeSession(["word "] * 10_000, tokens_per_s=100)
    view = compare(session, "one", models=MODELS)
    wait_until(lambda: all(len(run.tokens) > 1 for run in session.runs))
    page.send(view, {"kind": "stop", "id": 1})
    ended(view)
    assert [run.state for run in view.runs] == ["cancelled", "cancelled"]
    page.set(view, prompt="two")
    page.send(view, {"kind": "run", "id": 2})
    assert [call["prompt"][0].content for call in session.calls] == ["one", "one", "two", "two"]
    page.set(view, prompt=" ")
    page.send(view, {"kind": "run", "id": 3})
    first, second, third = page.customs(view, "reply")
    assert (first["error"], second["error"]) == (None, None)
    assert third["error"] == "Write a prompt first."
    view.close()
    assert all(run.wait(60) for run in session.runs)


def test_a_second_start_stops_the_first_runs_and_shows_the_new_ones(page: Page) -> None:
    session = FakeSession(["word "] * 500, tokens_per_s=100)
    view = compare(session, "one", models=MODELS)
    first = view.runs
    view.start("two")
    assert all(run.wait(60) for run in first)
    assert {run.state for run in first} == {"cancelled"}
    assert [feed.run for feed in view.feeds] == list(view.runs)
    view.stop()
    assert ended(view).differences["number"] == 2


# -------------------------------------------------------------------------------------------------- the static twin


def test_the_twin_has_every_text_the_sentence_and_the_tokens_side_by_side(page: Page) -> None:
    view = ended(compare(AnsweringSession(), "Why is the sea salty?", models=MODELS))
    html = view.static_html()
    reader = Reader(html)
    for words in ("Why is the sea salty?", SEA, f"A: {MODELS[0]} · int4", f"B: {MODELS[1]} · float32", "end of turn"):
        assert words in reader.text
    assert f"A and B diverge at token {PARTED + 1}" in reader.text
    assert html.count("<strong") == 2
    assert [title.split(",")[0] for title in reader.titles] == [f"token {PARTED + 1}"] * 2
    assert "tokens/s" not in reader.text


def test_the_twin_before_a_run_says_what_will_be_asked(page: Page) -> None:
    view = CompareView(FakeSession(), "Hello", models=MODELS)
    text = Reader(view.static_html()).text
    assert "Hello" in text
    assert "No run yet." in text
    assert repr(view) == "CompareView(sides=2, divergence=None)"
    assert (view.runs, view.comparison, view.wait(1)) == ((), None, True)


@pytest.mark.parametrize("payload", some(PAYLOADS))
def test_whatever_the_models_say_reads_as_text(page: Page, payload: str) -> None:
    session = AnsweringSession(dict(zip(MODELS, [payload, f"x{payload}"], strict=True)))
    view = ended(compare(session, payload, models=MODELS))
    text = Reader(view.static_html()).text
    assert text.count(shown(payload)) >= 3  # the prompt and both answers
    assert visible(payload.split(" ", maxsplit=1)[0]) in text


def test_a_run_that_fails_says_why_and_the_other_is_shown(page: Page) -> None:
    class Failing(AnsweringSession):
        def _run(self, *args: Any) -> Any:
            run = super()._run(*args)
            if len(self.runs) == 2:
                run._failure = RuntimeError("out of luck")
            return run

    view = ended(compare(Failing(tokens_per_s=400), "Why?", models=MODELS))
    text = Reader(view.static_html()).text
    assert SEA in text
    assert "failed · out of luck" in text
    assert view.divergence == PARTED


# ------------------------------------------------------------------------------------------------------------- life


def test_a_cell_that_is_run_again_leaves_no_more_live_models_than_once(page: Page) -> None:
    session = FakeSession(["a"], tokens_per_s=5000)
    other = compare(session, "another question", models=MODELS)
    compare(session, "Hi", models=MODELS)
    first = len(ipywidget._instances)
    for _ in range(30):
        last = ended(compare(session, "Hi", models=MODELS))
    assert len(ipywidget._instances) == first
    assert not other.closed
    last.close()
    last.close()
    other.close()
    with pytest.raises(ClosedError):
        last.start()
    assert repr(last) == "CompareView(sides=2, divergence=None)"


def test_a_default_that_is_given_is_no_other_comparison() -> None:
    session = FakeSession()
    first = compare(session)
    second = compare(session, models=None, mode="chat")
    assert first.closed
    third = compare(session, mode="chat", models=None, sampling_params=None)
    assert second.closed
    third.close()
