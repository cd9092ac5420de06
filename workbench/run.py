"""A run: one completion or chat answer on its way, readable from the first token on."""

from __future__ import annotations

import asyncio
import numbers
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    CompletionResponse,
    CompletionResponseStreamChunk,
    InterleavedTextMedia,
    Message,
    SamplingParams,
    StopReason,
    ToolCall,
    ToolCallDelta,
    detail_of,
)
from workbench.protocol.sampling import is_count
from workbench.providers.folding import Answer
from workbench.records import CallAttempt, Inspector, SamplingTrace, TokenRecord, Usage

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from workbench.background import BackgroundLoop
    from workbench.capsule import Capsule

RunState = Literal["queued", "running", "finished", "cancelled", "failed"]

StreamChunk: TypeAlias = CompletionResponseStreamChunk | ChatCompletionResponseStreamChunk
Chunk = TypeVar("Chunk", bound=StreamChunk)
Response = TypeVar("Response", bound=CompletionResponse | ChatCompletionResponse)


class Run(Generic[Chunk, Response]):
    """What `Workbench.completion` and `Workbench.chat_completion` return at once, while the model works.

    Read it as it grows (``text``, ``tokens``, ``usage``), loop over its protocol chunks with ``for`` or ``async for``,
    wait for the protocol's response with ``result()`` or ``await``, stop it with ``cancel()``. All of it is safe from
    any thread, and everything stays readable after the end.
    """

    def __init__(
        self,
        run_id: str,
        *,
        model: str,
        prompt: InterleavedTextMedia | list[Message],
        sampling_params: SamplingParams,
        chunks: AsyncIterator[Chunk],
        fold: Callable[[Sequence[Chunk]], Response],
        loop: BackgroundLoop,
        capsule: Callable[[Run[Chunk, Response]], Capsule],
    ) -> None:
        self.id = run_id
        self.model = model
        self.prompt = prompt
        self.sampling_params = sampling_params
        self.state: RunState = "queued"
        self.tokens: list[TokenRecord] = []
        """So far; only ever appended to."""
        self.prompt_tokens: tuple[TokenRecord, ...] = ()
        """Records of the prompt's tokens from the second on, where `LogProbConfig.prompt` asked for them."""
        self.seed: int | None = None
        """Of the random numbers that chose the tokens; a request that names it draws the same ones."""
        self.notes: tuple[str, ...] = ()
        """What the caller should know, such as a parameter that the strategy ignores."""
        self.usage = Usage()
        self.stop_reason: StopReason | None = None
        self.error: BaseException | None = None
        self._answer = Answer()
        self._chunks: list[Chunk] = []
        self._fold = fold
        self._make_capsule = capsule
        self._capsule: Capsule | None = None
        self._inspector: Inspector | None = None
        self._changed = threading.Condition()
        self._listeners: list[Callable[[Run[Any, Any]], None]] = []
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
        with self._changed:
            return self._answer.call_attempts(ended=self.done)

    @property
    def done(self) -> bool:
        """Whether the run has ended, in whichever way."""
        return self.state in ("finished", "cancelled", "failed")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended, at most ``timeout`` seconds; whether it has. Never raises the run's error."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def result(self, timeout: float | None = None) -> Response:
        """Block until the end and return the protocol's response.

        A cancelled run gives the part that was there. Interrupting the wait cancels the run.

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

    def to_frame(self) -> pd.DataFrame:
        """One row per generated token: position, token_id, text, logprob, probability, rank, entropy."""
        import pandas as pd

        columns = ("position", "token_id", "text", "logprob", "probability", "rank", "entropy")
        rows = [{name: getattr(token, name) for name in columns} for token in self.tokens]
        return pd.DataFrame(rows, columns=pd.Index(columns))

    def distribution(self, position: int) -> pd.DataFrame:
        """The whole raw distribution at a generated position, best first: token_id, text, logprob, probability, rank.

        Raises:
            InvalidRequestError: the position's logits are no longer kept; recent ones are.
            UnsupportedFieldError: the model runs elsewhere, where nothing is kept.
        """
        import numpy as np
        import pandas as pd

        inspector = self._inspect(position)
        logprobs = inspector.logprobs(position)
        token_ids = (-logprobs).argsort(kind="stable")
        best_first = logprobs[token_ids]
        return pd.DataFrame(
            {
                "token_id": token_ids,
                "text": [inspector.text(token_id) for token_id in token_ids.tolist()],
                "logprob": best_first,
                "probability": np.exp(best_first),
                "rank": np.searchsorted(-best_first, -best_first) + 1,  # equals share the better rank, as in `tokens`
            }
        )

    def logprobs(self, position: int) -> NDArray[np.float32]:
        """The whole raw distribution at a generated position by token id, shape (vocab,); raises as `distribution`.

        Without the texts and the order that make `distribution` take its time.
        """
        return self._inspect(position).logprobs(position)

    def sampling_trace(
        self, position: int, sampling_params: SamplingParams | None = None, number: float | None = None
    ) -> SamplingTrace:
        """How the token at a position was chosen: raw, penalty, grammar, temperature, top_k, top_p, draw.

        Args:
            sampling_params: others than the run's, to see what they would have done with the same random number.
            number: another random number than the one that was drawn, from 0 to below 1.

        Raises as `distribution` does. Looking changes nothing.
        """
        if number is not None and not _is_fraction(number):
            raise InvalidRequestError("number", number, "a number from 0 to below 1")
        if sampling_params is not None and not isinstance(sampling_params, SamplingParams):
            raise InvalidRequestError("sampling_params", sampling_params, "a SamplingParams")
        return self._inspect(position).trace(position, sampling_params, number)

    def sampling_frame(
        self,
        position: int,
        sampling_params: SamplingParams | None = None,
        number: float | None = None,
        *,
        top: int = 20,
    ) -> pd.DataFrame:
        """`sampling_trace` as a table: the ``top`` raw tokens and the chosen one, with a probability per stage."""
        import pandas as pd

        if not is_count(top) or top < 1:
            raise InvalidRequestError("top", top, "a whole number, 1 or above")
        trace = self.sampling_trace(position, sampling_params, number)
        token_ids = trace.stages[0].probabilities.argsort()[::-1][:top].tolist()
        if trace.token_id not in token_ids:
            token_ids.append(trace.token_id)
        columns = {"token_id": token_ids, "text": [trace.text(token_id) for token_id in token_ids]}
        return pd.DataFrame(columns | {stage.name: stage.probabilities[token_ids] for stage in trace.stages})

    def _inspect(self, position: int) -> Inspector:
        if not is_count(position):
            raise InvalidRequestError("position", position, "the index of a generated token, 0 or above")
        if not self.tokens:
            raise InvalidRequestError("position", position, "that of a generated token; this run has none so far")
        if self._inspector is None:
            raise UnsupportedFieldError("position", self.model, "one of a run whose model is in this process")
        return self._inspector

    def __iter__(self) -> Iterator[Chunk]:
        """The protocol's chunks from the first on, waiting for those to come; raises the run's error at its place.

        Interrupting the wait cancels the run; leaving the loop does not.
        """
        position = 0
        while True:
            try:
                fresh = self._wait_beyond(position)
            except KeyboardInterrupt:
                self.cancel()
                raise
            if not fresh:
                break
            yield from fresh
            position += len(fresh)
        if self.error is not None:
            raise self.error

    def _wait_beyond(self, position: int) -> list[Chunk]:
        """The chunks from ``position`` on, at least one unless the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._chunks) > position or self.done)
            return self._chunks[position:]

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """As iterating, for ``async for`` in any event loop."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake(_: Run[Any, Any]) -> None:
            loop.call_soon_threadsafe(changed.set)

        unsubscribe = self.subscribe(wake)
        position = 0
        try:
            while True:
                changed.clear()
                ended = self.done
                fresh = self._chunks[position:]
                for chunk in fresh:
                    yield chunk
                position += len(fresh)
                if ended and position == len(self._chunks):
                    break
                if not ended:
                    await changed.wait()
        finally:
            unsubscribe()
        if self.error is not None:
            raise self.error

    def __await__(self) -> Generator[Any, None, Response]:
        return self._finished().__await__()

    async def _finished(self) -> Response:
        try:
            async for _ in self:
                pass
        except asyncio.CancelledError:
            self.cancel()  # whoever awaited it was cancelled
            raise
        return self._fold(self._chunks)

    # ------------------------------------------------------------------------------------------------ writing

    async def _consume(self, chunks: AsyncIterator[Chunk]) -> None:
        self._set_state("running")
        try:
            async for chunk in chunks:
                self._add(chunk)
        finally:
            # An abandoned stream must stop computing now, not when it is collected.
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()

    def _add(self, chunk: Chunk) -> None:
        with self._changed:
            if self.done:  # cancelled while this chunk was under way: what has ended changes no more
                return
            self._answer.add(_delta(chunk))
            self._chunks.append(chunk)
            if detail := detail_of(chunk):
                self.tokens.extend(detail.tokens)
                self.usage = detail.usage or self.usage
                self.prompt_tokens = detail.prompt_tokens or self.prompt_tokens
                self.notes = detail.notes
                self.seed = detail.seed
                self._inspector = detail.inspector
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
                self.state = state
            self._changed.notify_all()
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


def _is_fraction(value: object) -> bool:
    return isinstance(value, numbers.Real) and 0 <= float(value) < 1


def _delta(chunk: StreamChunk) -> str | ToolCallDelta:
    return chunk.delta if isinstance(chunk, CompletionResponseStreamChunk) else chunk.event.delta


def _stop_reason(chunk: StreamChunk) -> StopReason | None:
    return chunk.stop_reason if isinstance(chunk, CompletionResponseStreamChunk) else chunk.event.stop_reason
