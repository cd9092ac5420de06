"""The prompt of a run as its model got it: token by token, with the template and its control tokens."""

from __future__ import annotations

from typing import Any

import traitlets

from workbench.errors import UnsupportedFieldError
from workbench.records import Prompt
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK
from workbench.widgets.contract import RunLike
from workbench.widgets.html.prompt import prompt_html, prompt_summary
from workbench.widgets.lens import Lens
from workbench.widgets.wire.run import failure, label

NO_RUN = "No run yet."
NOT_TOLD = "The prompt is not available: the model's provider builds it and does not return it."
# The page draws each token as an element; a longer prompt is cut and marked as such.
MOST_TOKENS = 2000


class PromptView(Lens):
    """The prompt of a run as the model got it, token by token."""

    _esm = module_source("prompt_view")
    _css = style_source("prompt_view")
    _twin_shows = ("tokens", "message")

    tokens: traitlets.List[list[Any]] = traitlets.List(
        help=f"Id and label of each token, and whether it is a control token; at most {MOST_TOKENS:,} tokens."
    ).tag(sync=True)
    message = traitlets.Unicode(NO_RUN, help="Facts about the prompt, or why it cannot be shown.").tag(sync=True)

    _prompt: Prompt | None = None

    @property
    def prompt(self) -> Prompt | None:
        """The prompt, as ``run.render()`` returns it; None if there is none to show."""
        return self._prompt

    def static_html(self) -> str:
        return prompt_html(self._prompt, self.message)

    def __repr__(self) -> str:
        return f"PromptView(tokens={None if self._prompt is None else len(self._prompt.tokens)})"

    def _read(self, run: RunLike) -> None:
        prompt: Prompt | None = None
        try:
            prompt = run.render()
            message = prompt_summary(prompt, MOST_TOKENS)
        except UnsupportedFieldError:
            message = NOT_TOLD
        except Exception as problem:  # noqa: BLE001 - any error is shown in the page
            message = failure("The prompt cannot be shown", problem)
        with LOCK:
            if self._in_view(run):
                self._show(prompt, message)

    def _clear(self) -> None:
        self._show(None, NO_RUN)

    def _show(self, prompt: Prompt | None, message: str) -> None:
        self._prompt = prompt
        tokens = () if prompt is None else prompt.tokens[:MOST_TOKENS]
        with self.hold_sync():  # the page gets message and tokens together
            self.tokens = [[token.token_id, label(token.text, token.bytes), token.is_control] for token in tokens]
            self.message = message
