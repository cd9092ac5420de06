"""A session with no model: the words are fixed, the numbers are reckoned from them, and a thread emits the tokens."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.unit.widgets.fake_insides import SIZE, FakeInsides
from tests.unit.widgets.fake_trace import fake_logprobs, fake_trace
from workbench.analysis.tool_call_steps import Openers, call_steps
from workbench.errors import (
    InsufficientMemoryError,
    InvalidRequestError,
    ModelNotFoundError,
    UnknownModelError,
    UnsupportedFieldError,
)
from workbench.prompts.tools.from_functions import tool_definitions
from workbench.protocol import (
    ChatCompletionRequest,
    CompletionMessage,
    CompletionRequest,
    CompletionResponse,
    Edit,
    LogProbConfig,
    Message,
    ModelDefWithProvider,
    Provider,
    RunConfig,
    SamplingParams,
    StopReason,
    ToolCall,
    ToolChoice,
    ToolDefinition,
)
from workbench.providers.capabilities import Capabilities
from workbench.providers.requests import Request
from workbench.records import (
    Alternative,
    Breakpoint,
    CallAttempt,
    CallStep,
    FoundModel,
    KeptPosition,
    ModelCard,
    Prompt,
    PromptToken,
    RunProgress,
    RunState,
    SamplingTrace,
    TokenRecord,
    Usage,
)
from workbench.session.continuation import branched, edited, extended, repeated
from workbench.session.conversation import AnswerChoice, Conversation, function_tools
from workbench.session.reading import reading_request
from workbench.session.run_insides import RunInsides
from workbench.session.run_inspection import RunInspection
from workbench.widgets.wire.run import steps_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANSWER = (
    "The sky is often considered to be the darkest and most blue, but at a certain point, the human eye only sees "
    "two colors of light: blue and red. It takes light in that specific spectrum of color to be perceived by our eyes."
)
_NUMBERS = itertools.count(101)
"""Of runs that come of others."""
_UNKNOWN: dict[str, Any] = {"logprob": math.nan, "rank": 0, "entropy": math.nan, "alternatives": ()}
_OTHERS = [" the", " a", " blue", " of", " primary", " distinct", " different"]


def token(position: int, text: str, *, alternatives: int = 5, raw: bytes | None = None) -> TokenRecord:
    """A record whose numbers depend on its place and text alone."""
    seed = (sum(map(ord, text)) * 7 + position * 13) % 101
    logprob = -0.02 - 5.2 * (seed / 100) ** 3
    left = 1.0 - math.exp(logprob)
    others = tuple(
        Alternative(1000 + k, other, other.encode(), math.log(max(left, 1e-6) * 0.5 ** (k + 1)), k + 2)
        for k, other in enumerate(_OTHERS[:alternatives])
    )
    data = text.encode() if raw is None else raw
    return TokenRecord(
        position=position,
        token_id=300 + seed * 17,
        text=text,
        bytes=data,
        logprob=logprob,
        rank=1 + seed // 30,
        entropy=0.4 + seed / 30,
        alternatives=others,
    )


def words(text: str) -> list[str]:
    """Pieces that begin with a space, as most vocabularies have them."""
    return [part if i == 0 else " " + part for i, part in enumerate(text.split(" "))]


def fake_prompt(model: str, prompt: Any) -> Prompt:
    """A text by its words, a conversation with a control token at either end of each turn."""
    if isinstance(prompt, str):
        said: list[str] = words(prompt)
    else:
        turns = [
            ["<|im_start|>", message.role, "\n", *words(str(message.content)), "<|im_end|>", "\n"] for message in prompt
        ]
        said = [*itertools.chain.from_iterable(turns), "<|im_start|>", "assistant", "\n"]
    marks = {"<|im_start|>": 1, "<|im_end|>": 2}
    tokens = tuple(
        PromptToken(marks.get(part, 300 + sum(map(ord, part)) % 5000), part, part.encode(), part in marks)
        for part in said
    )
    sha = None if isinstance(prompt, str) else "5d3c" * 16
    return Prompt(model, "".join(said), tokens, template_sha256=sha)


def call_text(call: ToolCall) -> str:
    """A call as a model may write it."""
    return json.dumps({"name": call.tool_name, "parameters": call.arguments})


def _constrained(record: TokenRecord, index: int) -> TokenRecord:
    """A token as under a schema: each third one was the only one that it left."""
    is_forced = index % 3 == 1
    return replace(record, removed_mass=0.9 if is_forced else (index * 37 % 100) / 400, is_forced=is_forced)


class FakeRun(RunInspection, RunInsides):
    """A run like the session's; ``step`` moves it by hand, ``go`` lets a thread move it.

    Its requests are checked, and its branches derived, by the session's own functions.
    """

    reads = False
    progress: RunProgress | None = None
    prompt_tokens: Sequence[TokenRecord] = ()

    def __init__(
        self,
        run_id: str = "run-1",
        texts: Sequence[str] | None = None,
        *,
        prompt: Any = "Hi",
        model: str = "tiny",
        records: Sequence[TokenRecord] | None = None,
        sampling_params: SamplingParams | None = None,
        error: BaseException | None = None,
        text: str | None = None,
        calls: Sequence[ToolCall] = (),
        breakpoints: Sequence[Breakpoint] = (),
        parent: FakeRun | None = None,
        branched_at: int | None = None,
        end: TokenRecord | None = None,
        started: Callable[[FakeRun], None] = lambda _: None,
        is_limited: bool = False,
    ) -> None:
        self.id, self.model, self.prompt = run_id, model, prompt
        self.sampling_params = sampling_params or SamplingParams()
        is_text = isinstance(prompt, str)
        self.request = Request(
            model, prompt if is_text else None, () if is_text else prompt, sampling_params=self.sampling_params
        )
        self.inspector: FakeInspector = FakeInspector(self)
        self.seed = self.sampling_params.seed
        self.state: RunState = "queued"
        self.stop_reason: StopReason | None = None
        self.error: BaseException | None = None
        self.tokens: list[TokenRecord] = []
        self.end: TokenRecord | None = None
        self._end = end
        self.text = ""
        self.parent, self.branched_at = parent, branched_at
        self.breakpoint: Breakpoint | None = None
        self._breakpoints = tuple(breakpoints)
        self._started = started
        """Told of every run that comes of this one."""
        self.call_attempts: list[CallAttempt] = []
        self.notes: tuple[str, ...] = ()
        self.can_pause = True
        self._coming = (
            list(records) if records is not None else [token(i, part) for i, part in enumerate(texts or words(ANSWER))]
        )
        self._words = len(self._coming)
        self._calls = list(calls)
        for call in calls:
            first = len(self._coming)
            self._coming += [_constrained(token(first + i, part), i) for i, part in enumerate(words(call_text(call)))]
        self._records = list(self._coming)
        self._is_limited = is_limited
        """Whether ``max_tokens`` applies; a script is said to its end."""
        self._is_cut = is_limited and 0 < (self.sampling_params.max_tokens or 0) <= len(self._coming)
        if self._is_cut:
            del self._coming[self.sampling_params.max_tokens :]
        self._failure = error
        self._text = text
        self._callbacks: list[Callable[[Any], None]] = []
        self._cancelled = threading.Event()
        self._ended = threading.Event()
        self._resumed = threading.Event()
        self._resumed.set()
        if branched_at:
            self.tokens, self._coming = self._coming[:branched_at], self._coming[branched_at:]
            self._read()

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    @property
    def usage(self) -> Usage:
        kept = self.branched_at or 0
        count = 0 if self.reads else len(self.tokens) - kept
        return Usage(48, 36 + kept, count, 0.034 if count else None, 92.0 if count > 1 else None, kept)

    @property
    def parts(self) -> list[str | CallAttempt]:
        return [self.text, *self.call_attempts]

    @property
    def subscribers(self) -> int:
        return len(self._callbacks)

    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        if self.done:
            callback(self)
        return lambda: self._unsubscribe(callback)

    def _unsubscribe(self, callback: Callable[[Any], None]) -> None:
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def step(self, count: int = 1) -> None:
        """Emit that many tokens, unless it is paused; the run ends after the last."""
        for _ in range(count):
            if self.done or not (self._resumed.is_set() or self._cancelled.is_set()):
                return
            if self._cancelled.is_set() or not self._coming:
                self.finish("cancelled" if self._cancelled.is_set() else "failed" if self._failure else "finished")
                return
            self.state = "running"
            record = self._coming.pop(0)
            self.tokens.append(record)
            self._read()
            self._tell()
            if self._coming and (hits := [one for one in self._breakpoints if _is_at(one, record, self.text)]):
                self._pause(hits[0])

    def finish(self, state: RunState = "finished") -> None:
        if state == "finished":
            self.end = self._end
            self.text = self._said().decode("utf-8", "replace") if self._text is None else self._text
            ended_by = StopReason.end_of_message if self._calls else StopReason.end_of_turn
            ended_by = StopReason.out_of_tokens if self._is_cut else ended_by
            self.stop_reason = None if self.reads else ended_by
        if state == "failed":
            self.error = self._failure
        self.state, self.breakpoint = state, None
        self._ended.set()
        self._tell()

    def go(self, tokens_per_s: float) -> None:
        """Emit from a thread."""

        def emit() -> None:
            while not self.done:
                self.step()
                self._cancelled.wait(1 / tokens_per_s) if tokens_per_s < 1000 or not self._resumed.is_set() else None

        threading.Thread(target=emit, name="fake-run", daemon=True).start()

    def cancel(self) -> None:
        self._cancelled.set()

    def pause(self) -> None:
        self._check_pausable()
        self._pause(None)

    def resume(self) -> None:
        self._check_pausable()
        if self.state == "paused":
            self.state, self.breakpoint = "running", None
            self._tell()
        self._resumed.set()

    def branch(
        self, position: int, token_id: int | None = None, *, sampling_params: SamplingParams | None = None
    ) -> FakeRun:
        """Return a run with the same tokens, except the one at the position if another is given."""
        self._check_generates("branch")
        request = branched(self, position, token_id, sampling_params)
        records = list(self._records)
        if token_id is not None:
            records[position] = _in_place_of(records[position], token_id)
        return self._new(records, request.sampling_params, self, position)

    def extend(self, max_tokens: int | None = None) -> FakeRun:
        self._check_generates("extend")
        params = extended(self, max_tokens).sampling_params
        return self._new(list(self._records), params, self, len(self.tokens))

    def again(self, seed: int | None = None) -> FakeRun:
        params = repeated(self, seed).sampling_params
        return self._new(list(self._records), params, self.parent, self.branched_at)

    def edit(self, *edits: Edit, keep_tokens: bool = False, sampling_params: SamplingParams | None = None) -> FakeRun:
        """Return a run that answers with other words from its third token on, or with other numbers."""
        request = edited(self, edits, keep_tokens=keep_tokens, sampling_params=sampling_params)
        shifted = [replace(one, logprob=one.logprob - 0.1 * (one.position % 5)) for one in self._records]
        records = shifted if keep_tokens else [*self._records[:2], *(_renamed(one) for one in self._records[2:])]
        run = self._new(records, request.sampling_params, self, None)
        run.request = request
        return run

    def _check_generates(self, field: str) -> None:
        if self.reads:
            raise UnsupportedFieldError(field, self.id, "used on a run that generates")

    def _check_pausable(self) -> None:
        if not self.can_pause:
            raise UnsupportedFieldError("model", self.model, "one whose provider offers pause")

    def _new(
        self, records: Sequence[TokenRecord], params: SamplingParams, parent: FakeRun | None, branched_at: int | None
    ) -> FakeRun:
        run = FakeRun(
            f"run-{next(_NUMBERS)}",
            records=records[: self._words],
            calls=self._calls,
            prompt=self.prompt,
            model=self.model,
            sampling_params=params,
            breakpoints=self._breakpoints,
            parent=parent,
            branched_at=branched_at,
            started=self._started,
            is_limited=self._is_limited,
        )
        self._started(run)
        return run

    def _pause(self, at: Breakpoint | None) -> None:
        if not self.done and self._resumed.is_set():
            self.state, self.breakpoint = "paused", at
            self._resumed.clear()
            self._tell()

    def wait(self, timeout: float | None = None) -> bool:
        return self._ended.wait(timeout)

    def wait_for_pause(self, timeout: float | None = None) -> bool:
        deadline = time.monotonic() + (timeout or math.inf)
        while not self.done and self.state != "paused" and time.monotonic() < deadline:
            self._ended.wait(0.001)
        return self.state == "paused"

    def result(self, timeout: float | None = None) -> CompletionResponse:
        if not self.wait(timeout):
            raise TimeoutError
        if self.error is not None:
            raise self.error
        reason = StopReason.out_of_tokens if self.stop_reason is None else self.stop_reason
        calls = [attempt.call for attempt in self.call_attempts if attempt.call is not None]
        message = CompletionMessage(content=self.text, stop_reason=reason, tool_calls=calls)
        return CompletionResponse(completion_message=message)

    @property
    def call_openers(self) -> Openers:
        return Openers(call_text(self._calls[0])[:8] if self._calls else "")

    def call_steps(self) -> list[CallStep]:
        steps = call_steps(list(self.tokens), self.parts, self.call_openers, None)
        return [
            replace(
                step, start_probability=0.9 / (1 + abs(step.position - self._words)), is_exact=step.position % 2 == 0
            )
            if math.isfinite(step.start_probability)
            else step
            for step in steps
        ]

    def render(self) -> Prompt:
        return fake_prompt(self.model, self.prompt)

    def _said(self) -> bytes:
        return b"".join(item.bytes for item in self.tokens[: self._words] if not item.is_special)

    def _read(self) -> None:
        self.text = self._said().decode("utf-8", "ignore")
        written, self.call_attempts = "".join(item.text for item in self.tokens[self._words :]), []
        for call in self._calls:
            part, written = written[: len(call_text(call))], written[len(call_text(call)) :]
            is_whole = part == call_text(call)
            if part:
                self.call_attempts.append(
                    CallAttempt("success" if is_whole else "in_progress", part, call if is_whole else None)
                )

    def _tell(self) -> None:
        for callback in list(self._callbacks):
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - as a run of the session does
                self._unsubscribe(callback)


class FakeInspector:
    """Distributions of a fake run, made from the records of its tokens."""

    def __init__(self, run: FakeRun) -> None:
        self._run = run
        self._insides = FakeInsides(run, [part.text for part in fake_prompt(run.model, run.prompt).tokens])

    @property
    def insides(self) -> FakeInsides | None:
        return self._insides if self._run.tokens else None

    def logprobs(self, position: int) -> NDArray[np.float32]:
        return fake_logprobs(self._step(position))

    def trace(
        self, position: int, sampling_params: SamplingParams | None = None, number: float | None = None
    ) -> SamplingTrace:
        return fake_trace(self._step(position), self._run.sampling_params, sampling_params, number)

    def text(self, token_id: int) -> str:
        return f" w{token_id}"

    def kept(self, position: int) -> KeptPosition:
        return KeptPosition(self.logprobs(position), None)

    def _step(self, position: int) -> TokenRecord:
        steps = steps_of(self._run)
        if position >= len(steps):
            raise InvalidRequestError("position", position, f"below {len(steps)}, the number of generated tokens")
        return steps[position]


def _is_at(one: Breakpoint, record: TokenRecord, text: str) -> bool:
    if one.entropy_above is not None:
        return record.entropy > one.entropy_above
    return one.text is not None and text.endswith(one.text)


def _renamed(record: TokenRecord) -> TokenRecord:
    """The token with a longer word."""
    return replace(token(record.position, f"{record.text}n"), alternatives=record.alternatives)


def _in_place_of(record: TokenRecord, token_id: int) -> TokenRecord:
    """The alternative with that id as the one that was sampled."""
    other = next((one for one in record.alternatives if one.token_id == token_id), None)
    if other is None:
        return record
    swapped = Alternative(record.token_id, record.text, record.bytes, record.logprob, record.rank)
    return replace(
        record,
        token_id=other.token_id,
        text=other.text,
        bytes=other.bytes,
        logprob=other.logprob,
        rank=other.rank,
        alternatives=(swapped, *(one for one in record.alternatives if one is not other)),
    )


class FakeSession:
    """Answers every prompt with the same words, at a fixed speed; in chats with the next of ``calls`` first.

    ``texts`` and ``calls`` are a script, which is said to its end; other answers have at most ``max_tokens`` tokens.
    """

    def __init__(
        self,
        texts: Sequence[str] | None = None,
        *,
        tokens_per_s: float = 200.0,
        error: BaseException | None = None,
        calls: Sequence[Sequence[ToolCall]] = (),
    ) -> None:
        self.runs: list[FakeRun] = []
        self.calls: list[dict[str, Any]] = []
        self._is_script = texts is not None
        self._texts = list(texts) if texts is not None else words(ANSWER)
        self._tokens_per_s = tokens_per_s
        self._error = error
        self._calls = [list(answer) for answer in calls]
        self.cannot_pause: set[str | None] = set()
        self.measures_prompts = False
        self.without_template: set[str | None] = set()
        self._loaded = False
        self._served = [
            _served("smollm2-135m-instruct", "local"),
            _served("all-minilm-l6-v2", "local"),
            _served("smollm2-135m-instruct", "exact"),
        ]
        self.devices_here = ["cpu"]
        self.downloads: list[tuple[str, int, int | None]] = []
        """Progress that a registration reports."""
        self.may_register = threading.Event()
        """Cleared by a test that wants to look while a registration is under way."""
        self.may_register.set()

    def completion(
        self,
        content: str,
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        breakpoints: Sequence[Breakpoint] = (),
    ) -> FakeRun:
        return self._run("completion", content, model, sampling_params, logprobs, breakpoints)

    def chat_completion(
        self,
        messages: list[Message],
        *,
        model: str | None = None,
        sampling_params: SamplingParams | None = None,
        logprobs: LogProbConfig | None = None,
        breakpoints: Sequence[Breakpoint] = (),
        shields: list[str] | None = None,
    ) -> FakeRun:
        run = self._run("chat_completion", messages, model, sampling_params, logprobs, breakpoints)
        self.calls[-1] |= {"shields": shields} if shields else {}
        return run

    def reading(self, text: str, *, model: str | None = None, alternatives: int = 5) -> FakeRun:
        """Its words are its tokens, of which the first has no probability; none comes where the session fails."""
        reading_request(model or "", text, alternatives)
        self.card(model)
        self.calls.append({"method": "reading", "prompt": text, "model": model, "alternatives": alternatives})
        first, *rest = [token(i, word, alternatives=alternatives) for i, word in enumerate(words(text))]
        run = FakeRun(
            f"run-{len(self.runs) + 1}",
            records=[] if self._error else [replace(first, **_UNKNOWN), *rest],
            prompt=text,
            model=model or "smollm2-135m-instruct",
            error=self._error,
        )
        run.reads, run.can_pause = True, False
        self._start(run)
        return run

    def steering_vector(
        self, towards: Sequence[str], away: Sequence[str], *, point: str, model: str | None = None
    ) -> NDArray[np.float32]:
        """A vector that depends on the texts' lengths alone."""
        self.card(model)
        self.calls.append({"method": "steering_vector", "towards": list(towards), "away": list(away), "point": point})
        return np.full(SIZE, sum(map(len, towards)) - sum(map(len, away)), np.float32)

    def conversation(
        self, *, tools: Sequence[Any] | None = None, tool_choice: AnswerChoice = ToolChoice.auto
    ) -> Conversation:
        def ask(
            messages: list[Message], tool_choice: ToolChoice | None, *, offers_tools: bool = True, **settings: Any
        ) -> Any:
            run = self.chat_completion(messages, **settings)
            self.calls[-1]["tool_choice"] = tool_choice if offers_tools else "none"
            return run

        functions = function_tools(list(tools or ()), skip_definitions=True)
        described = [_described(one) for one in tool_definitions(list(tools or ())) or ()]
        return Conversation(ask, functions, tool_choice=tool_choice, tools=described)

    @property
    def config(self) -> RunConfig:
        providers = [
            Provider(provider_id=name, provider_type="inline::transformers", config={}) for name in ("local", "exact")
        ]
        return RunConfig(
            built_at=datetime(2026, 1, 1, tzinfo=UTC), image_name="fake", providers={"inference": providers}
        )

    def list_models(self) -> list[ModelDefWithProvider]:
        return list(self._served)

    def models_found(self) -> list[FoundModel]:
        """One that can be served, one that is too large, and a GGUF file."""
        folder: dict[str, Any] = {"architecture": "LlamaForCausalLM", "precision": "BF16"}
        return [
            FoundModel(
                "tiny",
                "model_folders",
                "safetensors",
                "/home/me/models/tiny",
                **folder,
                parameters=134_515_008,
                size_bytes=269_000_000,
                fits_in="float32",
                memory_bytes=538_000_000,
            ),
            FoundModel(
                "big-8b",
                "Hugging Face",
                "safetensors",
                "/home/me/hub/big",
                **folder,
                parameters=8_030_000_000,
                size_bytes=16_100_000_000,
                fits_in="int4",
                memory_bytes=6_200_000_000,
            ),
            FoundModel(
                "llama3.2:1b",
                "Ollama",
                "gguf",
                "/home/me/.ollama/models/blobs/sha256-74",
                architecture="mamba",
                parameters=1_240_000_000,
                precision="Q8_0",
                size_bytes=1_321_000_000,
                fits_in="Q8_0",
                memory_bytes=1_321_000_000,
                problem="GGUF files of mamba models cannot be served yet",
            ),
        ]

    def register_model(
        self,
        identifier: str,
        source: str | None = None,
        *,
        provider_id: str | None = None,
        precision: str | None = None,
        device: str | None = None,
        progress: Callable[[str, int, int | None], None] | None = None,
    ) -> ModelDefWithProvider:
        if provider_id not in (None, "local", "exact"):
            raise InvalidRequestError("provider_id", provider_id, "local or exact")
        for report in self.downloads:
            if progress is not None:
                progress(*report)
        assert self.may_register.wait(60), "the test never let the registration go on"
        if "/" in (source or identifier):
            raise UnknownModelError(f"there is no folder {source or identifier}")
        if "70b" in (source or identifier):
            raise InsufficientMemoryError(f"{identifier} in int4 needs 38,000 MiB; choose a smaller model")
        made = _served(identifier, provider_id or "local", source, precision, device)
        if made not in self._served:
            self._served.append(made)
        return made

    def devices(self, provider_id: str) -> list[str]:
        return self.devices_here

    def unregister_model(self, identifier: str) -> None:
        provider, _, name = identifier.rpartition("/")
        for one in self._served:
            if one.identifier == name and provider in ("", one.provider_id):
                self._served.remove(one)
                return
        raise ModelNotFoundError(identifier, [one.identifier for one in self._served])

    def capabilities(self, model: str | None = None) -> Capabilities:
        """All can pause but those that ``cannot_pause`` names."""
        self.card(model)
        return Capabilities(pause=model not in self.cannot_pause, prompt_logprobs=self.measures_prompts)

    def card(self, model: str | None = None) -> ModelCard:
        if not isinstance(model, str | None):
            raise InvalidRequestError("model", model, "the name of a served model")
        named, _, identifier = (model or "smollm2-135m-instruct").rpartition("/")
        found = [one for one in self._served if one.identifier == identifier and named in ("", one.provider_id)]
        if not found:
            raise ModelNotFoundError(identifier, [one.identifier for one in self._served])
        provider = found[0].provider_id
        if identifier == "all-minilm-l6-v2":
            return ModelCard(identifier, provider, "inline::transformers", identifier, kind="embedding")
        is_exact = provider == "exact"
        return ModelCard(
            identifier,
            provider,
            "inline::transformers",
            found[0].llama_model,
            architecture="LlamaForCausalLM",
            parameters=134_515_008,
            precision=found[0].metadata.get("precision") or ("float32" if is_exact else "int4"),
            device=found[0].metadata.get("device") or "cpu",
            context_length=8192,
            has_chat_template=model not in self.without_template,
            template_sha256="5d3c" * 16,
            licence="Apache-2.0",
            loaded=self._loaded and not is_exact,
            memory_bytes=612_000_000 if self._loaded and not is_exact else None,
            predicted_memory_bytes=1_100_000_000 if is_exact else 600_000_000,
            memory_limit_bytes=2_000_000_000,
        )

    def _run(
        self,
        method: str,
        prompt: Any,
        model: str | None,
        sampling_params: SamplingParams | None,
        logprobs: LogProbConfig | None,
        breakpoints: Sequence[Breakpoint] = (),
    ) -> FakeRun:
        if not all(isinstance(one, Breakpoint) for one in breakpoints):
            raise InvalidRequestError("breakpoints", breakpoints, "a list of Breakpoint")
        body: Any = ChatCompletionRequest if method == "chat_completion" else CompletionRequest
        field = "messages" if method == "chat_completion" else "content"
        Request.from_body(
            body.model_construct(model=model, sampling_params=sampling_params, logprobs=logprobs, **{field: prompt})
        )
        call: dict[str, Any] = {
            "method": method,
            "prompt": prompt,
            "model": model,
            "sampling_params": sampling_params,
            "logprobs": logprobs,
        }
        self.calls.append(call | ({"breakpoints": list(breakpoints)} if breakpoints else {}))
        alternatives = 0 if logprobs is None else logprobs.top_k or 0
        calls = self._calls.pop(0) if self._calls and method == "chat_completion" else []
        texts = ["Let", " me", " see."] if calls else self._texts
        records = [token(i, text, alternatives=alternatives) for i, text in enumerate(texts)]
        run = FakeRun(
            f"run-{len(self.runs) + 1}",
            records=records,
            prompt=prompt,
            model=model or "smollm2-135m-instruct",
            sampling_params=sampling_params,
            error=self._error,
            calls=calls,
            breakpoints=breakpoints,
            started=self._start,
            is_limited=not self._is_script and not calls,
        )
        run.can_pause = self.capabilities(model).pause
        if logprobs is not None and logprobs.prompt:
            run.prompt_tokens = [token(i, word) for i, word in enumerate(words(prompt))][1:]
        self._loaded = True
        self._start(run)
        return run

    def _start(self, run: FakeRun) -> None:
        self.runs.append(run)
        if self._tokens_per_s:  # else whoever tests moves it by hand
            run.go(self._tokens_per_s)


def _described(tool: ToolDefinition) -> dict[str, Any]:
    """A tool as a session describes it, also one with a name that a real session refuses."""
    parameters = {name: {"type": one.param_type} for name, one in (tool.parameters or {}).items()}
    return {"name": str(tool.tool_name), "description": tool.description or "", "parameters": parameters}


def _served(
    identifier: str,
    provider_id: str,
    source: str | None = None,
    precision: str | None = None,
    device: str | None = None,
) -> ModelDefWithProvider:
    metadata = {name: value for name, value in (("precision", precision), ("device", device)) if value}
    return ModelDefWithProvider(
        identifier=identifier, llama_model=source or identifier, provider_id=provider_id, metadata=metadata
    )


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Wait for another thread; fails loudly when it never comes."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition never came true")
        time.sleep(0.002)
