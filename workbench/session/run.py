"""A run: one completion or chat answer in progress, readable from the first token on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Self

from workbench.analysis.tool_call_steps import Openers
from workbench.errors import UnsupportedFieldError
from workbench.interrupts import InterruptibleCondition
from workbench.protocol import Edit, SamplingParams, StopReason, ToolCall
from workbench.providers.folding import Answer, response
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.records import (
    Breakpoint,
    CallAttempt,
    Control,
    Emission,
    Inspector,
    Prompt,
    RunProgress,
    RunState,
    TokenRecord,
    Usage,
)
from workbench.session.capsule import Capsule, capsule_of
from workbench.session.continuation import branched, edited, extended, repeated
from workbench.session.run_insides import RunInsides
from workbench.session.run_inspection import RunInspection
from workbench.session.run_protocols import RunHost
from workbench.session.run_stream import Chunk, Listeners, Response, RunStream

if TYPE_CHECKING:
    from concurrent.futures import Future


class Run(RunInspection, RunInsides, RunStream[Chunk, Response]):
    """A completion or chat answer in progress, returned by `Workbench.completion` and `Workbench.chat_completion`.

    Read it while it grows (``text``, ``tokens``, ``usage``), iterate over its protocol chunks with ``for`` or
    ``async for``, and wait for the protocol's response with ``result()`` or ``await``. Use ``pause()`` and
    ``cancel()`` to stop it, and ``branch()`` to continue from any of its tokens. All methods are thread-safe, and the
    run stays readable after it has ended.
    """

    reads = False
    """Whether ``tokens`` are those of a text that was read instead of an answer; see `Workbench.reading`."""

    def __init__(
        self,
        run_id: str,
        request: Request,
        *,
        emissions: AsyncIterator[Emission],
        host: RunHost,
        parent: Run[Any, Any] | None = None,
        branched_at: int | None = None,
    ) -> None:
        self.id = run_id
        self.request = request
        """Request that was sent to the provider."""
        self.model = request.model
        self.prompt: Any = list(request.messages) if request.is_chat else request.content
        self.sampling_params: SamplingParams = request.sampling_params
        self.parent = parent
        """Run that this one branched from, if any."""
        self.branched_at = branched_at
        """Number of tokens kept from the parent."""
        self.state: RunState = "queued"
        self.tokens: list[TokenRecord] = []
        """Tokens so far; the list only grows."""
        self.end: TokenRecord | None = None
        """End token that the model chose, with its alternatives. It is not in ``tokens`` and not part of the text.
        None while the run goes on, if it ended in another way, or if a remote server does not report it."""
        self.prompt_tokens: tuple[TokenRecord, ...] = ()
        """Records of the prompt's tokens from the second on, if `LogProbConfig.prompt` requested them."""
        self.seed: int | None = None
        """Seed that the tokens were sampled with; a request with the same seed gives the same tokens."""
        self.notes: tuple[str, ...] = ()
        """Notes for the caller, such as a parameter that the strategy ignores."""
        self.usage = Usage()
        self.stop_reason: StopReason | None = None
        self.error: BaseException | None = None
        self.progress: RunProgress | None = None
        """Progress before the first token; None after it, while the run is queued, or if the provider reports none."""
        self.breakpoint: Breakpoint | None = None
        """Breakpoint at which the run is paused; None while it is not paused at one."""
        self.inspector: Inspector | None = None
        """Access to the run's past positions; None if the model does not run in this process."""
        self.call_opening = ""
        """First characters of a tool call in the model's text; empty if the run has no tools whose calls are parsed."""
        self._answer = Answer()
        self._emissions: list[Emission] = []
        self._capsule: Capsule | None = None
        self.host = host
        """Functions of the workbench that started the run."""
        self._changed = InterruptibleCondition()
        self._listeners = Listeners()
        if request.control is not None:
            request.control.listener = self._set_paused
            request.control.on_progress = self._set_progress
        self._future: Future[None] = host.spawn(self._consume(emissions))
        self._future.add_done_callback(self._finish)

    @property
    def text(self) -> str:
        """Text so far, in whole characters. It includes no tool calls, except the raw text of malformed ones."""
        return self._answer.text(ended=self.done)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Complete tool calls so far; the list only grows. A run never executes them: see `Workbench.converse`."""
        return self._answer.tool_calls

    @property
    def call_attempts(self) -> list[CallAttempt]:
        """Tool calls that the model has begun so far, with their parse status; includes malformed ones."""
        return [part for part in self.parts if isinstance(part, CallAttempt)]

    @property
    def parts(self) -> list[str | CallAttempt]:
        """Text and tool calls of the answer so far, in order, with the text split as it was emitted."""
        with self._changed:
            return self._answer.parts(ended=self.done)

    @cached_property
    def call_openers(self) -> Openers:
        """Tokens that may begin a tool call, with their probabilities as far as `call_steps` has read them."""
        return Openers(self.call_opening)

    @property
    def done(self) -> bool:
        """Whether the run has ended, in any way."""
        return self.state in ("finished", "cancelled", "failed")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run ends, at most ``timeout`` seconds. Return whether it has ended; never raise its error."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def wait_for_pause(self, timeout: float | None = None) -> bool:
        """Block until the run pauses or ends, at most ``timeout`` seconds. Return whether it is paused."""
        with self._changed:
            self._changed.wait_for(lambda: self.done or self.state == "paused", timeout)
            return self.state == "paused"

    def result(self, timeout: float | None = None) -> Response:
        """Block until the end and return the protocol's response.

        A cancelled run returns the part that was generated. A paused run blocks until it is resumed and ends.
        Interrupting the wait cancels the run.

        Raises:
            TimeoutError: ``timeout`` seconds passed; the run continues.
            WorkbenchError: the error that the run failed with.
        """
        try:
            ended = self.wait(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if not ended:
            raise TimeoutError(f"{self.id} is still {self.state} after {timeout:g} s; it continues")
        if self.error is not None:
            raise self.error
        return self._response()

    def render(self) -> Prompt:
        """Return the prompt of this run, text and tokens, as `Workbench.render` does.

        Raises:
            UnsupportedFieldError: the model's provider cannot render prompts.
            ModelNotFoundError, ClosedError: the model is no longer served, or the workbench is closed.
        """
        return self.host.render(self.request)

    @property
    def capsule(self) -> Capsule:
        """Capsule with which `workbench.replay` repeats this run and explains differences.

        It is made on first access, which looks up the model and renders the prompt; do not access it in a callback.

        Raises:
            InvalidRequestError: the run has not ended yet.
            ModelNotFoundError, ClosedError: the model is no longer served, or the workbench is closed.
        """
        if self._capsule is None:
            self._capsule = capsule_of(self, self.host.card)
        return self._capsule

    def cancel(self) -> None:
        """Stop within one decode step; the generated part is kept. Has no effect after the end."""
        self._future.cancel()

    @property
    def can_pause(self) -> bool:
        """Whether the model's provider can pause the run."""
        return self.request.control is not None and self.request.control.can_pause

    def pause(self) -> None:
        """Pause within one decode step until ``resume()``; ``state`` becomes ``paused``. Has no effect after the end.

        The pause does not change the answer, and other runs continue. Tokens that may still become part of a stop
        string or a tool call are reported once that is decided.

        Raises:
            UnsupportedFieldError: the model's provider cannot pause.
        """
        self._pausable().pause()

    def resume(self) -> None:
        """Resume a paused run; has no effect on others. Raises as `pause` does."""
        control = self._pausable()
        if self.state == "paused":
            self._set_paused(False, None)  # at once, so that `wait_for_pause` waits for the next pause
        control.resume()

    def branch(
        self, position: int, token_id: int | None = None, *, sampling_params: SamplingParams | None = None
    ) -> Self:
        """Start a new run that keeps the first ``position`` tokens, appends ``token_id`` if given, and continues.

        The kept tokens are not computed again. If this run sampled the same token itself, with the same parameters,
        the rest comes out the same. ``max_tokens`` includes the kept tokens.

        Args:
            sampling_params: parameters to use instead of this run's; without a seed, this run's seed is used.

        Raises:
            InvalidRequestError: the run has fewer tokens so far.
            UnsupportedFieldError: the model's provider cannot branch.
        """
        return self._start(branched(self, position, token_id, sampling_params), self, int(position))

    def extend(self, max_tokens: int | None = None) -> Self:
        """Start a new run that continues where this one was cancelled, failed or ran out of tokens.

        Args:
            max_tokens: maximum number of additional tokens; None uses what was left of the limit, or the same limit
                again if nothing was left.

        Raises:
            InvalidRequestError: the run has not ended, or its answer is complete.
            UnsupportedFieldError: the model's provider cannot branch.
        """
        return self._start(extended(self, max_tokens), self, len(self.tokens))

    def again(self, seed: int | None = None) -> Self:
        """Start the same request again with ``seed``, or a new random seed; a branch keeps the same tokens."""
        return self._start(repeated(self, seed), self.parent, self.branched_at)

    def edit(self, *edits: Edit, keep_tokens: bool = False, sampling_params: SamplingParams | None = None) -> Self:
        """Start the same request again with changes of the numbers inside the model, after those it has already.

        The edited run draws with the same random numbers. Compare both with `Workbench.compare`, or with
        `workbench.expect.effect`.

        Args:
            edits: the changes, applied in this order.
            keep_tokens: give the edited run the tokens of this one, so that each position can be compared.
            sampling_params: parameters to use instead of this run's; without a seed, this run's seed is used.

        Raises:
            InvalidRequestError: there is no edit, or the run has no token yet.
            UnsupportedFieldError: the model's provider has no edits. A point that the model lacks fails the new run.
        """
        return self._start(edited(self, edits, keep_tokens=keep_tokens, sampling_params=sampling_params), self, None)

    def _response(self) -> Response:
        folded: Response = response(self.request, self._emissions)
        return folded

    def _start(self, request: Request, parent: Run[Any, Any] | None, branched_at: int | None) -> Self:
        run: Self = self.host.start(request, parent, branched_at)
        return run

    def _pausable(self) -> Control:
        if self.request.control is None or not self.can_pause:
            raise UnsupportedFieldError("model", self.model, "one whose provider offers pause")
        return self.request.control

    def subscribe(self, callback: Callable[[Run[Any, Any]], None]) -> Callable[[], None]:
        """Call ``callback`` after every new token and change of state; return a function that stops this.

        Callbacks run on a background thread and must be quick; one that raises is removed. If the run has already
        ended, the callback is called at once.
        """
        with self._changed:
            stop = self._listeners.add(callback)
            ended = self.done
        if ended:
            self._listeners.call(self, callback)
        return stop

    async def _consume(self, emissions: AsyncIterator[Emission]) -> None:
        self._set_state("running")
        async with closed_after(emissions):
            async for emission in emissions:
                self._add(emission)

    def _add(self, emission: Emission) -> None:
        with self._changed:
            if self.done:  # emitted after the run was cancelled
                return
            self._answer.add(emission.delta)
            self._emissions.append(emission)
            self.tokens.extend(emission.tokens)
            self.end = emission.end or self.end
            self.progress = None if self.tokens else self.progress
            self.usage = emission.usage or self.usage
            self.prompt_tokens = emission.prompt_tokens or self.prompt_tokens
            self.notes = emission.notes or self.notes
            self.seed = self.seed if emission.seed is None else emission.seed
            self.inspector = emission.inspector or self.inspector
            self.call_opening = emission.call_opening or self.call_opening
            self.stop_reason = emission.stop_reason or self.stop_reason
            self._changed.notify_all()
        self._listeners.call(self)

    def _finish(self, future: Future[None]) -> None:
        try:
            future.result()
            self._set_state("finished")
        except (CancelledError, asyncio.CancelledError):
            self._set_state("cancelled")
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self.error = error
            self._set_state("failed")

    def _set_state(self, state: RunState) -> None:
        with self._changed:
            if not self.done:
                self.state, self.breakpoint = state, None
            if self.done:
                self.progress = None
            self._changed.notify_all()
        self._listeners.call(self)

    def _set_paused(self, is_paused: bool, at: Breakpoint | None) -> None:
        with self._changed:
            if not self.done:
                self.state, self.breakpoint = "paused" if is_paused else "running", at
            self._changed.notify_all()
        self._listeners.call(self)

    def _set_progress(self, progress: RunProgress | None) -> None:
        with self._changed:
            self.progress = None if self.tokens or self.done else progress
        self._listeners.call(self)

    def __reduce__(self) -> NoReturn:
        """Raise `TypeError`: a copied or unpickled run would receive no emissions."""
        raise TypeError(f"{self.id} cannot be copied or pickled; its result() and its tokens can")

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return f"<Run {self.id} {self.model}: {self.state}, {len(self.tokens)} tokens, {shown!r}>"

    def _repr_html_(self) -> str:
        from workbench.widgets.html.twins import run_html

        return run_html(self)
