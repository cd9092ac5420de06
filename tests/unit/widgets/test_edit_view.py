"""The edit view without a browser: the changes that it makes, the runs that it starts, and what it says of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.unit.widgets.fake_insides import HEADS, LAYERS, SIZE, FakeInsides
from tests.unit.widgets.fake_session import FakeRun, FakeSession
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.insides import ModelPoints
from workbench.protocol import UserMessage
from workbench.widgets import EditView, RunFeed, edit
from workbench.widgets.edit_view import NO_RUN, NOT_HERE

PATIENCE_S = 30
PROMPT = "Why is the sky blue?"
PROMPT_TOKENS = 5
ANSWER = ["The", " sky", " is", " blue"]


def finished(session: FakeSession, prompt: str = PROMPT) -> FakeRun:
    run = session.completion(prompt)
    assert run.wait(PATIENCE_S)
    return run


def settled(view: EditView) -> EditView:
    assert view.wait(PATIENCE_S)
    return view


@pytest.fixture
def session() -> FakeSession:
    return FakeSession(ANSWER, tokens_per_s=1e6)


@pytest.fixture
def view(page: Page, session: FakeSession) -> EditView:
    return settled(EditView(finished(session), session=session))


def edits_of(view: EditView) -> list[tuple[Any, ...]]:
    """What the edited run was started with, without the numbers."""
    view.start()
    edited = settled(view).edited
    assert view.message == ""
    assert isinstance(edited, FakeRun)
    return [(one.point, one.operation, one.start, one.stop, one.head) for one in edited.request.edits]


@pytest.mark.parametrize(
    "part, head, points",
    [
        ("attention", None, ["attn_out.4"]),
        ("mlp", None, ["mlp_out.4"]),
        ("layer", None, ["attn_out.4", "mlp_out.4"]),
        ("head", 3, ["z.4"]),
    ],
)
@pytest.mark.parametrize("position", [None, 2])
def test_a_part_of_a_layer_is_zeroed_everywhere_or_at_one_token(
    view: EditView, part: str, head: int | None, points: list[str], position: int | None
) -> None:
    view.ablate(part, 4, head, position=position)
    where = (0, None) if position is None else (2, 3)
    assert edits_of(view) == [(point, "scale", *where, head) for point in points]
    assert ("all tokens" if position is None else "token 3 “␣the”") in view.changes[0]


@pytest.mark.parametrize("head", [None, 1])
def test_a_mean_is_that_of_the_point_over_the_text(view: EditView, head: int | None) -> None:
    view.ablate("mlp" if head is None else "head", 2, head, method="mean")
    point = "mlp_out.2" if head is None else "z.2"
    assert edits_of(view) == [(point, "set", 0, None, head)]
    size = SIZE if head is None else SIZE // HEADS
    assert view.edited is not None
    assert np.allclose(view.edited.request.edits[0].value, [(PROMPT_TOKENS + len(ANSWER) - 1) / 2 + 2] * size)


def test_the_edited_run_is_beside_the_original_and_measured_at_each_of_its_tokens(
    view: EditView, session: FakeSession
) -> None:
    view.ablate("layer", 0)
    view.start()
    settled(view)
    original, free, given = view.comparison.runs
    assert original is view.feed.run
    assert given.sampling_params.max_tokens == len(ANSWER)
    assert [one["letter"] for one in view.comparison.sides if one.get("beside")] == ["C"]
    pair, measured = view.comparison.comparison.pairs
    assert pair.divergence.position == view.comparison.divergence == 2
    assert (measured.divergence, len(measured.kl_nats)) == (None, len(ANSWER))
    assert measured.kl_nats[0] == pytest.approx(0, abs=1e-6)
    assert measured.kl_nats[1] > 0
    assert [run.id for run in session.runs] == [original.id, free.id, given.id]


def test_changes_are_applied_together_in_their_order_and_removed_one_by_one(view: EditView) -> None:
    for layer in range(3):
        view.ablate("mlp", layer)
    view.remove(1)
    assert [point for point, *_ in edits_of(view)] == ["mlp_out.0", "mlp_out.2"]
    with pytest.raises(InvalidRequestError, match="index"):
        view.remove(2)


def test_a_patch_takes_a_token_of_one_layer_to_a_token_of_another(view: EditView, session: FakeSession) -> None:
    other = finished(session, "Is the sea green?")
    view.patch(other, 1, 3, to_layer=5, to=6)
    assert edits_of(view) == [("resid_post.5", "set", 6, 7, None)]
    assert view.edited is not None
    assert view.edited.request.edits[0].value == [4.0] * SIZE
    view.patch(other, 2, 0, to_layer=5, to=6)  # of one cell, the last patch counts
    view.patch(other, 2, 0)
    assert [label.split(" with")[0] for label in view.changes] == [
        "Patch layer 5, token 7 “␣sky”",
        "Patch layer 2, token 1 “Why”",
    ]


def test_steering_adds_a_vector_and_another_factor_replaces_the_change(view: EditView, session: FakeSession) -> None:
    view.steer("abc", "b", 3, 4)
    view.steer("abc", "b", 3, -2.5)
    assert edits_of(view) == [("resid_post.3", "add", 0, None, None)]
    assert view.edited is not None
    assert view.edited.request.edits[0].value == [-5.0] * SIZE
    assert view.changes == ["Steer after layer 3: -2.5 × (“abc” − “b”)"]


Asked = Callable[[EditView, FakeSession], Any]
REFUSED: list[tuple[str, Asked]] = [
    ("This model has no layer 6. Its layers are 0 to 5.", lambda view, _: view.ablate("mlp", LAYERS)),
    ("Layer 1 has no head 4. Its heads are 0 to 3.", lambda view, _: view.ablate("head", 1, HEADS)),
    ("Layer 1 has no head None. Its heads are 0 to 3.", lambda view, _: view.ablate("head", 1)),
    ("part must be one of layer, attention, mlp, head", lambda view, _: view.ablate("ear", 1)),
    ("method must be one of zero, mean", lambda view, _: view.ablate("mlp", 1, method="max")),
    ("Choose a token first.", lambda view, _: view.ablate("mlp", 1, position=PROMPT_TOKENS + len(ANSWER))),
    ("Add a change first.", lambda view, _: view.start()),
    ("Write texts to steer towards", lambda view, _: view.steer(" \n", "a", 1)),
    ("factor must be from -20 to 20", lambda view, _: view.steer("a", "b", 1, float("nan"))),
    ("That run is of big, this one of", lambda view, _: view.patch(ended(FakeRun(model="big")), 0, 0)),
    ("Choose a token first.", lambda view, session: view.patch(finished(session, "a"), 0, 70)),
    ("This model has no layer 9.", lambda view, session: view.patch(finished(session, "a"), 9, 0)),
]


def ended(run: FakeRun) -> FakeRun:
    run.step(100)
    return run


@pytest.mark.parametrize("said, ask", REFUSED)
def test_what_the_model_lacks_is_refused_in_words_and_changes_nothing(
    view: EditView, session: FakeSession, said: str, ask: Asked
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        ask(view, session)
    assert said in (refused.value.in_form or str(refused.value))
    assert view.changes == []


def test_a_page_gets_the_reason_as_the_reply(view: EditView, page: Page) -> None:
    page.send(view, {"kind": "ablate", "id": 1, "part": "head", "layer": 1, "head": 9})
    page.send(view, {"kind": "ablate", "id": 2, "part": "head", "layer": 1, "head": 2})
    page.send(view, {"kind": "patch", "id": 3, "source": "run-77", "layer": 0, "position": 0, "to_layer": 0, "to": 0})
    page.send(view, {"kind": "remove", "id": 4, "index": 5})
    page.send(view, {"kind": "steer", "id": 5})
    page.send(view, {"kind": "read", "id": 6, "prompt": " "})
    page.send(view, {"kind": "dance", "id": 7})
    assert [reply["error"] for reply in page.customs(view, "reply")] == [
        "Layer 1 has no head 9. Its heads are 0 to 3.",
        None,
        "Choose a run to patch from first.",
        "That change was removed before.",
        "Write texts to steer towards and away from.",
        "Write a prompt first.",
    ]
    assert view.changes == ["Zero head 2 of layer 1: all tokens"]


def test_a_second_prompt_is_read_as_the_first_one_was(page: Page, session: FakeSession) -> None:
    run = session.chat_completion([UserMessage(content="Hello you")])
    assert run.wait(PATIENCE_S)
    view = settled(EditView(run, session=session))
    page.send(view, {"kind": "read", "id": 1, "prompt": "Good bye"})
    assert settled(view).source["labels"][3:5] == ["Good", " bye"]
    assert session.calls[-1]["method"] == "chat_completion"
    assert session.calls[-1]["sampling_params"].max_tokens == 1
    assert [one["text"] for one in view.others] == ["run-2: Good bye", "run-1: Hello you"]


def test_without_a_workbench_there_is_neither_steering_nor_a_second_prompt(page: Page, session: FakeSession) -> None:
    view = settled(EditView(finished(session)))
    assert view.can_ask is False
    page.send(view, {"kind": "steer", "id": 1, "towards": "a", "away": "b", "layer": 1, "factor": 1})
    page.send(view, {"kind": "read", "id": 2, "prompt": "a"})
    assert all("bench.edit(run)" in reply["error"] for reply in page.customs(view, "reply"))


def test_other_prompts_and_models_drop_the_changes_and_branches_keep_them(page: Page, session: FakeSession) -> None:
    feed = RunFeed(finished(session))
    view = settled(EditView(feed=feed, session=session))
    view.ablate("mlp", 0)
    feed.follow(finished(session))
    assert len(settled(view).changes) == 1
    feed.follow(finished(session, "Another prompt"))
    assert settled(view).changes == []
    assert [one["id"] for one in view.others] == ["run-2", "run-1", "run-3"]


def test_a_model_that_fails_or_is_closed_or_elsewhere_is_told_and_the_changes_stay(
    view: EditView, session: FakeSession, page: Page
) -> None:
    view.ablate("mlp", 0, method="mean")
    insides = session.runs[0].inspector.insides
    assert insides is not None
    insides.is_closed = True
    view.start()
    assert "the model of this run was closed" in settled(view).message
    assert (len(view.changes), view.busy) == (1, "")
    assert "the model of this run was closed" in view.static_html()
    elsewhere = ended(FakeRun(texts=ANSWER, model="remote"))
    elsewhere.inspector = None  # type: ignore[assignment]
    assert settled(EditView(elsewhere)).message == NOT_HERE
    assert EditView().message == NO_RUN


def test_a_point_that_the_model_lacks_is_refused_with_the_reason(
    view: EditView, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ModelPoints(LAYERS, {"resid_post": (SIZE,)}, {"mlp_out": "its experts share one output"})
    monkeypatch.setattr(FakeInsides, "points", points)
    with pytest.raises(InvalidRequestError) as refused:
        view.ablate("mlp", 0)
    assert refused.value.in_form == "This model cannot: its experts share one output."
    with pytest.raises(InvalidRequestError):
        view.ablate("head", 0, 0)


def test_a_provider_without_edits_is_told(view: EditView, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_edits: Any, **_options: Any) -> Any:
        raise UnsupportedFieldError("edits", 1, "left out: this provider has no edits")

    view.ablate("mlp", 0)
    monkeypatch.setattr(view.feed.run, "edit", refuse)
    view.start()
    assert settled(view).message.startswith("The changes could not be computed: edits must be left out")


def test_another_start_stops_the_edited_runs_and_never_the_original(page: Page) -> None:
    session = FakeSession(ANSWER, tokens_per_s=0)
    run = session.completion(PROMPT)
    run.step(2)
    view = EditView(run, session=session)
    assert view._reading.wait(PATIENCE_S)
    view.ablate("mlp", 0)
    for _ in range(2):
        view.start()
        assert view._work.wait(PATIENCE_S)
    assert [one._cancelled.is_set() for one in session.runs] == [False, True, True, False, False]
    view.close()
    assert [one._cancelled.is_set() for one in session.runs] == [False, True, True, True, True]
    for one in session.runs:
        one.step(100)


def test_nothing_is_read_while_nobody_looks(page: Page, session: FakeSession) -> None:
    view = settled(EditView(finished(session), active=False))
    assert view.shape == []
    view.active = True
    assert settled(view).shape == [LAYERS, HEADS]


def test_the_twin_has_the_changes_and_the_comparison(view: EditView) -> None:
    assert "No changes." in view.static_html()
    view.ablate("mlp", 0)
    view.start()
    twin = settled(view).static_html()
    assert "<li>Zero MLP of layer 0: all tokens</li>" in twin
    assert "A and B diverge at token 3" in twin
    assert "KL(A‖C)" in twin
    assert twin.count('<pre dir="auto"') == 2  # C has no text of its own


def test_whatever_prompts_and_tokens_say_is_text_in_the_twin(page: Page) -> None:
    session = FakeSession(list(PAYLOADS), tokens_per_s=1e6)
    view = settled(EditView(finished(session, " ".join(PAYLOADS)), session=session))
    view.ablate("mlp", 0, position=1)
    view.steer(" ".join(PAYLOADS), "b", 1)
    view.start()
    twin = settled(view).static_html()
    assert not any(word in twin.lower() for word in ("<script", "<img", "<iframe"))


def test_opening_it_again_closes_the_one_before(page: Page, session: FakeSession) -> None:
    run = finished(session)
    first = edit(session, run)
    second = edit(session, run)
    assert (first.closed, second.closed, first.comparison.closed) == (True, False, True)
