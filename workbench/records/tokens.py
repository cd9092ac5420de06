"""What a run tells about itself beyond the protocol's wire format: tokens, usage, and the facts of a model.

Plain frozen dataclasses that every layer may read: the providers make them, the session keeps them, widgets and
the command line show them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.protocol import SamplingParams, ToolCall


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that stood beside the sampled one at the same position."""

    token_id: int
    text: str
    bytes: bytes
    logprob: float
    """Natural log of its probability under the raw softmax."""
    rank: int
    """1 is the most probable token of the vocabulary."""

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One generated token; a run's records concatenated by ``bytes`` are the run's text."""

    position: int
    """Index among the generated tokens, from 0."""
    token_id: int
    text: str
    """The token decoded alone; U+FFFD stands for bytes that are no whole character."""
    bytes: bytes
    logprob: float
    """Natural log of its probability under the raw softmax; NaN where a remote server does not tell."""
    rank: int
    """1 is the most probable token of the vocabulary; 0 where a remote server does not tell."""
    entropy: float
    """Entropy of the raw distribution at this position in nats; NaN where a remote server does not tell."""
    alternatives: tuple[Alternative, ...] = ()
    """The most probable other tokens, best first; as many as were asked for."""
    elapsed_s: float = 0.0
    """Seconds from the start of the request until the token was sampled."""
    is_special: bool = False
    """A control token of the tokenizer; not part of the run's text."""
    removed_mass: float = 0.0
    """Probability, under the raw softmax, of the tokens that the asked format did not allow here."""
    is_forced: bool = False
    """The asked format left no other text, so the token was not sampled."""

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)

    @property
    def surprisal_bits(self) -> float:
        """Minus log2 of the probability."""
        return -self.logprob / math.log(2)


@dataclass(frozen=True, slots=True)
class CallAttempt:
    """A tool call that a model has begun to write."""

    status: str
    """How far the reading has come: ``started``, ``in_progress``, ``success`` or ``failure``."""
    text: str
    """Of it so far, as the model wrote it."""
    call: ToolCall | None = None
    """What was read, with ``success``."""


@dataclass(frozen=True, slots=True)
class CallStep:
    """What one generated token was to the tool calls of its answer."""

    position: int
    token_id: int
    text: str
    start_probability: float
    """Raw probability that a call begins with the token here; NaN inside a call, and where nobody tells."""
    is_exact: bool
    """Whether that is over the whole vocabulary; else it is a lower bound, over the recorded alternatives."""
    parse_state: str
    """``text`` outside of calls; of a call ``started`` at its first token, ``in_progress``, and at its last one
    ``success`` or ``failure``."""
    removed_mass: float
    """As in `TokenRecord`, and so is what follows."""
    is_forced: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts and timings of one run, growing while it runs."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Tokens, of the prompt or kept of another run, whose keys and values came from the prefix cache."""
    generated_tokens: int = 0
    """Those that this run added; the ones that it kept of another run are not among them."""
    time_to_first_token_s: float | None = None
    """Seconds from the request to its first token, queueing and loading of the model included."""
    decode_tokens_per_s: float | None = None
    """Tokens after the first, divided by the time they took; None until there are two."""
    kept_tokens: int = 0
    """With which the answer began, because another run had generated them."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is before its first token."""

    stage: Literal["loading", "reading"]
    """``loading`` the model, counted in bytes of memory, or ``reading`` the prompt, counted in tokens."""
    done: int | None = None
    """None where nobody counts."""
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PromptToken:
    """One token of a prompt."""

    token_id: int
    text: str
    """The token decoded alone; U+FFFD stands for bytes that are no whole character."""
    bytes: bytes
    is_control: bool
    """Placed by the template or the tokenizer; whatever looks like one in a message is not."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model would be given, exactly."""

    model: str
    text: str
    tokens: tuple[PromptToken, ...]
    tool_syntax: str | None = None
    """How the model would write a call; None for a text to continue, or without tools."""
    template_sha256: str | None = None
    """Of the chat template; None for a text to continue."""

    def __repr__(self) -> str:
        """Counts, then the text with every control token in double brackets, so that look-alikes stand out."""
        control = sum(token.is_control for token in self.tokens)
        facts = [f"{len(self.tokens)} tokens", f"{control} of them control tokens"]
        facts += [f"tools as {self.tool_syntax}"] if self.tool_syntax else []
        facts += [f"template {self.template_sha256[:12]}"] if self.template_sha256 else []
        spelled = (f"⟦{token.text}⟧".encode() if token.is_control else token.bytes for token in self.tokens)
        return f"<Prompt for {self.model}: {', '.join(facts)}>\n{b''.join(spelled).decode(errors='replace')}"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The facts of one served model, known before it is loaded; None where nobody knows."""

    identifier: str
    provider_id: str
    provider_type: str
    source: str
    """Catalog name, folder or hub id that the weights come from."""
    kind: str = "causal"
    """``causal`` (text generation) or ``embedding``."""
    architecture: str | None = None
    parameters: int | None = None
    precision: str | None = None
    """``float32``, ``bf16``, ``fp8``, ``int8`` or ``int4``."""
    device: str | None = None
    context_length: int | None = None
    has_chat_template: bool = False
    reads_images: bool = False
    """Whether messages of the user may hold images."""
    chat_template: str | None = field(default=None, repr=False)
    """The model's own template as it stands; several by name as JSON."""
    template_sha256: str | None = None
    """Of the template; it tells whether a model still asks as it did."""
    tool_syntax: str | None = None
    """How the loaded model's calls are written: ``tool_call_tag``, ``json`` and so on where its template has its own
    way, ``tool_prompt_format`` where the request decides."""
    licence: str | None = None
    sampling_defaults: dict[str, Any] | None = None
    """What the folder advises, as `SamplingParams` takes it: ``SamplingParams(**card.sampling_defaults)``. It is never
    applied by itself."""
    switched_off: tuple[str, ...] = ()
    """What the loaded model was found unable to do: ``chunks``, ``crop``, ``copy``, ``keep``, ``embeddings``."""
    notes: tuple[str, ...] = ()
    """The same and what else one should know of it, in sentences."""
    loaded: bool = False
    memory_bytes: int | None = None
    """What the loaded model holds now."""
    predicted_memory_bytes: int | None = None
    """What loading it is expected to take."""
    memory_limit_bytes: int | None = None
    """The container's or the machine's limit."""


