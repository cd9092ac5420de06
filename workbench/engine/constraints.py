"""Grammars that an answer must follow: compiled once, enforced token by token.

A grammar is a JSON schema, a regular expression, or a context-free grammar in llguidance's dialect of Lark. `Grammars`
compiles it for one model's vocabulary; `Constraint.start` returns the state of one request, from which the allowed and
the forced next tokens follow.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from workbench.engine.grammar_trial import trial
from workbench.errors import GenerationError, InvalidRequestError
from workbench.schemas.limits import check_size
from workbench.schemas.schema import JsonSchema

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from torch import Tensor

    from workbench.engine.grammar_endings import ByteState, Endings
    from workbench.engine.loading import LoadedModel

KEPT_GRAMMARS = 64
"""Number of compiled grammars that a model caches; the least recently used are evicted first."""


@dataclass(frozen=True, slots=True)
class JsonSchemaGrammar:
    """JSON that matches a schema, on one line."""

    text: str
    """The schema as JSON."""
    lark: str
    """The schema as a Lark grammar."""

    @classmethod
    def of(cls, schema: object, field: str) -> JsonSchemaGrammar:
        """Convert a schema of Python values; raise `InvalidRequestError` if it cannot be enforced."""
        read = schema if isinstance(schema, JsonSchema) else JsonSchema.of(schema, field)
        return cls(read.text, read.grammar)


@dataclass(frozen=True, slots=True)
class RegexGrammar:
    """A regular expression that matches the whole text; Rust's syntax, without look-around."""

    text: str


@dataclass(frozen=True, slots=True)
class LarkGrammar:
    """A context-free grammar with first rule ``start``; ``%json {...}`` embeds a schema."""

    text: str


Grammar: TypeAlias = JsonSchemaGrammar | RegexGrammar | LarkGrammar


