"""Inspection of a run: its tokens as a table, and the distributions of the model and of the sampler."""

from __future__ import annotations

import numbers
from dataclasses import fields
from typing import TYPE_CHECKING, overload

from workbench.analysis.tool_call_steps import call_steps
from workbench.errors import InvalidRequestError, ShieldViolationError, UnsupportedFieldError
from workbench.protocol import SamplingParams
from workbench.protocol.sampling import is_count
from workbench.records import CallStep, Inspector, SamplingTrace
from workbench.session.attribution import attribution_of, started_attribution

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from workbench.protocol import Chunk, SafetyViolation
    from workbench.session.attribution import RunAttribution
    from workbench.session.run_protocols import HostedRun, RunLike


class RunInspection:
    """Methods that read any `RunLike` and do not change it."""

    @property
    def violation(self: RunLike) -> SafetyViolation | None:
        """Finding of the shield that refused the prompt or the answer; None if none did. ``error`` names the shield.

        The metadata has the category and its probability, as far as the shield reports them.
        """
        return self.error.violation if isinstance(self.error, ShieldViolationError) else None

    def to_frame(self: RunLike) -> pd.DataFrame:
        """Return a table with one row per token: position, token_id, text, logprob, probability, rank, entropy."""
        import pandas as pd

        columns = ("position", "token_id", "text", "logprob", "probability", "rank", "entropy")
        rows = [{name: getattr(token, name) for name in columns} for token in self.tokens]
        return pd.DataFrame(rows, columns=pd.Index(columns))

    def distribution(self: RunLike, position: int) -> pd.DataFrame:
        """Return the whole raw distribution at a generated position as a table, the most probable token first.

        The columns are token_id, text, logprob, probability and rank.

        Raises:
            InvalidRequestError: the position's logits are no longer available; only recent ones are kept.
            UnsupportedFieldError: the model does not run in this process.
        """
        import numpy as np
        import pandas as pd

        inspector = _inspector(self, position)
        logprobs = inspector.logprobs(position)
        token_ids = (-logprobs).argsort(kind="stable")
        descending = logprobs[token_ids]
        return pd.DataFrame(
            {
                "token_id": token_ids,
                "text": [inspector.text(token_id) for token_id in token_ids.tolist()],
                "logprob": descending,
                "probability": np.exp(descending),
                "rank": np.searchsorted(-descending, -descending)
                + 1,  # equal values share the better rank, as in `tokens`
            }
        )

    def logprobs(self: RunLike, position: int) -> NDArray[np.float32]:
        """Return the raw logprobs at a generated position by token id, shape (vocab,).

        Faster than `distribution`, which sorts the tokens and adds their texts. Raises as `distribution` does.
        """
        return _inspector(self, position).logprobs(position)

    def call_steps(self: RunLike) -> list[CallStep]:
        """Return the tool-call facts of every token: how probable a call was, its parse state, what a schema removed.

        The probability is a lower bound at positions whose logits were discarded before they were read.

        Raises:
            InvalidRequestError: the run has no tools whose calls are parsed from the model's text.
        """
        parts = self.parts  # read before the tokens, which then include all that the parts contain
        return call_steps(list(self.tokens), parts, self.call_openers, self.inspector)

    def call_frame(self: RunLike) -> pd.DataFrame:
        """Return `call_steps` as a table with one row per token."""
        import pandas as pd

        columns = [field.name for field in fields(CallStep)]
        rows = [{name: getattr(step, name) for name in columns} for step in self.call_steps()]
        return pd.DataFrame(rows, columns=pd.Index(columns))

    @property
    def chunks(self: RunLike) -> list[Chunk]:
        """Chunks in the prompt, in its order; empty unless the run is an answer of `Workbench.ask`."""
        return self.request.retrieved.chunks if self.request.retrieved else []

    @overload
    def attribution(self: HostedRun) -> RunAttribution: ...
    @overload
    def attribution(self: HostedRun, position: int, token: int | str | None = None) -> pd.DataFrame: ...

    def attribution(
        self: HostedRun, position: int | None = None, token: int | str | None = None
    ) -> RunAttribution | pd.DataFrame:
        """Return what made the model say a token, or, without a position, what each retrieved chunk did to the answer.

        With a position: a table of what each part of the model added to the token's logit, in forward order, with the
        scale of the last norm held fixed; the parts sum to the logit.

        Without one: how much each chunk in the prompt raised the log probability of each token. Every chunk costs
        about one more answer. Blocks.

        Args:
            position: index of a token in ``tokens``.
            token: text or id of another token to explain in its place.

        Raises:
            InvalidRequestError: the run has not ended, or has no chunks.
            UnsupportedFieldError: the model's provider cannot answer with given tokens, or the model is not in this
                process.
        """
        if position is None:
            return attribution_of(started_attribution(self))
        import pandas as pd

        parts = self.logit_parts(position, token).parts
        return pd.DataFrame({"part": list(parts), "logit": list(parts.values())})

    def start_attribution(self: HostedRun) -> Future[RunAttribution]:
        """Start measuring the attribution and return its future, which raises as `attribution` does.

        Cancelling the future stops the model within one step.

        Raises:
            InvalidRequestError: the run has not ended.
        """
        return started_attribution(self)

    def sampling_trace(
        self: RunLike, position: int, sampling_params: SamplingParams | None = None, number: float | None = None
    ) -> SamplingTrace:
        """Return how the token at a position was chosen: the distribution after each stage of sampling, and the draw.

        Args:
            sampling_params: parameters to apply instead of the run's, with the same random number.
            number: random number to use instead of the one that was drawn, from 0 to below 1.

        Raises as `distribution` does.
        """
        if number is not None and not _is_fraction(number):
            raise InvalidRequestError("number", number, "a number from 0 to below 1")
        if sampling_params is not None and not isinstance(sampling_params, SamplingParams):
            raise InvalidRequestError("sampling_params", sampling_params, "a SamplingParams")
        return _inspector(self, position).trace(position, sampling_params, number)

    def sampling_frame(
        self: RunLike,
        position: int,
        sampling_params: SamplingParams | None = None,
        number: float | None = None,
        *,
        top: int = 20,
    ) -> pd.DataFrame:
        """Return `sampling_trace` as a table of the ``top`` raw tokens and the chosen one, with a column per stage."""
        import pandas as pd

        if not is_count(top) or top < 1:
            raise InvalidRequestError("top", top, "a whole number, 1 or above")
        trace = self.sampling_trace(position, sampling_params, number)
        token_ids = trace.stages[0].probabilities.argsort()[::-1][:top].tolist()
        if trace.token_id not in token_ids:
            token_ids.append(trace.token_id)
        columns = {"token_id": token_ids, "text": [trace.text(token_id) for token_id in token_ids]}
        return pd.DataFrame(columns | {stage.name: stage.probabilities[token_ids] for stage in trace.stages})


def _inspector(run: RunLike, position: int) -> Inspector:
    if run.reads:
        raise UnsupportedFieldError(
            "position", run.id, "used on a run that generates: a reading only measures its text"
        )
    if not is_count(position):
        raise InvalidRequestError("position", position, "the index of a generated token, 0 or above")
    if not run.tokens and run.end is None:
        raise InvalidRequestError("position", position, "the index of a generated token; this run has no tokens so far")
    if run.inspector is None:
        raise UnsupportedFieldError("position", run.model, "in a run whose model is in this process")
    return run.inspector


def _is_fraction(value: object) -> bool:
    return isinstance(value, numbers.Real) and 0 <= float(value) < 1
