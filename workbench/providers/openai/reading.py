"""A server's answer as emissions: text without what stops it, records of tokens, calls, counts."""

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

# A turn that ends in calls is made one that waits for their results in `workbench.providers.emissions`.
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
    """Reads the answer to one request: `feed` each part, then `close` once."""

    def __init__(self, request: Request, asked: PreparedRequest, failures: Failures) -> None:
        self.ended = False
        """A stop string is complete: whatever the server still says is not part of the answer."""
        self._params = request.sampling_params
        self._asked = asked
        self._failures = failures
        self._matcher = StopMatcher(request.sampling_params.stop or ())
        self._held = ""
        self._shown = 0
        self._calls = CallReader(asked.tools)
        self._meter = UsageMeter()
        self._asked_at = time.perf_counter()
        self._records = 0
        self._counted: int | None = None
        self._told_logprobs = False
        self._finish_reason: str | None = None

    def feed(self, part: Part) -> Iterator[Emission]:
        """What is certain after one more part."""
        for choice in part.choices[:1]:
            if self._asked.told.prompt:
                yield from self._read_prompt(part, choice)
            yield from self._read(choice)
            self._finish_reason = choice.finish_reason or self._finish_reason
        if part.usage is not None:
            self._take_counts(part.usage)

    def close(self) -> Iterator[Emission]:
        """The rest, and the emission that ends the answer.

        Raises:
            RemoteConnectionError: the server broke off without a reason.
            RemoteError: its reason is none that an answer may have.
            ToolCallError: a call had to come, and none did.
        """
        if self._finish_reason is None and not self.ended:
            raise self._failures.cut_off()
        stop_reason = StopReason.end_of_turn if self.ended else _STOP_REASONS.get(self._finish_reason or "")
        if stop_reason is None:
            raise self._failures.wrong_answer(f"finish_reason {self._finish_reason!r}")
        if not self.ended and self._held:
            rest, self._held = self._held, ""
            yield self._emission(rest)
        yield from map(self._emission, self._calls.close())
        if self._asked.must_call and not self._calls.calls:
            raise ToolCallError(self._lack_of_calls(stop_reason))
        yield self._emission("", stop_reason=stop_reason)

    def _read(self, choice: Choice) -> Iterator[Emission]:
        text = (choice.new.content or "") + (choice.new.refusal or "")
        parts = choice.new.tool_calls or ()
        if text or parts or choice.logprobs:
            elapsed_s = time.perf_counter() - self._asked_at
            records = token_records(choice, text, self._records, elapsed_s, self._asked.told)
            self._check_logprobs(text, choice)
            shown = self._until_stop(text)
            self._count(records, elapsed_s)
            if shown or records:
                yield self._emission(shown, tuple(records))
        if not self.ended:
            for part in parts:
                yield from map(self._emission, self._calls.feed(part))

    def _read_prompt(self, part: Part, choice: Choice) -> Iterator[Emission]:
        positions = choice.prompt_logprobs or part.prompt_logprobs
        if positions is None or part.prompt_token_ids is None:
            raise UnsupportedFieldError("logprobs.prompt", True, "false: the server sent no prompt logprobs")
        yield self._emission("", prompt=prompt_records(positions, part.prompt_token_ids, self._asked.told.alternatives))

    def _until_stop(self, text: str) -> str:
        """What of the text so far is certain to be part of the answer, and was not shown yet."""
        match = self._matcher.feed(text)
        self._held += text
        self.ended = match is not None
        end = (match.start if match else self._matcher.safe) - self._shown
        shown, self._held = self._held[:end], self._held[end:]
        self._shown += len(shown)
        return shown

    def _check_logprobs(self, text: str, choice: Choice) -> None:
        self._told_logprobs = self._told_logprobs or choice.logprobs is not None
        if self._asked.told.logprobs and text and not self._told_logprobs:
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
        if not records:  # of a call the tokens are not told
            self._meter.last_s = elapsed_s
            self._meter.first_s = elapsed_s if self._meter.first_s is None else self._meter.first_s

    def _take_counts(self, counts: UsageCounts) -> None:
        """What the server counted is right, whatever could be seen of it; what it leaves out stays as it was."""
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
        if self._asked.told.logprobs and missing > 1:  # one may be the token that ends the turn
            yield f"the server sent no logprobs for {missing} of its {self._counted} tokens"

    def _lack_of_calls(self, stop_reason: StopReason) -> str:
        if stop_reason is StopReason.out_of_tokens:
            return (
                "tool_choice is required, but the token limit was reached before a call was complete; "
                "raise sampling_params.max_tokens, or shorten the conversation"
            )
        reason = self._calls.faults[-1] if self._calls.faults else "the server's model made none"
        return f"tool_choice is required, but the answer contains no tool call: {reason}"
