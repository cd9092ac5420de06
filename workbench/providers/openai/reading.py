"""Conversion of a server's answer to emissions: text up to a stop string, token records, tool calls and counts."""

from __future__ import annotations

import time
from collections.abc import Iterator

from workbench.errors import ToolCallError, UnsupportedFieldError
from workbench.protocol import StopReason, ToolCallDelta, sampling_conflict
from workbench.providers.openai.calls import CallReader
from workbench.providers.openai.failures import Failures
from workbench.providers.openai.logprobs import prompt_records, token_records
from workbench.providers.openai.request_preparation import PreparedRequest
from workbench.providers.openai.wire import Choice, Part, UsageCounts
from workbench.providers.requests import Request
from workbench.providers.usage import UsageMeter
from workbench.records import Emission, TokenRecord
from workbench.stopping import StopMatcher

# `workbench.providers.emissions` replaces the stop reason of a turn that ends with a call.
_STOP_REASONS = {
    "stop": StopReason.end_of_turn,
    "eos": StopReason.end_of_turn,
    "eos_token": StopReason.end_of_turn,
    "stop_sequence": StopReason.end_of_turn,
    "tool_calls": StopReason.end_of_turn,
    "function_call": StopReason.end_of_turn,
    "content_filter": StopReason.end_of_turn,
    "length": StopReason.out_of_tokens,
    "model_length": StopReason.out_of_tokens,
}


