"""Breakpoints of a run, which the engine checks at each token."""

from __future__ import annotations

from workbench.engine.detokenizer import Vocabulary
from workbench.engine.logprobs import TokenStats
from workbench.engine.requests import Watch
from workbench.prompts.tools.parsing import ToolCallParser
from workbench.protocol import ToolCallDelta, ToolCallParseStatus
from workbench.providers.pausing import TextFinder
from workbench.records import Breakpoint


def watch_of(breakpoint_: Breakpoint, parser: ToolCallParser | None, vocabulary: Vocabulary) -> Watch:
    """Return the engine's watch for a breakpoint.

    Args:
        parser: fresh parser of the answer's calls; only required for a breakpoint at calls.
    """
    if breakpoint_.entropy_above is not None:
        return _EntropyWatch(float(breakpoint_.entropy_above))
    if breakpoint_.text is not None:
        return _TextWatch(breakpoint_.text)
    assert parser is not None, "a breakpoint at calls is refused where there are no tools"
    return _ToolCallWatch(parser, vocabulary)


class _EntropyWatch:
    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def matches(self, stats: TokenStats, text: str) -> bool:  # noqa: ARG002 - the engine passes both
        return stats.entropy > self._threshold


class _TextWatch:
    def __init__(self, text: str) -> None:
        self._finder = TextFinder(text)

    def matches(self, stats: TokenStats, text: str) -> bool:  # noqa: ARG002
        return self._finder.completes(text)


class _ToolCallWatch:
    """Parses the answer's calls as its stream does, but in step with decoding."""

    def __init__(self, parser: ToolCallParser, vocabulary: Vocabulary) -> None:
        self._parser = parser
        self._vocabulary = vocabulary

    def matches(self, stats: TokenStats, text: str) -> bool:
        if stats.token_id in self._vocabulary.special_ids:  # a tag may be a control token, which is no text
            tag = self._vocabulary.text(stats.token_id)
            text = tag if tag in self._parser.tags else text
        return any(
            isinstance(event, ToolCallDelta) and event.parse_status is ToolCallParseStatus.started
            for event in self._parser.feed(text)
        )
