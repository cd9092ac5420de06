"""Widgets for a workbench, which get the workbench as their session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.protocol.insides import LensKind
    from workbench.records import Attribution
    from workbench.widgets import (
        AttentionView,
        AttributionView,
        ChatView,
        CompareView,
        EditView,
        LayersView,
        Playground,
        ReadView,
    )
    from workbench.widgets.contract import AskedRun, InsideRun, RunLike, SessionLike, SteeringSession


class Views:
    """Methods of a workbench that return a widget."""

    def playground(self: SteeringSession, **options: Any) -> Playground:
        """Return the playground widget for this workbench."""
        from workbench import widgets

        return widgets.playground(self, **options)

    def read(self: SessionLike, text: str = "", other: str = "", **options: Any) -> ReadView:
        """Return a widget that shows the surprisal of each token of a text, or of two texts side by side.

        Args:
            options: ``model``, ``alternatives``: see `widgets.ReadView`. `reading` does the same without a widget.
        """
        from workbench import widgets

        return widgets.read(self, text, other, **options)

    def compare(self: SessionLike, prompt: str | None = None, **options: Any) -> CompareView:
        """Return a widget that compares the answers of several models or sampling settings side by side.

        Args:
            prompt: prompt for all sides; None lets the reader enter it and choose the sides in the widget.
            options: ``models``, ``sampling_params``, ``mode``, ``alternatives``: see `widgets.CompareView`.
        """
        from workbench import widgets

        return widgets.compare(self, prompt, **options)

    def attribution(self: SessionLike, run: AskedRun | Attribution) -> AttributionView:
        """Return a widget that marks each token of an answer by the chunk that raised it most.

        Args:
            run: an answer of `ask`, which is measured when it has ended, or the result of its ``attribution()``.
        """
        from workbench import widgets

        return widgets.attribution(self, run)

    def layers(self: SessionLike, run: RunLike, *, kind: LensKind = "logit") -> LayersView:
        """Return a widget that shows what each layer foresaw of each token of a run, also while the run goes on.

        Args:
            run: a run or a reading of a model in this process.
            kind: the lens to begin with; see `Run.lens`.
        """
        from workbench import widgets

        return widgets.layers(self, run, kind=kind)

    def attention(self: SessionLike, run: InsideRun) -> AttentionView:
        """Return a widget that shows what each token of a run attends to in each head.

        Args:
            run: a run of a model in this process.
        """
        from workbench import widgets

        return widgets.attention(self, run)

    def edit(self: SteeringSession, run: InsideRun) -> EditView:
        """Return a widget that changes what a model computes in a run, and shows the edited run beside it.

        Args:
            run: a run of a model in this process.
        """
        from workbench import widgets

        return widgets.edit(self, run)

    def chat(self: SessionLike, **options: Any) -> ChatView:
        """Return the chat widget for this workbench; the options are those of `workbench.widgets.chat`."""
        from workbench import widgets

        return widgets.chat(self, **options)
