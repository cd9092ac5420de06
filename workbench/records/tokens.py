"""Records of runs and models beyond the protocol's wire format: tokens, usage, prompts, scores and model cards.

They are frozen dataclasses; providers create them, and widgets and the command line show them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from workbench.devices import DeviceProof

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.protocol import SamplingParams, ToolCall
    from workbench.records.insides import Insides


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another candidate token at the position of the sampled one."""

    token_id: int
    text: str
    bytes: bytes
    logprob: float
    """Natural log of its probability under the raw softmax."""
    rank: int
    """Rank in the vocabulary, 1 for the most probable token."""

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One generated token; the concatenated ``bytes`` of a run's tokens are its text."""

    position: int
    """Index among the generated tokens, from 0."""
    token_id: int
    text: str
    """The token decoded alone; bytes of an incomplete character become U+FFFD."""
    bytes: bytes
    logprob: float
    """Natural log of its probability under the raw softmax; NaN if a remote server does not report it."""
    rank: int
    """Rank in the vocabulary, 1 for the most probable token; 0 if a remote server does not report it."""
    entropy: float
    """Entropy of the raw distribution at this position in nats; NaN if a remote server does not report it."""
    alternatives: tuple[Alternative, ...] = ()
    """The most probable other tokens in descending order, as many as were requested."""
    elapsed_s: float = 0.0
    """Seconds from the start of the request until the token was sampled."""
    is_special: bool = False
    """Whether it is a control token of the tokenizer, which is not part of the run's text."""
    removed_mass: float = 0.0
    """Raw probability of the tokens that the response format does not allow here."""
    is_forced: bool = False
    """Whether the response format allowed only this token, so that it was not sampled."""

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
    """Parse status: ``started``, ``in_progress``, ``success`` or ``failure``."""
    text: str
    """Text of the call so far, as the model wrote it."""
    call: ToolCall | None = None
    """Parsed call, if the status is ``success``."""


@dataclass(frozen=True, slots=True)
class CallStep:
    """Role of one generated token in the tool calls of its answer."""

    position: int
    token_id: int
    text: str
    start_probability: float
    """Raw probability that a call begins here; NaN inside a call and where it is unknown."""
    is_exact: bool
    """Whether ``start_probability`` covers the whole vocabulary instead of only the recorded alternatives."""
    parse_state: str
    """``text`` outside calls; in a call ``started`` at its first token, then ``in_progress``, and ``success`` or
    ``failure`` at its last token."""
    removed_mass: float
    """Raw probability of the tokens that the response format does not allow here."""
    is_forced: bool
    """Whether the response format allowed only this token."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts and timings of one run, updated while it runs."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Tokens of the prompt, or kept from another run, that were found in the prefix cache."""
    generated_tokens: int = 0
    """Tokens that this run generated, without those kept from another run."""
    time_to_first_token_s: float | None = None
    """Seconds from the request to its first token, including queueing and loading the model."""
    decode_tokens_per_s: float | None = None
    """Tokens after the first, divided by the time they took; None until there are two."""
    kept_tokens: int = 0
    """Tokens kept from another run, with which the answer begins."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of a run before its first token."""

    stage: Literal["loading", "compiling", "reading"]
    """``loading`` (of the model, in bytes of memory), ``compiling`` (of the engine for this processor, once, for a
    minute or two) or ``reading`` (of the prompt, in tokens)."""
    done: int | None = None
    """Bytes or tokens so far; None if they are not counted."""
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PromptToken:
    """One token of a prompt."""

    token_id: int
    text: str
    """The token decoded alone; bytes of an incomplete character become U+FFFD."""
    bytes: bytes
    is_control: bool
    """Whether the template or the tokenizer added it; the same text in a message is not a control token."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Exact prompt of a model."""

    model: str
    text: str
    tokens: tuple[PromptToken, ...]
    tool_syntax: str | None = None
    """Syntax in which the model writes tool calls; None for a completion or without tools."""
    template_sha256: str | None = None
    """SHA-256 of the chat template; None for a completion."""

    def __repr__(self) -> str:
        """Return counts, then the text with control tokens in double brackets, so that they differ from equal text."""
        control = sum(token.is_control for token in self.tokens)
        facts = [f"{len(self.tokens)} tokens", f"{control} of them control tokens"]
        facts += [f"tools as {self.tool_syntax}"] if self.tool_syntax else []
        facts += [f"template {self.template_sha256[:12]}"] if self.template_sha256 else []
        spelled = (f"⟦{token.text}⟧".encode() if token.is_control else token.bytes for token in self.tokens)
        return f"<Prompt for {self.model}: {', '.join(facts)}>\n{b''.join(spelled).decode(errors='replace')}"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Properties of a served model, available before it is loaded; None where unknown."""

    identifier: str
    provider_id: str
    provider_type: str
    source: str
    """Catalog name, folder, GGUF file or hub id of the weights; a plus sign and an adapter's folder may follow."""
    kind: str = "causal"
    """``causal`` (text generation) or ``embedding``."""
    architecture: str | None = None
    parameters: int | None = None
    precision: str | None = None
    """``float32``, ``bf16``, ``fp8``, ``int8`` or ``int4``."""
    device: str | None = None
    """Device that computes the model, such as ``cpu`` or ``cuda:0``."""
    device_why: str | None = field(default=None, repr=False)
    """Reason why that device was chosen."""
    device_proof: DeviceProof | None = field(default=None, repr=False)
    """What the loaded model's device showed beside the CPU; None on the CPU."""
    decoder: str | None = None
    """``fused`` (compiled for the CPU), ``device`` (torch's kernels on its device) or ``general`` (transformers' own
    forward); a precision rounds differently in each, see the engine's documentation. None for models that do not
    generate here."""
    prompt_arithmetic: str | None = field(default=None, repr=False)
    """What the loaded model's fused decoder computes prompts in on this CPU, such as ``bf16 matrix tiles (AMX)``."""
    context_length: int | None = None
    has_chat_template: bool = False
    reads_images: bool = False
    """Whether user messages can contain images."""
    chat_template: str | None = field(default=None, repr=False)
    """The model's own chat template; JSON by name if it has several."""
    template_sha256: str | None = None
    """SHA-256 of the chat template, which shows whether prompts are still rendered in the same way."""
    tool_syntax: str | None = None
    """Syntax of the loaded model's tool calls: ``tool_call_tag``, ``json`` and so on if its template defines one,
    ``tool_prompt_format`` if the request decides."""
    licence: str | None = None
    sampling_defaults: dict[str, Any] | None = None
    """Sampling parameters that the model recommends, as arguments of `SamplingParams`. They are not applied
    automatically: use ``SamplingParams(**card.sampling_defaults)``."""
    switched_off: tuple[str, ...] = ()
    """Features that the loaded model does not support: ``chunks``, ``crop``, ``copy``, ``keep``, ``embeddings``."""
    notes: tuple[str, ...] = ()
    """Notes for the reader, including the unsupported features."""
    loaded: bool = False
    memory_bytes: int | None = None
    """Memory that the loaded model uses now."""
    predicted_memory_bytes: int | None = None
    """Memory that loading it is expected to need."""
    memory_limit_bytes: int | None = None
    """Memory limit of the container or the machine."""
    base: str | None = None
    """Catalog name, folder or hub id of the base model, if an adapter is merged into it."""
    adapter: str | None = None
    """Folder of that LoRA adapter."""
    adapter_rank: int | None = None
    """Rank of the adapter; the largest if it differs between layers."""
    adapted_layers: int | None = None
    """Number of matrices that the adapter updates."""


