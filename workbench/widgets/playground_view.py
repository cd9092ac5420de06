"""The playground: all views of the runs of a prompt around one feed, with model picker and sampling controls."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import traitlets

from workbench.protocol import SamplingParams
from workbench.records import Breakpoint, TokenRecord
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.attention_view import AttentionView
from workbench.widgets.base import LOCK, Part
from workbench.widgets.code import branch_code, call_code
from workbench.widgets.composing import (
    ModelAndSampling,
    close_on_error,
    logprobs_with,
    replace_open_widget,
    takes_arguments_of,
)
from workbench.widgets.contract import RunLike, SteeringSession
from workbench.widgets.edit_view import EditView
from workbench.widgets.html import twins
from workbench.widgets.layers_view import LayersView
from workbench.widgets.model_picker import ModelPicker
from workbench.widgets.prompt_view import PromptView
from workbench.widgets.run_feed import Positions, RunFeed
from workbench.widgets.sampling_controls import SamplingControls
from workbench.widgets.sampling_waterfall import SamplingWaterfall
from workbench.widgets.stream_view import ALTERNATIVES, StreamView
from workbench.widgets.token_inspector import TokenInspector
from workbench.widgets.token_table import TokenTable
from workbench.widgets.token_tree import TokenTree

TABS = ("tokens", "waterfall", "layers", "attention", "edit", "tree", "prompt", "code")
DEFAULT_PROMPT = "Why is the sky blue? Two sentences."


class Playground(ModelAndSampling):
    """A prompt, its runs and all views of them in one widget.

    Its parts also work alone: ``picker``, ``controls``, ``stream``, ``inspector``, ``table``, ``waterfall``,
    ``layers``, ``attention``, ``edits``, ``tree`` and ``prompt_view``.

    Args:
        session: a ``Workbench``.
        prompt: the text of the prompt box.
        mode: ``chat`` sends the prompt as a user message, ``completion`` continues it as plain text.
        model: identifier of the initial model; None takes the first one served.
        sampling_params: initial settings; None is top-p sampling with temperature 0.7.
        alternatives: number of alternatives to record at each position.
    """

    _esm = module_source("playground")
    _css = style_source("playground")
    _twin_shows = ("feed.snapshot", "feed.unit")

    stream = Part("The prompt, its buttons, and the text of the run.")
    inspector = Part("Details of the selected token.")
    waterfall = Part("How the selected token was chosen, and what the current controls would choose.")
    layers = Part("What each layer foresaw of each token; computed while its tab is open.")
    table = Part("One row per token.")
    tree = Part("All runs of the prompt as a tree.")
    attention = Part("What each token attends to; read while its tab is open.")
    edits = Part("Changes inside the model, and the edited run beside the original.")
    prompt_view = Part("The prompt as the model got it; updated while its tab is open.")
    feed = Part("The run feed that all parts share.")
    tab = traitlets.Enum(
        TABS,
        "tokens",
        help="The view below the text: tokens, waterfall, layers, attention, edit, tree, prompt or code.",
    ).tag(sync=True)
    branches = traitlets.Int(0, help="Number of branches in the tree.").tag(sync=True)
    code = traitlets.Unicode("", help="The Python code of the branch shown, or of the next run if none is shown.").tag(
        sync=True
    )
    selected = Positions((), help="Positions of the selected tokens; can be set to a DataFrame's index.")

    def __init__(
        self,
        session: SteeringSession,
        *,
        prompt: str = DEFAULT_PROMPT,
        mode: str = "chat",
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        alternatives: int = ALTERNATIVES,
    ) -> None:
        self._logprobs = logprobs_with(alternatives)
        with ExitStack() as made:
            feed = close_on_error(made, RunFeed())
            controls = close_on_error(made, SamplingControls(sampling_params, expanded=False))
            super().__init__(
                feed=feed,
                picker=close_on_error(made, ModelPicker(session, value=model)),
                controls=controls,
                stream=close_on_error(
                    made, StreamView(session, feed=feed, prompt=prompt, mode=mode, settings=self._settings)
                ),
                inspector=close_on_error(made, TokenInspector(feed=feed)),
                waterfall=close_on_error(made, SamplingWaterfall(feed=feed, controls=controls)),
                layers=close_on_error(made, LayersView(feed=feed, active=False)),
                table=close_on_error(made, TokenTable(feed=feed)),
                tree=close_on_error(made, TokenTree(feed=feed)),
                attention=close_on_error(made, AttentionView(feed=feed, active=False)),
                edits=close_on_error(made, EditView(feed=feed, session=session, active=False)),
                prompt_view=close_on_error(made, PromptView(feed=feed, active=False)),
            )
            made.pop_all()
        self.picker.observe(self._take_model, "value")
        self.picker.observe(self._offer_recommended, ["value", "cards"])
        self._offer_recommended()
        self.controls.observe(self._show_code, "value")
        self.stream.observe(self._show_code, ["prompt", "mode", "pauses"])
        self._take_model()
        self._watch()

    @property
    def run(self) -> RunLike | None:
        """The run shown; None before the first."""
        return self.feed.run  # type: ignore[no-any-return]

    @property
    def prompt(self) -> str:
        """The text of the prompt box; can be set."""
        return self.stream.prompt  # type: ignore[no-any-return]

    @prompt.setter
    def prompt(self, text: str) -> None:
        self.stream.prompt = text

    @property
    def breakpoints(self) -> list[Breakpoint]:
        """Breakpoints of the next run; can be set."""
        return self.stream.breakpoints  # type: ignore[no-any-return]

    @breakpoints.setter
    def breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        self.stream.breakpoints = breakpoints

    @property
    def selected_tokens(self) -> list[TokenRecord]:
        """The records of the selected tokens, in the order of selection."""
        return self.feed.selected_tokens  # type: ignore[no-any-return]

    def start(self, prompt: str | None = None) -> RunLike:
        """Start a run, as the Run button does; see ``StreamView.start``."""
        return self.stream.start(prompt)  # type: ignore[no-any-return]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has ended and the page has all of it; return False on a timeout."""
        return self.feed.wait(timeout_s)  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Stop all runs of the prompt within one decode step; ended runs stay as they are."""
        self.stream.stop()

    def pause(self) -> None:
        """Pause the run within one decode step, until ``resume()``."""
        self.stream.pause()

    def resume(self) -> None:
        """Continue a paused run."""
        self.stream.resume()

    def extend(self) -> RunLike:
        """Continue a run that was stopped or cut off, as the Continue button does; see ``run.extend``."""
        return self.stream.extend()  # type: ignore[no-any-return]

    def again(self) -> RunLike:
        """Run the same request again, as the Regenerate button does; see ``run.again``."""
        return self.stream.again()  # type: ignore[no-any-return]

    def branch(self, position: int, token_id: int | None = None) -> RunLike:
        """Continue from another token, as clicking an alternative does; see ``RunFeed.branch``."""
        return self.feed.branch(position, token_id)  # type: ignore[no-any-return]

    def static_html(self) -> str:
        return twins.playground_html(self.run, self.prompt, self.model, self.sampling_params, self.feed.unit)

    def __repr__(self) -> str:
        run = "None" if self.run is None else repr(self.run.id)
        return f"Playground(model={self.model!r}, run={run})"

    def _release(self) -> None:
        views = (self.stream, self.table, self.tree, self.prompt_view, self.layers, self.waterfall, self.inspector)
        for part in (*views, self.attention, self.edits, self.controls, self.picker, self.feed):
            part.close()

    def _settings(self) -> dict[str, Any]:
        return {"model": self.model, "sampling_params": self.sampling_params, "logprobs": self._logprobs}

    def _take_model(self, _change: Any = None) -> None:
        self.stream.refresh()
        self._show_code()

    def _show_code(self, _change: Any = None) -> None:
        with LOCK:
            settings = self.stream.next_settings()
            if self.run is not None and self.run.parent is not None:
                self.code = branch_code(self.run, logprobs=settings["logprobs"])
                return
            self.code = call_code(
                self.prompt,
                mode=self.stream.mode,
                model=settings["model"],
                params=settings["sampling_params"],
                logprobs=settings["logprobs"],
                breakpoints=settings.get("breakpoints", ()),
            )

    def _watch(self) -> None:
        self.selected = self.feed.selected
        traitlets.link((self.feed, "selected"), (self, "selected"))
        self.feed.observe(self._after_run, "snapshot")
        self.feed.observe(self._show_code, "snapshot")
        self.tree.observe(self._count, "branches")
        self.observe(self._open_tab, "tab")

    def _open_tab(self, change: Any) -> None:
        self.prompt_view.active = change.new == "prompt"
        self.layers.active = change.new == "layers"
        self.attention.active = change.new == "attention"
        self.edits.active = change.new == "edit"

    def _count(self, change: Any) -> None:
        with LOCK:
            self.branches = len(change.new)

    def _after_run(self, change: Any) -> None:
        # The first run of a model loads it: from then on its card has the memory that it takes, and says
        # whether it can chat.
        if change.new["state"] in ("finished", "cancelled", "failed") and not self.picker.closed:
            card = self.picker.card
            if card is not None and not card.loaded:
                self.picker.refresh()
                self.stream.refresh()


@takes_arguments_of(Playground)
def playground(session: SteeringSession, **arguments: Any) -> Playground:
    """Open a playground on a session and close an earlier one; see `Playground` for the arguments."""
    opened = Playground(session, **arguments)
    replace_open_widget(session, opened)
    return opened