class AnswerReader:
    """Reader of the answer to one request: `feed` each part, then `close` once."""

    def __init__(self, request: Request, prepared: PreparedRequest, failures: Failures) -> None:
        self.ended = False
        """Whether a stop string is complete; everything after it is not part of the answer."""
        self._params = request.sampling_params
        self._prepared = prepared
        self._logprobs = prepared.logprobs
        self._failures = failures
        self._matcher = StopMatcher(request.sampling_params.stop or ())
        self._buffered = ""
        self._emitted = 0
        self._calls = CallReader(prepared.tools)
        self._meter = UsageMeter()
        self._requested_at = time.perf_counter()
        self._records = 0
        self._counted: int | None = None
        self._has_logprobs = False
        self._finish_reason: str | None = None

    def feed(self, part: Part) -> Iterator[Emission]:
        """Yield the emissions that one more part makes certain."""
        for choice in part.choices[:1]:
            if self._logprobs.prompt:
                yield from self._read_prompt(part, choice)
            yield from self._read(choice)
            self._finish_reason = choice.finish_reason or self._finish_reason
        if part.usage is not None:
            self._take_counts(part.usage)

    def close(self) -> Iterator[Emission]:
        """Yield the buffered text and the emission that ends the answer.

        Raises:
            RemoteConnectionError: the answer ended without a finish reason.
            RemoteError: the finish reason is unknown.
            ToolCallError: a required call is missing.
        """
        if self._finish_reason is None and not self.ended:
            raise self._failures.cut_off()
        stop_reason = StopReason.end_of_turn if self.ended else _STOP_REASONS.get(self._finish_reason or "")
        if stop_reason is None:
            raise self._failures.wrong_answer(f"finish_reason {self._finish_reason!r}")
        if not self.ended and self._buffered:
            rest, self._buffered = self._buffered, ""
            yield self._emission(rest)
        yield from map(self._emission, self._calls.close())
        if self._prepared.must_call and not self._calls.calls:
            raise ToolCallError(self._missing_call(stop_reason))
        yield self._emission("", stop_reason=stop_reason)

    def _read(self, choice: Choice) -> Iterator[Emission]:
        text = (choice.new.content or "") + (choice.new.refusal or "")
        parts = choice.new.tool_calls or ()
        if text or parts or choice.logprobs:
            elapsed_s = time.perf_counter() - self._requested_at
            records = token_records(choice, text, self._records, elapsed_s, self._logprobs.alternatives)
            self._check_logprobs(text, choice)
            certain = self._until_stop(text)
            self._count(records, elapsed_s)
            if certain or records:
                yield self._emission(certain, tuple(records))
        if not self.ended:
            for part in parts:
                yield from map(self._emission, self._calls.feed(part))

    def _read_prompt(self, part: Part, choice: Choice) -> Iterator[Emission]:
        positions = choice.prompt_logprobs or part.prompt_logprobs
        if positions is None or part.prompt_token_ids is None:
            raise UnsupportedFieldError("logprobs.prompt", True, "false: the server sent no prompt logprobs")
        yield self._emission("", prompt=prompt_records(positions, part.prompt_token_ids, self._logprobs.alternatives))

    def _until_stop(self, text: str) -> str:
        """Return the text that is certain to precede every stop string and was not returned before."""
        match = self._matcher.feed(text)
        self._buffered += text
        self.ended = match is not None
        end = (match.start if match else self._matcher.safe) - self._emitted
        certain, self._buffered = self._buffered[:end], self._buffered[end:]
        self._emitted += len(certain)
        return certain

    def _check_logprobs(self, text: str, choice: Choice) -> None:
        self._has_logprobs = self._has_logprobs or choice.logprobs is not None
        if self._logprobs.enabled and text and not self._has_logprobs:
            raise UnsupportedFieldError("logprobs", "a LogProbConfig", "absent: the server sent none; see config.lacks")

    def _emission(
        self,
        delta: str | ToolCallDelta,
        records: tuple[TokenRecord, ...] = (),
        *,
        prompt: tuple[TokenRecord, ...] = (),
        stop_reason: StopReason | None = None,
    ) -> Emission:
        notes = tuple(self._notes(stop_reason))
        return Emission(delta, records, stop_reason, prompt_tokens=prompt, usage=self._meter.usage(), notes=notes)

    def _count(self, records: list[TokenRecord], elapsed_s: float) -> None:
        for _ in records:
            self._meter.count(elapsed_s)
        self._records += len(records)
        if not records:  # servers send no records of a call's tokens
            self._meter.last_s = elapsed_s
            self._meter.first_s = elapsed_s if self._meter.first_s is None else self._meter.first_s

    def _take_counts(self, counts: UsageCounts) -> None:
        """Use the server's counts, which include tokens that were not sent; keep the counts that it leaves out."""
        if counts.prompt_tokens is not None:
            self._meter.prompt_tokens = counts.prompt_tokens
        if counts.prompt_tokens_details is not None and counts.prompt_tokens_details.cached_tokens is not None:
            self._meter.reused_tokens = counts.prompt_tokens_details.cached_tokens
        if counts.completion_tokens is not None:
            self._counted = self._meter.generated_tokens = counts.completion_tokens

    def _notes(self, stop_reason: StopReason | None) -> Iterator[str]:
        if conflict := sampling_conflict(self._params):
            yield conflict
        for fault in self._calls.faults:
            yield f"a tool call could not be read: {fault}"
        if stop_reason is None:
            return
        if stop_reason is StopReason.out_of_tokens and not self._params.max_tokens:
            yield "max_tokens was not given: the answer ended at the server's own limit or context length"
        if self._finish_reason == "content_filter":
            yield "the server's content filter ended the answer"
        missing = (self._counted or 0) - self._records
        if self._logprobs.enabled and missing > 1:  # one may be the token that ends the turn
            yield f"the server sent no logprobs for {missing} of its {self._counted} tokens"

    def _missing_call(self, stop_reason: StopReason) -> str:
        if stop_reason is StopReason.out_of_tokens:
            return (
                "tool_choice is required, but the token limit was reached before a call was complete; "
                "raise sampling_params.max_tokens, or shorten the conversation"
            )
        reason = self._calls.faults[-1] if self._calls.faults else "the server's model made none"
        return f"tool_choice is required, but the answer contains no tool call: {reason}"
