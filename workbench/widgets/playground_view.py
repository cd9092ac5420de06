"""The playground: picker, controls, stream, inspector, and table, waterfall, tree and prompt around one feed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import traitlets

from workbench.protocol import SamplingParams
from workbench.records import Breakpoint, TokenRecord
from workbench.widgets import static_html
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, Part
from workbench.widgets.code import branch_code, call_code
from workbench.widgets.composing import Choosing, logprobs_with, take_the_place, until_made
from workbench.widgets.contract import RunLike, SessionLike
from workbench.widgets.model_picker import ModelPicker
from workbench.widgets.prompt_view import PromptView
from workbench.widgets.run_feed import Positions, RunFeed
from workbench.widgets.sampling_controls import SamplingControls
from workbench.widgets.sampling_waterfall import SamplingWaterfall
from workbench.widgets.stream_view import ALTERNATIVES, StreamView
from workbench.widgets.token_inspector import TokenInspector
from workbench.widgets.token_table import TokenTable
from workbench.widgets.token_tree import TokenTree

TABS = ("tokens", "waterfall", "tree", "prompt", "code")
DEFAULT_PROMPT = "Why is the sky blue? Two sentences."


class Playground(Choosing):
    """One widget made of parts that work alone too.

    They are ``picker``, ``controls``, ``stream``, ``inspector``, ``table``, ``waterfall``, ``tree`` and
    ``prompt_view``.
    """

    _esm = module_source("playground")
    _css = style_source("playground")
    _twin_shows = ("feed.snapshot", "feed.unit")

    stream = Part("Prompt, Run and Stop, and the text.")
    inspector = Part("Everything about the selected token.")
    waterfall = Part("How the selected token was drawn, and how it would be where the controls stand now.")
    table = Part("One row a token.")
    tree = Part("All runs of the prompt, and where they part.")
    prompt_view = Part("The prompt as the model got it; looked at while its tab is the one that is shown.")
    feed = Part("The run feed that all parts read.")
    tab = traitlets.Enum(TABS, "tokens", help="The view below the text: tokens, waterfall, tree, prompt or code.").tag(
        sync=True
    )
    branches = traitlets.Int(0, help="How many branches the tree has.").tag(sync=True)
    code = traitlets.Unicode("", help="The Python code of the branch that is shown, or else of the next run.").tag(
        sync=True
    )
    selected = Positions((), help="Positions of the selected tokens; takes a DataFrame's index as well.")

    def __init__(
        self,
        session: SessionLike,
        *,
        prompt: str = DEFAULT_PROMPT,
        mode: str = "chat",
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        alternatives: int = ALTERNATIVES,
    ) -> None:
        self._logprobs = logprobs_with(alternatives)
        with ExitStack() as made:
            feed = until_made(made, RunFeed())
            controls = until_made(made, SamplingControls(sampling_params, expanded=False))
            super().__init__(
                feed=feed,
                picker=until_made(made, ModelPicker(session, value=model)),
                controls=controls,
                stream=until_made(
                    made, StreamView(session, feed=feed, prompt=prompt, mode=mode, settings=self._settings)
                ),
                inspector=until_made(made, TokenInspector(feed=feed)),
                waterfall=until_made(made, SamplingWaterfall(feed=feed, controls=controls)),
                table=until_made(made, TokenTable(feed=feed)),
                tree=until_made(made, TokenTree(feed=feed)),
                prompt_view=until_made(made, PromptView(feed=feed, active=False)),
            )
            made.pop_all()
        self.picker.observe(self._take_model, "value")
        self.controls.observe(self._show_code, "value")
        self.stream.observe(self._show_code, ["prompt", "mode", "pauses"])
        self._take_model()
        self._watch()

    @property
    def run(self) -> RunLike | None:
        """The run that is shown; None before the first."""
        return self.feed.run  # type: ignore[no-any-return]

    @property
    def prompt(self) -> str:
        """The text of the prompt box; may be set."""
        return self.stream.prompt  # type: ignore[no-any-return]

    @prompt.setter
    def prompt(self, text: str) -> None:
        self.stream.prompt = text

    @property
    def breakpoints(self) -> list[Breakpoint]:
        """Where the next run pauses; may be set."""
        return self.stream.breakpoints  # type: ignore[no-any-return]

    @breakpoints.setter
    def breakpoints(self, breakpoints: Sequence[Breakpoint]) -> None:
        self.stream.breakpoints = breakpoints

    @property
    def selected_tokens(self) -> list[TokenRecord]:
        """The records of the selected tokens, in the order in which they were selected."""
        return self.feed.selected_tokens  # type: ignore[no-any-return]

    def start(self, prompt: str | None = None) -> RunLike:
        """Start a run as the button does; see ``StreamView.start``."""
        return self.stream.start(prompt)  # type: ignore[no-any-return]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run that is shown has ended and the page was told so; True if it is so."""
        return self.feed.wait(timeout_s)  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Stop what goes on within one step of the model; nothing happens where all has ended."""
        self.stream.stop()

    def pause(self) -> None:
        """Hold the run within one step, until ``resume()``."""
        self.stream.pause()

    def resume(self) -> None:
        """Let a paused run go on."""
        self.stream.resume()

    def extend(self) -> RunLike:
        """Go on where the run was stopped or cut off, as Continue does; see ``run.extend``."""
        return self.stream.extend()  # type: ignore[no-any-return]

    def again(self) -> RunLike:
        """Make the run anew, as Regenerate does; see ``run.again``."""
        return self.stream.again()  # type: ignore[no-any-return]

    def branch(self, position: int, token_id: int | None = None) -> RunLike:
        """Go on from another token, as choosing an alternative does; see ``RunFeed.branch``."""
        return self.feed.branch(position, token_id)  # type: ignore[no-any-return]

    def static_html(self) -> str:
        return static_html.playground_html(self.run, self.prompt, self.model, self.sampling_params, self.feed.unit)

    def __repr__(self) -> str:
        run = "None" if self.run is None else repr(self.run.id)
        return f"Playground(model={self.model!r}, run={run})"

    def _release(self) -> None:
        views = (self.stream, self.table, self.tree, self.prompt_view, self.waterfall, self.inspector)
        for part in (*views, self.controls, self.picker, self.feed):
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

    def _count(self, change: Any) -> None:
        with LOCK:
            self.branches = len(change.new)

    def _after_run(self, change: Any) -> None:
        # The first run of a model has fetched and loaded it: its card now has the memory that it takes, and tells
        # whether it can chat.
        if change.new["state"] in ("finished", "cancelled", "failed") and not self.picker.closed:
            card = self.picker.card
            if card is not None and not card.loaded:
                self.picker.refresh()
                self.stream.refresh()


def playground(
    session: SessionLike,
    *,
    prompt: str = DEFAULT_PROMPT,
    mode: str = "chat",
    model: str | None = None,
    sampling_params: SamplingParams | None = None,
    alternatives: int = ALTERNATIVES,
) -> Playground:
    """Open a playground on a session; the one that was open on it before is closed.

    Args:
        session: a ``Workbench``.
        prompt: what stands in the prompt box.
        mode: ``chat`` sends the prompt as a user's turn, ``completion`` continues it as it is.
        model: identifier of the model to begin with; None takes the first one served.
        sampling_params: where the controls stand; None is top-p sampling with temperature 0.7.
        alternatives: how many other tokens are kept at each position.
    """
    opened = Playground(
        session, prompt=prompt, mode=mode, model=model, sampling_params=sampling_params, alternatives=alternatives
    )
    take_the_place(session, opened)
    return opened
