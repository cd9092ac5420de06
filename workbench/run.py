"""A run: one completion or chat answer on its way, readable from the first token on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from workbench.branching import branched, extended, repeated
from workbench.chunks import Chunk, Chunks, Response, StreamChunk
from workbench.errors import UnsupportedFieldError
from workbench.looking import Looking
from workbench.protocol import CompletionResponseStreamChunk, SamplingParams, StopReason, ToolCall, ToolCallDelta
from workbench.providers.folding import Answer
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.records import Breakpoint, CallAttempt, Control, Inspector, RunProgress, TokenRecord, Usage, detail_of

if TYPE_CHECKING:
    from concurrent.futures import Future

    from workbench.background import BackgroundLoop
    from workbench.capsule import Capsule
    from workbench.records import Prompt

RunState = Literal["queued", "running", "paused", "finished", "cancelled", "failed"]


class Run(Looking, Chunks[Chunk, Response]):
    """What `Workbench.completion` and `Workbench.chat_completion` return at once, while the model works.

    Read it as it grows (``text``, ``tokens``, ``usage``), loop over its protocol chunks with ``for`` or ``async for``,
    wait for the protocol's response with ``result()`` or ``await``, hold it with ``pause()``, stop it with
    ``cancel()``, and go on from any of its tokens with ``branch()``. All of it is safe from any thread, and everything
    stays readable after the end.
    """

    reads = False
    """Whether ``tokens`` are those of a text that was read, and not of an answer; see `workbench.reading`."""

    def __init__(
        self,
        run_id: str,
        request: Request,
        *,
        chunks: AsyncIterator[Chunk],
        fold: Callable[[Sequence[Chunk]], Response],
        loop: BackgroundLoop,
        capsule: Callable[[Run[Chunk, Response]], Capsule],
        render: Callable[[], Prompt],
        start: Callable[[Request, Run[Any, Any] | None, int | None], Any],
        parent: Run[Any, Any] | None = None,
        branched_at: int | None = None,
    ) -> None:
        self.id = run_id
        self.request = request
        """As its provider got it."""
        self.model = request.model
        self.prompt: Any = list(request.messages) if request.is_chat else request.content
        self.sampling_params: SamplingParams = request.sampling_params
        self.parent = parent
        """The run that this one branched from."""
        self.branched_at = branched_at
        """How many tokens it kept of its parent."""
        self.state: RunState = "queued"
        self.tokens: list[TokenRecord] = []
        """So far; only ever appended to."""
        self.end: TokenRecord | None = None
        """The end token that the model chose, with what else could have come. It is none of ``tokens`` and no part of
        the text. None while the run goes on, where it ended otherwise, and where a remote server does not tell."""
        self.prompt_tokens: tuple[TokenRecord, ...] = ()
        """Records of the prompt's tokens from the second on, where `LogProbConfig.prompt` asked for them."""
        self.seed: int | None = None
        """Of the random numbers that chose the tokens; a request that names it draws the same ones."""
        self.notes: tuple[str, ...] = ()
        """What the caller should know, such as a parameter that the strategy ignores."""
        self.usage = Usage()
        self.stop_reason: StopReason | None = None
        self.error: BaseException | None = None
        self.progress: RunProgress | None = None
        """How far it is before its first token; None after it, while it waits, and where the provider says nothing."""
        self.breakpoint: Breakpoint | None = None
        """At which one it is paused now."""
        self.inspector: Inspector | None = None
        self._answer = Answer()
        self._chunks: list[Chunk] = []
        self._fold = fold
        self._make_capsule = capsule
        self._capsule: Capsule | None = None
        self._render = render
        self._start = start
        self.call_opening = ""
        self._changed = threading.Condition()
        self._listeners: list[Callable[[Run[Any, Any]], None]] = []
        if request.control is not None:
            request.control.listener = self._pause_told
            request.control.on_progress = self._take_progress
        self._future: Future[None] = loop.start(self._consume(chunks))
        self._future.add_done_callback(self._settle)

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def text(self) -> str:
        """The text so far, in whole characters; calls are no part of it, except for the raw text of broken ones."""
        return self._answer.text(ended=self.done)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Whole calls so far; only ever appended to. Nothing here runs one: see `Workbench.converse`."""
        return self._answer.tool_calls

    @property
    def call_attempts(self) -> list[CallAttempt]:
        """Every call that the model has begun so far, with how far its reading has come; broken ones too."""
        return [part for part in self.parts if isinstance(part, CallAttempt)]

    @property
    def parts(self) -> list[str | CallAttempt]:
        """Plain text and calls of the answer so far, in order, the text in pieces as it came."""
        with self._changed:
            return self._answer.parts(ended=self.done)

    @property
    def done(self) -> bool:
        """Whether the run has ended, in whichever way."""
        return self.state in ("finished", "cancelled", "failed")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended, at most ``timeout`` seconds; whether it has. Never raises the run's error."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def wait_for_pause(self, timeout: float | None = None) -> bool:
        """Block until the run is paused or has ended, at most ``timeout`` seconds; whether it is paused."""
        with self._changed:
            self._changed.wait_for(lambda: self.done or self.state == "paused", timeout)
            return self.state == "paused"

    def result(self, timeout: float | None = None) -> Response:
        """Block until the end and return the protocol's response.

        A cancelled run gives the part that was there; a paused one is waited for. Interrupting the wait cancels the
        run.

        Raises:
            TimeoutError: ``timeout`` seconds passed; the run goes on.
            WorkbenchError: what the run failed with.
        """
        try:
            ended = self.wait(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if not ended:
            raise TimeoutError(f"{self.id} is still {self.state} after {timeout:g} s; it goes on")
        if self.error is not None:
            raise self.error
        return self._fold(self._chunks)

    @property
    def capsule(self) -> Capsule:
        """What `workbench.replay` needs to have this run again, and to say why it may come out otherwise.

        Made at the first look, and then kept; that looks up the model and renders its prompt, and is nothing to do in
        a callback.

        Raises:
            InvalidRequestError: the run has not ended yet.
            ModelNotFoundError, ClosedError: its model, or the workbench, is no longer there to be asked.
        """
        if self._capsule is None:
            self._capsule = self._make_capsule(self)
        return self._capsule

    def cancel(self) -> None:
        """Stop within one decode step; what was generated stays. Harmless after the end."""
        self._future.cancel()

    @property
    def can_pause(self) -> bool:
        """Whether the model's provider can hold it."""
        return self.request.control is not None and self.request.control.can_pause

    def pause(self) -> None:
        """Hold within one decode step, until ``resume()``; the state is then ``paused``. Harmless after the end.

        What comes after is the same as without the pause, and others go on meanwhile. Tokens whose text may yet turn
        out to belong to a stop string or a call are told when that is certain.

        Raises:
            UnsupportedFieldError: the model's provider cannot pause.
        """
        self._brake().pause()

    def resume(self) -> None:
        """Go on; harmless where nothing is paused. Raises as `pause` does."""
        brake = self._brake()
        if self.state == "paused":
            self._pause_told(False, None)  # at once, so that the next pause can be waited for
        brake.resume()

    def branch(
        self, position: int, token_id: int | None = None, *, sampling_params: SamplingParams | None = None
    ) -> Self:
        """A new run that keeps the first ``position`` tokens, takes ``token_id`` if given, and lets the model go on.

        The kept tokens are not computed again. Where this run drew the same token itself, and with the same parameters,
        the rest comes out the same; ``max_tokens`` counts the kept tokens too.

        Args:
            sampling_params: other ones than this run's; without a seed of their own they go on with its numbers.

        Raises:
            InvalidRequestError: there are not so many tokens so far.
            UnsupportedFieldError: the model's provider cannot branch.
        """
        return self._asked(branched(self, position, token_id, sampling_params), self, int(position))

    def extend(self, max_tokens: int | None = None) -> Self:
        """A new run that goes on where this one was stopped or cut off.

        Args:
            max_tokens: so many more at most; None takes what was left, and as many again where nothing was.

        Raises:
            InvalidRequestError: the run has not ended, or its answer is whole.
            UnsupportedFieldError: the model's provider cannot branch.
        """
        return self._asked(extended(self, max_tokens), self, len(self.tokens))

    def again(self, seed: int | None = None) -> Self:
        """The same request anew: the same branch, if it is one; with another seed, where it samples."""
        return self._asked(repeated(self, seed), self.parent, self.branched_at)

    def _asked(self, request: Request, parent: Run[Any, Any] | None, branched_at: int | None) -> Self:
        run: Self = self._start(request, parent, branched_at)
        return run

    def _brake(self) -> Control:
        if self.request.control is None or not self.can_pause:
            raise UnsupportedFieldError("model", self.model, "one whose provider offers pause")
        return self.request.control

    def subscribe(self, callback: Callable[[Run[Any, Any]], None]) -> Callable[[], None]:
        """Call back after every new token and change of state, on a background thread; returns the way to stop it.

        A callback must be quick; one that raises is dropped. It is called at once if the run has already ended.
        """
        with self._changed:
            self._listeners.append(callback)
            ended = self.done
        if ended:
            self._call(callback)
        return partial(self._forget, callback)

    # ------------------------------------------------------------------------------------------------ writing

    async def _consume(self, chunks: AsyncIterator[Chunk]) -> None:
        self._set_state("running")
        async with closed_after(chunks):
            async for chunk in chunks:
                self._add(chunk)

    def _add(self, chunk: Chunk) -> None:
        with self._changed:
            if self.done:  # cancelled while this chunk was under way: what has ended changes no more
                return
            self._answer.add(_delta(chunk))
            self._chunks.append(chunk)
            if detail := detail_of(chunk):
                self.tokens.extend(detail.tokens)
                self.end = detail.end or self.end
                self.progress = None if self.tokens else self.progress
                self.usage = detail.usage or self.usage
                self.prompt_tokens = detail.prompt_tokens or self.prompt_tokens
                self.notes = detail.notes
                self.seed = detail.seed
                self.inspector = detail.inspector
                self.call_opening = detail.call_opening or self.call_opening
            self.stop_reason = _stop_reason(chunk) or self.stop_reason
            self._changed.notify_all()
        self._tell()

    def _settle(self, future: Future[None]) -> None:
        try:
            future.result()
            self._set_state("finished")
        except (CancelledError, asyncio.CancelledError):
            self._set_state("cancelled")
        except BaseException as error:  # noqa: BLE001 - kept for whoever asks for the result
            self.error = error
            self._set_state("failed")

    def _set_state(self, state: RunState) -> None:
        with self._changed:
            if not self.done:
                self.state, self.breakpoint = state, None
            if self.done:
                self.progress = None
            self._changed.notify_all()
        self._tell()

    def _pause_told(self, is_paused: bool, at: Breakpoint | None) -> None:
        with self._changed:
            if not self.done:
                self.state, self.breakpoint = "paused" if is_paused else "running", at
            self._changed.notify_all()
        self._tell()

    def _take_progress(self, progress: RunProgress | None) -> None:
        with self._changed:
            self.progress = None if self.tokens or self.done else progress
        self._tell()

    def _forget(self, callback: Callable[[Run[Any, Any]], None]) -> None:
        with self._changed:
            if callback in self._listeners:
                self._listeners.remove(callback)

    def _tell(self) -> None:
        for callback in tuple(self._listeners):
            self._call(callback)

    def _call(self, callback: Callable[[Run[Any, Any]], None]) -> None:
        try:
            callback(self)
        except Exception:  # noqa: BLE001 - a broken listener must end neither the run nor whoever subscribes it
            self._forget(callback)

    # ------------------------------------------------------------------------------------------------ showing

    def __reduce__(self) -> NoReturn:
        """Copying and pickling end here: a copy would be a run that nobody feeds."""
        raise TypeError(f"{self.id} cannot be copied or pickled; its result() and its tokens can")

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return f"<Run {self.id} {self.model}: {self.state}, {len(self.tokens)} tokens, {shown!r}>"

    def _repr_html_(self) -> str:
        from workbench.widgets.static_html import run_html

        return run_html(self)


def _delta(chunk: StreamChunk) -> str | ToolCallDelta:
    return chunk.delta if isinstance(chunk, CompletionResponseStreamChunk) else chunk.event.delta


def _stop_reason(chunk: StreamChunk) -> StopReason | None:
    return chunk.stop_reason if isinstance(chunk, CompletionResponseStreamChunk) else chunk.event.stop_reason