class Grammars:
    """Compiler and cache of one model's grammars; thread-safe.

    When a grammar allows the end, the model may choose one of its end tokens.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._tokenizer = model.tokenizer.backend_tokenizer
        self._vocab_size = model.decoder.vocab_size
        self._end_ids = model.eos_ids
        self._vocabulary: Any = None
        self._endings: Any = None
        self._compiled: OrderedDict[str, Constraint] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, grammar: Grammar, field: str) -> Constraint:
        """Compile a grammar for any number of requests; takes a tenth of a second if it is not cached.

        Args:
            field: the request's field that holds the grammar, for messages.

        Raises:
            InvalidRequestError: the grammar is invalid, cannot be enforced, or is too complex.
            GenerationError: the process that tries it first cannot be started.
        """
        check_size(grammar.text, field)
        source = _source(grammar, field)
        key = hashlib.sha256(f"{type(grammar).__name__}\0{source}".encode()).hexdigest()
        with self._lock:
            if key in self._compiled:
                self._compiled.move_to_end(key)
                return self._compiled[key]
        try:
            failure = trial(source)
        except OSError as error:
            raise GenerationError(f"{field} could not be compiled: no process could be started ({error})") from error
        if failure is not None:
            raise InvalidRequestError(field, grammar.text, f"a simpler grammar: {failure}")
        constraint = self._constraint(grammar, source, field)
        with self._lock:
            self._compiled[key] = constraint
            while len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        return constraint

    def _constraint(self, grammar: Grammar, source: str, field: str) -> Constraint:
        from llguidance import LLMatcher, LLParserLimits

        from workbench.engine.grammar_tokens import grammar_vocabulary

        with self._lock:
            if self._vocabulary is None:
                self._vocabulary, self._endings = grammar_vocabulary(self._tokenizer, self._vocab_size, self._end_ids)
        matcher = LLMatcher(self._vocabulary, source, log_level=0, limits=LLParserLimits(verbose_errors=False))
        if matcher.is_error():
            raise InvalidRequestError(field, grammar.text, f"{_KIND[type(grammar)]} ({_reason(matcher)})")
        over_bytes = partial(self._over_bytes, grammar, source)
        constraint = Constraint(matcher, self._vocab_size, self._end_ids, self._endings, over_bytes)
        try:
            constraint.start().allowed()
        except GenerationError as error:
            raise InvalidRequestError(field, grammar.text, f"a grammar that allows some answer ({error})") from None
        return constraint

    def _over_bytes(self, grammar: Grammar, source: str) -> ByteState:
        from workbench.engine.grammar_endings import literals_in, pattern_of, patterns_in

        literals: tuple[bytes, ...]
        match grammar:
            case RegexGrammar(text):
                patterns, literals = pattern_of(text), ()
            case LarkGrammar(text) | JsonSchemaGrammar(lark=text):
                patterns, literals = patterns_in(text), literals_in(text)
        state: ByteState = self._endings.start(source, patterns, literals)
        return state


_KIND: dict[type, str] = {
    JsonSchemaGrammar: "a JSON schema that can be enforced",
    RegexGrammar: "a regular expression that can be enforced",
    LarkGrammar: "a grammar that can be enforced",
}


class Constraint:
    """A compiled grammar; made by `Grammars.compile`."""

    def __init__(
        self,
        matcher: LLMatcher,
        vocab_size: int,
        end_ids: frozenset[int],
        endings: Endings,
        over_bytes: Callable[[], ByteState],
    ) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._over_bytes = over_bytes
        self._start: ByteState | None = None
        self.endings = endings
        """Search for endings."""
        self.end_ids = end_ids
        """Tokens that end the answer if the grammar allows the end."""

    def start(self) -> GrammarState:
        """Return the state of one request, before its first token."""
        return GrammarState(self, self._matcher.deep_copy(), self._vocab_size)

    def over_bytes(self) -> ByteState:
        """Return the state of the grammar over bytes, before the first one."""
        if self._start is None:
            self._start = self._over_bytes()
        return self._start.copy()


class GrammarState:
    """State of one answer in its grammar; not thread-safe."""

    def __init__(self, constraint: Constraint, matcher: LLMatcher, vocab_size: int) -> None:
        self._constraint = constraint
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._pending: list[int] = []
        """Tokens that the state over bytes has not consumed yet."""
        self._over_bytes: ByteState | None = None

    @property
    def ended(self) -> bool:
        """Whether the answer is complete and only an end token may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def is_whole(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    def forced(self) -> list[int]:
        """Return the tokens that must come next, as the tokenizer would encode them; empty if there is a choice."""
        token_ids: list[int] = self._matcher.compute_ff_tokens()
        return token_ids

    def ending(self, *token_ids: int, room: int) -> list[int] | None:
        """Return the tokens of a short ending after ``token_ids``, or None if none is found.

        Args:
            room: number of tokens that are left; an ending of at most so many need not be the shortest.
        """
        endings = self._constraint.endings
        if self._over_bytes is None:
            self._over_bytes = self._constraint.over_bytes()
        consumed = endings.consume(self._over_bytes, self._pending)
        self._pending.clear()
        state = self._over_bytes.copy()
        if not consumed or not endings.consume(state, token_ids):
            return None
        return endings.shortest(state, room)

    def opens(self, token_id: int) -> bool:
        """Whether a token opens a bracket, after which a long ending may be required."""
        return self._constraint.endings.opens(token_id)

    def allowed(self) -> Tensor:
        """Return which tokens may come next, bool, shape (vocab,).

        Raises:
            GenerationError: no token is allowed, or the grammar became too complex.
        """
        words = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(words, count=self._vocab_size, bitorder="little")
        if not bits.any():  # the end, but the model has no end token
            raise GenerationError("the answer cannot continue under its grammar: the model has no end token")
        return torch.from_numpy(bits.view(np.bool_))

    def consume(self, token_id: int) -> None:
        """Advance by one token.

        Raises:
            GenerationError: the grammar does not allow it, or became too complex.
        """
        self._matcher.consume_token(token_id)
        self._check()
        self._pending.append(token_id)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GenerationError(f"the answer cannot continue under its grammar: {_reason(self._matcher)}")


def _source(grammar: Grammar, field: str) -> str:
    """Return the grammar in llguidance's format."""
    from llguidance import LLMatcher

    match grammar:
        case JsonSchemaGrammar(lark=lark):
            source: str = LLMatcher.grammar_from_lark(lark)
        case RegexGrammar(text):
            if (len(text) - len(text.rstrip("\\"))) % 2:  # it would be read as the empty expression
                raise InvalidRequestError(field, text, "a regular expression; a backslash cannot be its last character")
            source = LLMatcher.grammar_from_regex(text)
        case LarkGrammar(text):
            source = LLMatcher.grammar_from_lark(text)
    return source


def _reason(matcher: LLMatcher) -> str:
    """Return llguidance's error message on one line."""
    message = " ".join(matcher.get_error().split())
    if message.startswith("NoExtensionBias"):
        return "no token in the model's vocabulary fits it"
    return message[:300] or "it allows no text"