@dataclass(frozen=True, slots=True, eq=False)
class SamplingStage:
    """The distribution after one step of the sampling chain."""

    name: str
    """``raw``, ``penalty``, ``grammar``, ``temperature``, ``top_k`` or ``top_p``."""
    probabilities: NDArray[np.float64]
    """Of every token by its id, shape (vocab,); 0 for those that were cut."""
    kept: int
    """Tokens that are still possible."""
    removed_mass: float
    """Probability, in the stage before, of what this one cut."""


@dataclass(frozen=True, slots=True, eq=False)
class SamplingTrace:
    """How a token was chosen, or would have been under other parameters."""

    stages: tuple[SamplingStage, ...]
    number: float | None
    """The random number of the draw, from 0 to below 1; None where the choice was greedy or forced."""
    token_id: int
    text: Callable[[int], str]
    """A token's text by its id."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptPosition:
    """All that a generated token was chosen from: enough to make the choice again without its model."""

    logits: NDArray[np.float32]
    """Raw, shape (vocab,)."""
    number: float | None
    """The random number of the draw; None where none was drawn."""
    seen_ids: tuple[int, ...] = ()
    """Tokens of the prompt and the text before, on which the repetition penalty falls."""
    allowed: NDArray[np.bool_] | None = None
    """What a grammar left to choose from, shape (vocab,); None without one."""
    is_forced: bool = False
    """The grammar left no choice."""


class Inspector(Protocol):
    """Answers questions about a run's past positions, without computing the model again."""

    def logprobs(self, position: int) -> NDArray[np.float32]:
        """The raw distribution at a generated position, by token id, shape (vocab,)."""

    def trace(self, position: int, sampling_params: SamplingParams | None, number: float | None) -> SamplingTrace:
        """The sampling chain there; with other parameters or another random number if given."""

    def text(self, token_id: int) -> str:
        """A token's text."""

    def kept(self, position: int) -> KeptPosition:
        """What the other answers are made of, for whoever writes it down."""


@dataclass(frozen=True, slots=True)
class Score:
    """How probable a given continuation is."""

    text: str
    tokens: tuple[TokenRecord, ...]

    @property
    def logprob(self) -> float:
        """Sum over the tokens, in nats."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def logprob_per_token(self) -> float:
        """Length-normalised: the mean over the tokens."""
        return self.logprob / len(self.tokens)

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)
