"""The wire form of a run: one short array per token, with pieces that concatenate to the run's text.

A token decoded alone may be half a character, so the page draws not ``TokenRecord.text`` but the *piece*: the
characters that the token completed. Pieces always concatenate to ``run.text``.

Wire token: ``[token_id, label, logprob, rank, entropy]``, followed by ``is_special`` (0 or 1) and ``piece`` only if the
token is special or the piece is not the label. NaN is null, because JSON lacks it.

A slow run sends one message per token, most of which is not the token itself; so its ``news`` are an array, and
unchanged values are left out.
"""

from __future__ import annotations

import codecs
import json
import math
import time
from collections.abc import Sequence
from typing import Any

from workbench.protocol import ToolCall
from workbench.records import Alternative, CallAttempt, TokenRecord, Usage
from workbench.widgets.breakpoints import named
from workbench.widgets.call_pieces import pieces_beside_calls
from workbench.widgets.contract import RunLike

WireToken = list[Any]


def label(text: str, raw: bytes) -> str:
    """Return the token's text, or its bytes in angle brackets if they are not whole characters."""
    if "\ufffd" in text and raw:
        try:
            raw.decode()
        except UnicodeDecodeError:
            return "⟨" + raw.hex(" ").upper() + "⟩"
    return text


class Pieces:
    """A growing text, split into the characters that each token completed.

    A run may buffer characters (of a stop string that may still complete), so a token's piece is returned only when the
    run's text covers it; the final call returns the rest, cut to the final text.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[str] = []
        self._decoded = 0
        self._covered = 0
        self._taken = 0
        self._is_first = True

    def take(
        self, tokens: Sequence[TokenRecord], text: str, *, final: bool, parts: Sequence[str | CallAttempt] = ()
    ) -> list[str]:
        """Return the pieces of the next tokens that ``text`` covers.

        Args:
            tokens: all tokens of the run so far; earlier ones are not decoded again.
            text: the run's text so far.
            final: whether the run has ended.
            parts: texts and calls of the run so far; needed if there are calls, which are not part of the text.
        """
        if any(isinstance(part, CallAttempt) for part in parts):
            return self._take_beside_calls(tokens, text, parts, final=final)
        for token in tokens[self._decoded :]:
            self._waiting.append("" if token.is_special else self._decoded_piece(token, text))
        self._decoded = len(tokens)
        taken: list[str] = []
        for piece in self._waiting:
            end = self._covered + len(piece)
            if end > len(text) and not final:
                break
            taken.append(text[self._covered : end])
            self._covered = min(end, len(text))
        del self._waiting[: len(taken)]
        self._taken += len(taken)
        if final and taken and self._covered < len(text):
            taken[-1] += text[self._covered :]
            self._covered = len(text)
        return taken

    def _take_beside_calls(
        self, tokens: Sequence[TokenRecord], text: str, parts: Sequence[str | CallAttempt], *, final: bool
    ) -> list[str]:
        pieces, known = pieces_beside_calls(tokens, parts)
        if final and pieces and text.startswith(drawn := "".join(pieces)):
            pieces[-1] += text[len(drawn) :]
        taken = pieces[self._taken : len(pieces) if final else known]
        self._taken += len(taken)
        return taken

    def _decoded_piece(self, token: TokenRecord, text: str) -> str:
        piece = self._decoder.decode(token.bytes)
        # The first token of SentencePiece models begins with a space that is not part of the text.
        if self._is_first and piece.startswith(" ") and not text.startswith(" "):
            piece = piece[1:]
        self._is_first = self._is_first and not piece
        return piece


def wire_token(token: TokenRecord, piece: str) -> WireToken:
    shown = label(token.text, token.bytes)
    wire: WireToken = [
        token.token_id,
        shown,
        logprob_number(token.logprob),
        token.rank,
        number(token.entropy, digits=3),
    ]
    if token.is_special or piece != shown:
        wire.append(int(token.is_special))
    if piece != shown:
        wire.append(piece)
    return wire


def wire_alternative(alternative: Alternative) -> list[Any]:
    """Return ``[token_id, label, logprob, rank]``."""
    return [
        alternative.token_id,
        label(alternative.text, alternative.bytes),
        logprob_number(alternative.logprob),
        alternative.rank,
    ]


def wire_call(attempt: CallAttempt) -> list[Any]:
    """Return ``[status, text]``, for a parsed call followed by its name and its arguments as JSON."""
    wire: list[Any] = [attempt.status, attempt.text]
    return wire if attempt.call is None else [*wire, *called(attempt.call)]


def called(call: ToolCall) -> list[str]:
    """Return name and arguments of a call as text."""
    return [str(call.tool_name), json.dumps(call.arguments, ensure_ascii=False, indent=1)]


def wire_usage(usage: Usage) -> list[Any]:
    """Return ``[prompt_tokens, reused_tokens, generated_tokens, time_to_first_token_s, decode_tokens_per_s]``.

    For a branch, ``kept_tokens`` follows.
    """
    return [
        usage.prompt_tokens,
        usage.reused_tokens,
        usage.generated_tokens,
        number(usage.time_to_first_token_s, digits=4),
        number(usage.decode_tokens_per_s, digits=1),
        *([usage.kept_tokens] if usage.kept_tokens else []),
    ]


def number(value: float | None, *, digits: int) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(value, digits)


def steps_of(run: RunLike) -> list[TokenRecord]:
    """Return the tokens of a run so far, followed by the end token if the model chose one."""
    return [*run.tokens, *([] if run.end is None else [run.end])]


def logprob_number(logprob: float) -> float | None:
    """Return a logprob rounded for the wire, so that its probability rounds as that of the record does."""
    return number(logprob, digits=6)


def whole_pieces(run: RunLike) -> tuple[list[TokenRecord], list[str]]:
    """Return the tokens of a run so far, and the piece of each."""
    tokens = list(run.tokens)
    return tokens, Pieces().take(tokens, run.text, final=True, parts=run.parts)


def prompt_pieces(run: RunLike) -> list[tuple[TokenRecord, str]]:
    """Return the measured tokens of a prompt text, each with its piece; none if it was not measured.

    The first token of a text has no probability; its record here has no numbers.
    """
    tokens = list(run.prompt_tokens)
    if not tokens or not isinstance(run.prompt, str):
        return []
    text, measured = run.prompt.encode(), b"".join(token.bytes for token in tokens if not token.is_special)
    if text.endswith(measured) and (first := text.removesuffix(measured)):
        tokens.insert(0, TokenRecord(0, -1, first.decode(errors="replace"), first, math.nan, 0, math.nan))
    return list(zip(tokens, Pieces().take(tokens, run.prompt, final=True), strict=True))


def wire_prompt(run: RunLike) -> list[WireToken]:
    """Return the wire form of `prompt_pieces`."""
    return [wire_token(token, piece) for token, piece in prompt_pieces(run)]


class RunStream:
    """The messages about a run: changes since the last one, or the whole run. Used on the ticker's thread."""

    def __init__(self, run: RunLike) -> None:
        self.run = run
        self._pieces = Pieces()
        self._tokens: list[WireToken] = []
        self._calls: list[CallAttempt] = []
        self._sequence = 0
        self._sent_usage: list[Any] = []
        self._sent_prompt = False
        self._stage: tuple[str, float] | None = None

    def delta(self) -> dict[str, Any]:
        """Return the changes since the last call as ``news``: run, sequence, first position, tokens, tokens per second.

        Only if they differ from the usual, these keys are added: ``usage`` if more of it has changed than the tokens
        imply, ``state`` if the run is not running, ``calls``, ``paused_by``, ``progress`` before the first token, and
        once ``prompt``, the measured tokens of the prompt.
        """
        at = len(self._tokens)
        self._read()
        self._sequence += 1
        usage = wire_usage(self.run.usage)
        sent, self._sent_usage = self._sent_usage, usage
        generated = len(self._tokens) - self.run.usage.kept_tokens
        is_implied = [*sent[:2], generated, *sent[3:4], *sent[5:]] == [*usage[:4], *usage[5:]]
        parts = {
            "usage": None if is_implied else usage,
            "state": None if self.run.state == "running" else _active(self.run.state),
            "calls": self._fresh_calls() or None,
            "prompt": self._fresh_prompt(),
            "progress": self._progress(),
            **_pause(self.run),
        }
        news = [self.run.id, self._sequence, at, self._tokens[at:], usage[4]]
        return {"kind": "delta", "news": news, **{name: part for name, part in parts.items() if part is not None}}

    def end(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the whole run, and the rest that a page with all deltas lacks, with the position ``at`` of its tokens.

        The rest is None if tokens that were sent have changed at the end, so that a page needs the whole run.
        """
        sent = self._tokens
        whole = self.snapshot()
        if whole["tokens"][: len(sent)] != sent:
            return whole, None
        rest = {**whole, "kind": "end", "at": len(sent), "tokens": whole["tokens"][len(sent) :]}
        if self._sent_prompt:
            del rest["prompt"]
        return whole, rest

    def snapshot(self) -> dict[str, Any]:
        """Return the whole run so far; only a snapshot says that a run has ended, and how."""
        # `done` is read first, because everything read after it is at least as recent.
        done = self.run.done
        if done:
            self._read_whole()
        else:
            self._read()
        run = self.run
        return {
            "run": run.id,
            "model": run.model,
            "sequence": self._sequence,
            "state": run.state if done else _active(run.state),
            "tokens": list(self._tokens),
            "end": wire_token(run.end, "") if done and run.end is not None else None,
            "calls": [wire_call(attempt) for attempt in run.call_attempts],
            "text": "" if self._tokens else run.text,
            "usage": wire_usage(run.usage),
            "stop_reason": stop_name(run) if done else None,
            "can_pause": run.can_pause,
            "prompt": wire_prompt(run),
            "progress": self._progress(),
            **({"reads": True} if run.reads else {}),
            **_pause(run),
            "error": error_text(run.error) if done and run.error and run.state == "failed" else None,
        }

    def _fresh_calls(self) -> list[list[Any]]:
        """Return index and `wire_call` of each call that has changed, with only its new text."""
        before, self._calls = self._calls, list(self.run.call_attempts)
        fresh = []
        for place, attempt in enumerate(self._calls):
            known = before[place] if place < len(before) else None
            if attempt != known:
                status, text, *read = wire_call(attempt)
                fresh.append([place, status, text[len(known.text) if known else 0 :], *read])
        return fresh

    def _progress(self) -> list[Any] | None:
        """Return ``[stage, done, total, elapsed_s]``, with the seconds since this stage was first seen."""
        progress = self.run.progress
        if progress is None:
            return None
        if self._stage is None or self._stage[0] != progress.stage:
            self._stage = progress.stage, time.monotonic()
        return [progress.stage, progress.done, progress.total, round(time.monotonic() - self._stage[1], 1)]

    def _fresh_prompt(self) -> list[WireToken] | None:
        if self._sent_prompt or not self.run.prompt_tokens:
            return None
        self._sent_prompt = True
        return wire_prompt(self.run)

    def _read(self) -> None:
        tokens = list(self.run.tokens)
        for piece in self._pieces.take(tokens, self.run.text, final=False, parts=self.run.parts):
            self._tokens.append(wire_token(tokens[len(self._tokens)], piece))

    def _read_whole(self) -> None:
        tokens, pieces = whole_pieces(self.run)
        self._tokens = [wire_token(token, piece) for token, piece in zip(tokens, pieces, strict=True)]


def error_text(error: BaseException) -> str:
    """Return the message of an error for the page; the type's name if the message is empty."""
    return getattr(error, "in_form", None) or str(error).strip() or type(error).__name__


def failure(what: str, error: BaseException) -> str:
    """Return a sentence for the page that says what failed, and why."""
    return f"{what}: {error_text(error).rstrip('.')}."


def _active(state: str) -> str:
    return state if state in ("queued", "paused") else "running"


def _pause(run: RunLike) -> dict[str, Any]:
    return {} if run.breakpoint is None else {"paused_by": list(named(run.breakpoint))}


def stop_name(run: RunLike) -> str | None:
    """Return the run's stop reason in the protocol's words; None while it is running."""
    reason = run.stop_reason if run.done else None
    return None if reason is None else str(getattr(reason, "value", reason))