@dataclass(frozen=True, slots=True, eq=False)
class SamplingStage:
    """Distribution after one step of the sampling chain."""

    name: str
    """Name of a stage in `workbench.sampling_stages`, or ``raw`` or ``grammar``."""
    probabilities: NDArray[np.float64]
    """Probabilities by token id, shape (vocab,); 0 for tokens that were removed."""
    kept: int
    """Number of tokens with a probability above 0."""
    removed_mass: float
    """Probability, before this stage, of the tokens that it removed."""


@dataclass(frozen=True, slots=True, eq=False)
class SamplingTrace:
    """Record of the choice of a token, with the run's parameters or others."""

    stages: tuple[SamplingStage, ...]
    number: float | None
    """Random number of the draw, from 0 to below 1; None if the choice was greedy or forced."""
    token_id: int
    text: Callable[[int], str]
    """Function that returns a token's text by its id."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptPosition:
    """Inputs of the choice of a generated token, which repeat the choice without the model."""

    logits: NDArray[np.float32]
    """Raw logits, shape (vocab,)."""
    number: float | None
    """Random number of the draw; None if none was drawn."""
    seen_ids: tuple[int, ...] = ()
    """Ids of earlier tokens of prompt and answer, to which the repetition penalty applies."""
    allowed: NDArray[np.bool_] | None = None
    """Mask of the tokens that the grammar allows, shape (vocab,); None without a grammar."""
    is_forced: bool = False
    """Whether the grammar left no choice."""
    answer_ids: tuple[int, ...] | None = ()
    """Ids of the answer's earlier tokens, in order, for the frequency and presence penalties; None if unknown."""


class Inspector(Protocol):
    """Access to the past positions of a run, without running the model again."""

    def logprobs(self, position: int) -> NDArray[np.float32]:
        """Return the raw logprobs at a generated position by token id, shape (vocab,)."""

    def trace(self, position: int, sampling_params: SamplingParams | None, number: float | None) -> SamplingTrace:
        """Return the sampling chain at a position, with other parameters or another random number if given."""

    def text(self, token_id: int) -> str:
        """Return a token's text."""

    def kept(self, position: int) -> KeptPosition:
        """Return the data from which the other results can be recomputed, for recording."""

    @property
    def insides(self) -> Insides | None:
        """Access to the numbers inside the model; None if it is not in this process."""


@dataclass(frozen=True, slots=True)
class Score:
    """Probability of a continuation of a prompt."""

    text: str
    tokens: tuple[TokenRecord, ...]

    @property
    def logprob(self) -> float:
        """Sum of the tokens' logprobs, in nats."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def logprob_per_token(self) -> float:
        """Mean of the tokens' logprobs (length-normalised), in nats."""
        return self.logprob / len(self.tokens)

    @property
    def probability(self) -> float:
        return math.exp(self.logprob)
