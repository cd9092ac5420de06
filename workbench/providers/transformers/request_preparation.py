"""Request preparation: checks before any work, then conversion to a request of the engine."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.engine.constraints import Constraint
from workbench.engine.detokenizer import Vocabulary
from workbench.engine.requests import GenerationRequest
from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.prompts.control_tokens import EncodedPrompt
from workbench.prompts.encoding import PromptEncoder
from workbench.protocol import sampling_conflict
from workbench.providers.requests import Request
from workbench.providers.transformers.edits import point_edits
from workbench.providers.transformers.response_formats import AnswerGrammar, answer_grammar, cut_note
from workbench.providers.transformers.sampling import engine_sampling
from workbench.providers.transformers.served import CausalModel
from workbench.providers.transformers.tokens import token_stats
from workbench.providers.transformers.tool_use import ToolUse, checked_tools
from workbench.providers.transformers.watching import watch_of
from workbench.records import AnswerPrefix


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A checked request, with its tools and its response format resolved."""

    request: Request
    grammar: AnswerGrammar | None
    """Grammar of ``response_format``; None if the request has none."""
    use: ToolUse

    def prompt(self, encoder: PromptEncoder) -> EncodedPrompt:
        request = self.request
        if request.content is not None:
            return encoder.text_prompt(request.content, request.field)
        return self.use.prompt(encoder, list(request.messages), request.field)

    def constraint(self, served: CausalModel) -> Constraint | None:
        """Return the constraint on the answer, compiled for the model; blocks during compilation."""
        grammar = self.answer_grammar(served)
        return served.grammars.compile(grammar.grammar, grammar.field) if grammar else None

    def answer_grammar(self, served: CausalModel) -> AnswerGrammar | None:
        """Return the grammar of the response format, or else of the tool calls; None if there is neither."""
        return self.grammar or self.use.grammar(served.encoder)

    def engine_request(
        self, served: CausalModel, prompt: EncodedPrompt, constraint: Constraint | None
    ) -> GenerationRequest:
        params, logprobs = self.request.sampling_params, self.request.logprobs
        answer_prefix, vocabulary = self.request.answer_prefix or AnswerPrefix(), served.engine.model.vocabulary
        _check_same_tokens(answer_prefix, vocabulary)
        return GenerationRequest(
            prompt_ids=prompt.token_ids,
            images=prompt.images,
            sampling=engine_sampling(params, served.engine.model.decoder.vocab_size),
            max_tokens=params.max_tokens or 0,
            stop_strings=tuple(params.stop or ()),
            alternatives=(logprobs.top_k or 0) if logprobs else 0,
            # The prefix of another run includes its prompt logprobs.
            prompt_logprobs=bool(logprobs and logprobs.prompt and not answer_prefix.prompt_tokens),
            constraint=constraint,
            kept=tuple(map(token_stats, answer_prefix.kept)),
            given_ids=answer_prefix.given_ids,
            edits=point_edits(self.request.edits, served.engine.model.decoder),
            watches=tuple(
                watch_of(one, self.use.parser(served.encoder, prompt) if one.tool_call else None, vocabulary)
                for one in self.request.breakpoints
            ),
        )

    def notes(self, served: CausalModel) -> tuple[str, ...]:
        """Return notes for the caller about the interpretation of the request."""
        conflict = sampling_conflict(self.request.sampling_params)
        grammar_notes = self.grammar.notes if self.grammar else ()
        return (*([conflict] if conflict else []), *grammar_notes, *self.use.notes(served.encoder))

    def late_note(self, text: str, *, is_cut: bool) -> str | None:
        """Return a note about an answer that has ended; None if there is nothing to report."""
        if self.grammar is not None:
            return self.grammar.late_note(text, is_cut=is_cut)
        return cut_note("tools") if is_cut and self.use.must_call else None


def prepare(request: Request) -> PreparedRequest:
    """Check a request before anything is loaded or computed.

    Raises:
        InvalidRequestError, UnsupportedFieldError: a field is invalid or contradicts another.
    """
    use = checked_tools(
        request.tools, request.tool_choice, request.tool_prompt_format, parallel=request.parallel_tool_calls
    )
    if request.response_format is not None and use.tools:
        allowed = "absent when tools are given: an answer in that format could not be a tool call"
        raise UnsupportedFieldError("response_format", request.response_format, allowed)
    for index, breakpoint_ in enumerate(request.breakpoints):
        if breakpoint_.tool_call and not use.tools:
            raise InvalidRequestError(f"breakpoints[{index}].tool_call", True, "absent unless tools are given")
    return PreparedRequest(request, answer_grammar(request.response_format), use)


def _check_same_tokens(answer_prefix: AnswerPrefix, vocabulary: Vocabulary) -> None:
    """Raise unless the kept tokens are the vocabulary's: another model may since have taken the name."""
    for token in answer_prefix.kept:
        if vocabulary.bytes(token.token_id) != token.bytes:
            allowed = "that of a run of the model that is now served under this name"
            raise InvalidRequestError("position", token.position, allowed)
