"""Two or more models or settings side by side on one prompt, decoded together, the first difference marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import traitlets

from workbench.comparing import Comparison, Pair
from workbench.errors import ClosedError, InvalidRequestError
from workbench.protocol import Message, SamplingParams, SamplingStrategy, UserMessage, effective_sampling
from workbench.records import ModelCard
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Parts, WorkbenchWidget
from workbench.widgets.coalescing import start_ticker
from workbench.widgets.compare_html import compare_html
from workbench.widgets.compare_wire import LETTERS, settings_in_words, wire_pairs
from workbench.widgets.composing import logprobs_with, take_the_place, until_made
from workbench.widgets.contract import RunLike, SessionLike
from workbench.widgets.run_feed import RunFeed
from workbench.widgets.stream_view import ALTERNATIVES, MODES
from workbench.widgets.wire import in_words

Models = Sequence[str | None] | str | None
Params = Sequence[SamplingParams] | SamplingParams | None

_DEFAULT = SamplingParams(max_tokens=128)
_NOTHING: dict[str, Any] = {"number": 0, "state": "idle", "pairs": []}
_INTERVAL_S = 0.25


class CompareView(WorkbenchWidget):
    """Starts one run for each side and shows them beside each other, A, B and so on; A is what the others are held to.

    Args:
        session: makes the runs.
        prompt: what stands in the prompt box.
        models: identifiers, one for all sides or one for each.
        sampling_params: one for all sides or one for each. Sides that draw and name no seed get the same one, so that
            nothing but what is compared differs: 1 at the first start, 2 at the second.
        mode: ``chat`` sends the prompt as a user's turn, ``completion`` continues it as it is.
        alternatives: how many other tokens are kept at each position.

    Raises:
        InvalidRequestError: there are not two to six sides, or a parameter is none.
        ModelNotFoundError: nobody serves a model; nothing was started.
    """

    _esm = module_source("compare_view")
    _css = style_source("compare_view")
    _twin_shows = ("differences",)

    feeds = Parts("The run feed of each side, A first.")
    sides: traitlets.List[dict[str, Any]] = traitlets.List(
        help="Letter, model and settings of each side, in words."
    ).tag(sync=True)
    common = traitlets.Unicode("", help="The sampling parameters that all sides have in common, in words.").tag(
        sync=True
    )
    prompt = traitlets.Unicode("", help="The text of the prompt box.").tag(sync=True)
    differences = traitlets.Dict(help="Where the runs part and how far apart they are, as they started or ended.").tag(
        sync=True
    )
    position = traitlets.Int(None, allow_none=True, min=0, help="The token that is looked at, in every side.").tag(
        sync=True
    )

    def __init__(
        self,
        session: SessionLike,
        prompt: str = "",
        *,
        models: Models = None,
        sampling_params: Params = None,
        mode: str = "chat",
        alternatives: int = ALTERNATIVES,
    ) -> None:
        if mode not in MODES:
            raise InvalidRequestError("mode", mode, "chat or completion")
        self._logprobs = logprobs_with(alternatives)
        self._session, self._mode = session, mode
        self._models, self._params = _sides(models, sampling_params)
        self._cards = [session.card(model) for model in self._models]
        self._comparison: Comparison | None = None
        self._sent: list[int] = []
        self._wait: Callable[[float | None], None] = lambda _timeout_s: None
        with ExitStack() as made:
            feeds = [until_made(made, RunFeed()) for _ in self._models]
            settings, common = settings_in_words(self._params)
            titles = _titles(self._cards, self._models, settings)
            super().__init__(feeds=feeds, sides=titles, common=common, prompt=prompt, differences=dict(_NOTHING))
            made.pop_all()
        feeds[0].observe(self._update_twin, "unit")
        self.on_msg(self._answer)

    @property
    def comparison(self) -> Comparison | None:
        """The runs that are shown, compared; None before the first."""
        return self._comparison

    @property
    def runs(self) -> tuple[RunLike, ...]:
        """One for each side; empty before the first."""
        return () if self._comparison is None else self._comparison.runs

    @property
    def divergence(self) -> int | None:
        """Position of the first difference; None where there is none."""
        return None if self._comparison is None else self._comparison.divergence

    def start(self, prompt: str | None = None) -> Comparison:
        """Start a run for each side at once; those that still go on are stopped first.

        Args:
            prompt: replaces the text of the prompt box; None takes what stands there.

        Raises:
            ClosedError: this view was closed.
            InvalidRequestError: the prompt is empty, or the session refuses a parameter; nothing goes on then.
        """
        with LOCK:
            if self.closed:
                raise ClosedError("this view was closed; make a new one")
            if prompt is not None:
                self.prompt = prompt
            if not self.prompt.strip():
                raise InvalidRequestError("prompt", self.prompt, "some text", in_form="Write a prompt first.")
            self.stop()
            comparison = self._compared(self._launch())
            self._comparison, self._sent = comparison, [0] * (len(self.feeds) - 1)
            self.position = None
            for feed, run in zip(self.feeds, comparison.runs, strict=True):
                feed.follow(run)
            self.differences = {"number": self.differences["number"] + 1, "state": "running", "pairs": []}
            ticker = start_ticker(
                comparison, lambda: self._publish(comparison), lambda: self._finish(comparison), interval_s=_INTERVAL_S
            )
            self._wait = ticker.join
            return comparison

    def stop(self) -> None:
        """Stop the runs that go on, within one step of their models."""
        for run in self.runs:
            if not run.done:
                run.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all runs have ended and were compared; True if they are."""
        self._wait(timeout_s)
        return self.differences["state"] != "running" and all(feed.wait(timeout_s) for feed in self.feeds)

    def static_html(self) -> str:
        return compare_html(self._comparison, self.sides, self.prompt, self.feeds[0].unit)

    def __repr__(self) -> str:
        return f"CompareView(sides={len(self.sides)}, divergence={self.divergence})"

    def _release(self) -> None:
        self.stop()
        for feed in self.feeds:
            feed.close()

    def _is_settled(self) -> bool:
        return bool(self.differences["state"] != "running")

    def _launch(self) -> list[RunLike]:
        # The number of the start, and no random one: a recording of it has to be asked the same again.
        seed = self.differences["number"] + 1
        with ExitStack() as started:  # where one is refused, the others must not go on
            runs = []
            for model, params in zip(self._models, self._params, strict=True):
                runs.append(self._ask(model, _seeded(params, seed)))
                started.callback(runs[-1].cancel)
            started.pop_all()
        return runs

    def _ask(self, model: str | None, params: SamplingParams) -> RunLike:
        if self._mode == "completion":
            return self._session.completion(self.prompt, model=model, sampling_params=params, logprobs=self._logprobs)
        messages: list[Message] = [UserMessage(content=self.prompt)]
        return self._session.chat_completion(messages, model=model, sampling_params=params, logprobs=self._logprobs)

    def _compared(self, runs: list[RunLike]) -> Comparison:
        templates = [card.template_sha256 for card in self._cards] if self._mode == "chat" else None
        return Comparison(runs, templates=templates)

    def _publish(self, comparison: Comparison) -> None:
        # The tokens first: where the runs part is said beside their texts, however slowly distributions come.
        pairs = comparison.read(patience_s=0)
        with LOCK:
            if self._comparison is comparison and not self.closed:
                wire = wire_pairs(pairs, self._sent)
                self._sent = [pair["from"] + len(pair["kl"]) for pair in wire]
                self.send({"kind": "differences", "number": self.differences["number"], "pairs": wire})
        comparison.read(_INTERVAL_S)  # outside the lock: the model's thread hands out logits, a step at a time

    def _finish(self, comparison: Comparison) -> None:
        pairs = comparison.read()
        with LOCK:
            if self._comparison is comparison and not self.closed:
                self.differences = self._whole(pairs, "done")

    def _whole(self, pairs: Sequence[Pair], state: str) -> dict[str, Any]:
        wire = wire_pairs(pairs, [0] * len(pairs))
        return {"number": self.differences["number"], "state": state, "pairs": wire}

    def _answer(self, _widget: Any, message: Any, _buffers: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "look":
            pairs = () if self._comparison is None else self._comparison.pairs
            whole = self._whole(pairs, self.differences["state"])
            self.send({"kind": "whole", "id": message.get("id"), "differences": whole})
        elif kind in ("run", "stop"):
            self.send({"kind": "reply", "id": message.get("id"), "error": self._done(message)})

    def _done(self, message: dict[str, Any]) -> str | None:
        """Do what a button asks for; what went wrong in words."""
        try:
            if message["kind"] == "stop":
                self.stop()
            else:
                prompt = message.get("prompt")
                self.start(prompt if isinstance(prompt, str) else None)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the person who clicked must read it
            return in_words(problem)
        return None


def compare(
    session: SessionLike,
    prompt: str,
    *,
    models: Models = None,
    sampling_params: Params = None,
    mode: str = "chat",
    alternatives: int = ALTERNATIVES,
) -> CompareView:
    """Ask the same of several models, or under several settings, at once; see `CompareView` for the arguments.

    A view of the very same question that is open on this session is closed.
    """
    opened = CompareView(
        session, prompt, models=models, sampling_params=sampling_params, mode=mode, alternatives=alternatives
    )
    try:
        opened.start()
    except Exception:
        opened.close()
        raise
    take_the_place(session, opened, (prompt, models, sampling_params, mode, alternatives))
    return opened


def _sides(models: Models, sampling_params: Params) -> tuple[list[str | None], list[SamplingParams]]:
    """One model and one set of parameters for each side."""
    names = [models] if models is None or isinstance(models, str) else models
    params = [_DEFAULT] if sampling_params is None else sampling_params
    params = [params] if isinstance(params, SamplingParams) else params
    if not isinstance(names, list | tuple):
        raise InvalidRequestError("models", models, "a list of models")
    if not isinstance(params, list | tuple):
        raise InvalidRequestError("sampling_params", sampling_params, "a list of SamplingParams")
    for index, one in enumerate(params):
        if not isinstance(one, SamplingParams):
            raise InvalidRequestError(f"sampling_params[{index}]", one, "a SamplingParams")
    count = max(len(names), len(params))
    if not 2 <= count <= len(LETTERS):
        given = f"{len(names)} and {len(params)}"
        raise InvalidRequestError("models, sampling_params", given, f"together 2 to {len(LETTERS)} sides to compare")
    if len(names) not in (1, count) or len(params) not in (1, count):
        given = f"{len(names)} and {len(params)}"
        raise InvalidRequestError("models, sampling_params", given, "as many of one as of the other, or one for all")
    names, params = list(names) * (count // len(names)), list(params) * (count // len(params))
    return names, [one.model_copy() for one in params]


def _seeded(params: SamplingParams, seed: int) -> SamplingParams:
    draws = effective_sampling(params).strategy != SamplingStrategy.greedy
    return params.model_copy(update={"seed": seed}) if draws and params.seed is None else params


def _titles(cards: list[ModelCard], models: list[str | None], settings: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "letter": letter,
            "model": model or card.identifier,
            "settings": " · ".join(filter(None, [card.precision, words])),
        }
        for letter, card, model, words in zip(LETTERS, cards, models, settings, strict=False)
    ]
