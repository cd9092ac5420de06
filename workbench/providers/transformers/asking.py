"""What a request asks for, checked before any work, and then as the engine takes it."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.engine.constraints import Constraint
from workbench.engine.generation import GenerationRequest
from workbench.errors import UnsupportedFieldError
from workbench.prompts.control_tokens import EncodedPrompt
from workbench.prompts.encoding import PromptEncoder
from workbench.protocol import sampling_conflict
from workbench.providers.requests import Request
from workbench.providers.transformers.response_formats import AskedGrammar, asked_grammar
from workbench.providers.transformers.sampling import engine_sampling
from workbench.providers.transformers.served import CausalModel
from workbench.providers.transformers.tool_use import ToolUse, checked_tools


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with its tools and its format as they were understood."""

    request: Request
    grammar: AskedGrammar | None
    """Of its ``response_format``."""
    use: ToolUse

    def prompt(self, encoder: PromptEncoder) -> EncodedPrompt:
        request = self.request
        if request.content is not None:
            return encoder.text_prompt(request.content, request.field)
        return self.use.prompt(encoder, list(request.messages), request.field)

    def constraint(self, served: CausalModel) -> Constraint | None:
        """What the answer has to keep to, compiled for the model; blocks for as long as that takes."""
        grammar = self.grammar or self.use.grammar(served.encoder)
        return served.grammars.compile(grammar.grammar, grammar.field) if grammar else None

    def engine_request(self, prompt: EncodedPrompt, constraint: Constraint | None) -> GenerationRequest:
        params, logprobs = self.request.sampling_params, self.request.logprobs
        return GenerationRequest(
            prompt_ids=prompt.token_ids,
            images=prompt.images,
            sampling=engine_sampling(params),
            max_tokens=params.max_tokens or 0,
            stop_strings=tuple(params.stop or ()),
            alternatives=(logprobs.top_k or 0) if logprobs else 0,
            prompt_logprobs=bool(logprobs and logprobs.prompt),
            constraint=constraint,
        )

    def notes(self, served: CausalModel) -> tuple[str, ...]:
        """What a caller should know of how the request was understood."""
        conflict = sampling_conflict(self.request.sampling_params)
        return tuple(note for note in (conflict, self.use.note(served.encoder)) if note)


def checked(request: Request) -> Asked:
    """Refuses what is wrong or not to be had, before anything is loaded or computed."""
    use = checked_tools(request.tools, request.tool_choice, request.tool_prompt_format)
    if request.response_format is not None and use.tools:
        allowed = "absent where there are tools: an answer in that format could be no call of one"
        raise UnsupportedFieldError("response_format", request.response_format, allowed)
    return Asked(request, asked_grammar(request.response_format), use)
