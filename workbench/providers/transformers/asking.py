"""What a request asks for, checked before any work, and then as the engine takes it."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.engine.constraints import Constraint
from workbench.engine.generation import GenerationRequest
from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.prompts.control_tokens import EncodedPrompt
from workbench.protocol import LogProbConfig, ResponseFormat, SamplingParams, sampling_conflict, validate_sampling
from workbench.protocol.sampling import is_count
from workbench.providers.transformers.response_formats import AskedGrammar, asked_grammar
from workbench.providers.transformers.sampling import engine_sampling
from workbench.providers.transformers.served import CausalModel
from workbench.providers.transformers.tool_use import ToolUse


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to generate, but for its prompt."""

    params: SamplingParams
    logprobs: LogProbConfig | None
    grammar: AskedGrammar | None
    """Of its ``response_format``."""
    use: ToolUse

    def constraint(self, served: CausalModel) -> Constraint | None:
        """What the answer has to keep to, compiled for the model; blocks for as long as that takes."""
        grammar = self.grammar or self.use.grammar(served.encoder)
        return served.grammars.compile(grammar.grammar, grammar.field) if grammar else None

    def request(self, prompt: EncodedPrompt, constraint: Constraint | None) -> GenerationRequest:
        return GenerationRequest(
            prompt_ids=prompt.token_ids,
            images=prompt.images,
            sampling=engine_sampling(self.params),
            max_tokens=self.params.max_tokens or 0,
            stop_strings=tuple(self.params.stop or ()),
            alternatives=(self.logprobs.top_k or 0) if self.logprobs else 0,
            prompt_logprobs=bool(self.logprobs and self.logprobs.prompt),
            constraint=constraint,
        )

    def notes(self, served: CausalModel) -> tuple[str, ...]:
        """What a caller should know of how the request was understood."""
        return tuple(note for note in (sampling_conflict(self.params), self.use.note(served.encoder)) if note)


def checked(
    params: SamplingParams | None,
    logprobs: LogProbConfig | None,
    response_format: ResponseFormat | None,
    use: ToolUse | None = None,
) -> Asked:
    """Refuses what is wrong or not to be had, before anything is loaded or computed."""
    if params is not None:
        validate_sampling(params)
    if logprobs is not None:
        _check_logprobs(logprobs)
    use = use or ToolUse()
    if response_format is not None and use.tools:
        allowed = "absent where there are tools: an answer in that format could be no call of one"
        raise UnsupportedFieldError("response_format", response_format, allowed)
    return Asked(params or SamplingParams(), logprobs, asked_grammar(response_format), use)


def _check_logprobs(logprobs: LogProbConfig) -> None:
    """Its own check once more, because fields can be assigned after construction."""
    if not isinstance(logprobs, LogProbConfig):
        raise InvalidRequestError("logprobs", logprobs, "a LogProbConfig")
    if logprobs.top_k is not None and not is_count(logprobs.top_k):
        raise InvalidRequestError("logprobs.top_k", logprobs.top_k, "a whole number, 0 or above")
