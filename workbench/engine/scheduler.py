"""The interface of a loaded model: requests in and events out from any thread, and inspection of past positions.

Each model has one inference thread, see `decode_loop`.
"""

from __future__ import annotations

import atexit
import weakref
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from workbench.engine.decode_loop import Call, DecodeLoop
from workbench.engine.generation import Generation
from workbench.engine.images import PlacedImage, check_images
from workbench.engine.inspection import Kept, KeptLogits, Trace, trace_again
from workbench.engine.kv_cache import PREFIX_CACHE_BYTES, PrefixCache
from workbench.engine.logprobs import TokenStats
from workbench.engine.requests import Event, GenerationRequest, Handle
from workbench.engine.sampling import Sampling
from workbench.engine.scoring import score
from workbench.errors import BusyError, ClosedError, ContextLengthError, InvalidRequestError, UnsupportedFieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from workbench.engine.insides.jacobian_lens import JacobianLens
    from workbench.engine.loading import LoadedModel

T = TypeVar("T")

MAX_ACTIVE = 16
MAX_WAITING = 1024
KEPT_LOGITS_BYTES = 32 * 2**20


class Engine:
    """A loaded causal model that serves requests from any thread.

    Args:
        model: a model from `loading.load`.
        prefix_cache_bytes: memory for keys and values of past sequences; 0 switches reuse off.
        kept_logits_bytes: memory for the logits of recent positions, for `inspect`; 0 keeps none.
        max_active: number of requests that decode together; others wait.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        kept_logits_bytes: int = KEPT_LOGITS_BYTES,
        max_active: int = MAX_ACTIVE,
    ) -> None:
        self.model = model
        self.lens: JacobianLens | None = None
        """Jacobian lens of the model; None before it is used."""
        self._kept = KeptLogits(kept_logits_bytes)
        self._loop = DecodeLoop(
            model, prefix_cache=PrefixCache(prefix_cache_bytes), kept_logits=self._kept, max_active=max_active
        )
        # A daemon thread in a kernel at interpreter shutdown would abort the process.
        atexit.register(_close, weakref.ref(self))

    def submit(self, request: GenerationRequest, emit: Callable[[Event], None]) -> Handle:
        """Queue a request; ``emit`` is called on the inference thread with each event, the last Finished or Failed.

        Raises:
            InvalidRequestError: the prompt is empty, it or the answer's beginning has ids outside the vocabulary, or
                an image is not followed by text.
            UnsupportedContentError, UnsupportedFieldError: the model reads no images, or cannot measure such a prompt.
            ContextLengthError: the prompt, or the answer's beginning, leaves no room for a token.
            BusyError: too many requests are waiting.
            ClosedError: the engine was closed.
        """
        self.check(request.prompt_ids)
        if begun := [*(stats.token_id for stats in request.kept), *request.given_ids]:
            self.check([*request.prompt_ids, *begun], "token_id")
        check_images(request.prompt_ids, request.images, self.model.images, self.model.name)
        if request.images and request.prompt_logprobs:
            raise UnsupportedFieldError("logprobs.prompt", True, "False for a prompt with images")
        if self._loop.waiting >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} requests are already waiting for {self.model.name}; try again later")
        # Handles live long, so they reference neither images, which are large, nor the model.
        handle = Handle(replace(request, images=()), partial(_wake, weakref.ref(self._loop)))
        stop_ids = self.model.eos_ids if request.stop_ids is None else request.stop_ids
        generation = Generation(
            handle,
            emit,
            vocabulary=self.model.vocabulary,
            stop_ids=stop_ids,
            context_length=self.model.context_length,
            images=request.images,
        )
        self._loop.put(generation)
        return handle

    def check(self, prompt_ids: Sequence[int], field: str = "prompt") -> None:
        """Raise what `submit` would raise about a prompt."""
        vocab = self.model.decoder.vocab_size
        if not prompt_ids:
            raise InvalidRequestError(field, "", "at least one token of text")
        outside = next((token_id for token_id in prompt_ids if not 0 <= token_id < vocab), None)
        if outside is not None:
            raise InvalidRequestError(field, f"token id {outside}", f"token ids from 0 to {vocab - 1}")
        if len(prompt_ids) >= self.model.context_length:
            raise ContextLengthError(len(prompt_ids), self.model.context_length, field)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a function on the inference thread between two rounds, when nothing else uses the model."""
        future: Future[T] = Future()
        self._loop.put(Call(cast("Callable[[], object]", function), cast("Future[object]", future)))
        return future

    def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector per prompt: the mean of the last hidden states after the final norm, at unit length."""
        for prompt in prompts:
            self.check(prompt)
        futures = [self.call(partial(self._embed, prompt)) for prompt in prompts]
        return [future.result() for future in futures]

    def score(
        self,
        prompt_ids: Sequence[int],
        continuations: Sequence[Sequence[int]],
        alternatives: int = 0,
        images: Sequence[PlacedImage] = (),
    ) -> list[list[TokenStats]]:
        """Return stats of every token of each continuation of a prompt, see `scoring.score`."""
        for token_ids in continuations:
            if not token_ids:
                raise InvalidRequestError("continuations", "", "texts of at least one token each")
            self.check([*prompt_ids, *token_ids])
        check_images(prompt_ids, images, self.model.images, self.model.name)
        return self.call(partial(score, self.model.decoder, prompt_ids, continuations, alternatives, images)).result()

    def inspect(
        self, handle: Handle, position: int, sampling: Sampling | None = None, uniform: float | None = None
    ) -> Trace:
        """Return the sampling chain at a generated position, from its kept logits.

        Args:
            sampling: parameters instead of the run's own.
            uniform: random number in [0, 1) instead of the run's own.

        Raises:
            InvalidRequestError: the position was not generated, or its logits are no longer kept.
            ClosedError: the engine was closed.
        """
        kept, seen_ids = self.kept(handle, position), self.seen_ids(handle, position)
        sampling, answer_ids = sampling or handle.request.sampling, self.answer_ids(handle, position)
        return self.call(partial(trace_again, kept, sampling, seen_ids, uniform, answer_ids)).result()

    def kept_logprobs(self, handle: Handle, position: int) -> Tensor:
        """Return the raw logprobs at a generated position, float32, shape (vocab,); raises as `inspect` does."""
        return self.call(partial(torch.log_softmax, self.kept(handle, position).logits, -1)).result()

    def seen_ids(self, handle: Handle, position: int) -> set[int]:
        """Return the tokens of the prompt and of the answer before a generated position."""
        return set(handle.token_ids[: len(handle.request.prompt_ids) + position])

    def answer_ids(self, handle: Handle, position: int) -> list[int]:
        """Tokens of the answer before a generated position, in order."""
        start = len(handle.request.prompt_ids)
        return handle.token_ids[start : start + position]

    def kept(self, handle: Handle, position: int) -> Kept:
        """Return what a generated position's token was chosen from; raises as `inspect` does."""
        kept = self._kept.get(handle.number, position)
        if kept is None and self._loop.closed:
            raise ClosedError("the model of this run was closed, so its logits are gone")
        if kept is None:
            positions = self._kept.positions(handle.number)
            left = f"from {positions[0]} to {positions[-1]}" if positions else "in a newer run; this one has none left"
            raise InvalidRequestError("position", position, f"one with logits still available, {left}")
        return kept

    def close(self, timeout_s: float | None = 10.0) -> None:
        """Fail all requests in flight with `ClosedError` and end the thread. Closing twice is harmless."""
        self._loop.close(timeout_s)
        self._kept.clear()

    @property
    def prefix_cache(self) -> PrefixCache:
        """Keys and values of past sequences; change it on the inference thread only, through `call`."""
        return self._loop.prefix_cache

    @property
    def in_flight(self) -> int:
        """Number of requests that are running, paused or waiting."""
        return self._loop.in_flight

    def _embed(self, prompt: Sequence[int]) -> list[float]:
        pooled = self.model.decoder.embed(prompt).mean(0)  # (hidden,)
        return cast("list[float]", torch.nn.functional.normalize(pooled, dim=0).tolist())


def _wake(loop: weakref.ref[DecodeLoop]) -> None:
    if (alive := loop()) is not None:
        alive.wake()


def _close(engine: weakref.ref[Engine]) -> None:
    if (alive := engine()) is not None:
        alive.close()
