"""A fake workbench for the command line: it says what a test puts into it, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from workbench.cli import main
from workbench.commands import opening
from workbench.errors import ShieldNotFoundError
from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionMessage,
    CompletionResponse,
    CompletionResponseStreamChunk,
    LogProbConfig,
    Message,
    ResponseFormat,
    SamplingParams,
    StopReason,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolDefinition,
)
from workbench.records import Alternative, TokenRecord, Usage

STOP = StopReason.end_of_turn


def record(position: int, text: str) -> TokenRecord:
    """A token of probability one half with one alternative."""
    other = Alternative(token_id=7, text="\n", bytes=b"\n", logprob=-1.5, rank=2)
    return TokenRecord(position, 100 + position, text, text.encode(), -0.6931471805599453, 1, 1.0, (other,))


@dataclass
class FakeRun:
    """Streams its words, then raises its error if it has one; ``interrupted_after`` words, Ctrl+C is pressed."""

    words: Sequence[str | ToolCallDelta]
    is_chat: bool = False
    error: BaseException | None = None
    interrupted_after: int | None = None
    cancelled: bool = False
    model: str = "fake-model"
    stop_reason: StopReason | None = STOP
    _said: list[str] = field(default_factory=list)
    _calls: list[ToolCall] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self._said)

    @property
    def tokens(self) -> list[TokenRecord]:
        return [record(position, word) for position, word in enumerate(self._said)]

    @property
    def usage(self) -> Usage:
        return Usage(prompt_tokens=3, generated_tokens=len(self._said), time_to_first_token_s=float("nan"))

    def __iter__(self) -> Iterator[Any]:
        for position, word in enumerate(self.words):
            if position == self.interrupted_after:
                raise KeyboardInterrupt
            if isinstance(word, str):
                self._said.append(word)
            elif isinstance(word.content, ToolCall):
                self._calls.append(word.content)
            yield self._chunk(word)
        if self.error is not None:
            raise self.error

    def _chunk(self, word: str | ToolCallDelta) -> Any:
        if not self.is_chat:
            assert isinstance(word, str)
            return CompletionResponseStreamChunk(delta=word)
        event = ChatCompletionResponseEvent(event_type=ChatCompletionResponseEventType.progress, delta=word)
        return ChatCompletionResponseStreamChunk(event=event)

    def result(self, timeout: float | None = None) -> CompletionResponse | ChatCompletionResponse:
        if not self._said and not self._calls and not self.cancelled:
            for _ in self:
                pass
        if self.error is not None:
            raise self.error
        message = CompletionMessage(content=self.text, stop_reason=STOP, tool_calls=self._calls)
        response = ChatCompletionResponse if self.is_chat else CompletionResponse
        return response(completion_message=message)

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeWorkbench:
    """Answers each call with the next of its runs."""

    runs: list[FakeRun] = field(default_factory=list)
    config: Any = None
    device: str | None = None
    model: str | None = None
    prompts: list[str] = field(default_factory=list)
    conversations: list[list[Message]] = field(default_factory=list)
    sampling_params: SamplingParams | None = None
    logprobs: LogProbConfig | None = None
    tools: list[ToolDefinition] | None = None
    shields: list[str] | None = None
    served_shields: tuple[str, ...] = ()
    tool_choices: list[ToolChoice | None] = field(default_factory=list)
    response_format: ResponseFormat | None = None
    loaded: list[str | None] = field(default_factory=list)
    load_error: Exception | None = None
    opened: int = 0
    closed: int = 0

    def load(self, model: str | None = None) -> None:
        self.loaded.append(model)
        if self.load_error is not None:
            raise self.load_error

    def says(self, *words: str | ToolCallDelta, **options: Any) -> FakeRun:
        run = FakeRun(words, **options)
        self.runs.append(run)
        return run

    def completion(
        self,
        content: str,
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
    ) -> FakeRun:
        self.prompts.append(content)
        self.model, self.sampling_params, self.logprobs = model, sampling_params, logprobs
        self.response_format = response_format
        return self.runs.pop(0)

    def chat_completion(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        tools: list[ToolDefinition] | None = None,
        tool_choice: ToolChoice | None = None,
        shields: list[str] | None = None,
    ) -> FakeRun:
        self.conversations.append(messages)
        self.shields = shields
        self.model, self.sampling_params = model, sampling_params
        self.tools = tools
        self.tool_choices.append(tool_choice)
        run = self.runs.pop(0)
        run.is_chat = True
        return run

    @property
    def safety(self) -> Self:
        return self

    def get_shield(self, name: str) -> None:
        if name not in self.served_shields:
            raise ShieldNotFoundError(name, self.served_shields)

    def __enter__(self) -> Self:
        self.opened += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> FakeWorkbench:
    """What every command opens in place of the real workbench."""
    fake = FakeWorkbench()

    def open_fake(config: Any, device: str | None = None) -> FakeWorkbench:
        fake.config, fake.device = config, device
        return fake

    monkeypatch.setattr(opening, "open_workbench", open_fake)
    return fake


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run one command line in this process; argparse's way out counts as an exit code too."""

    def run(*argv: str) -> Outcome:
        try:
            code = main(argv)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
