"""Incremental division of a growing text into sentences."""

from __future__ import annotations

import re

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_WIDE_ENDS = "。！？｡"
"""End punctuation of scripts that put no space after it."""
_ENDS = (*".!?…", *_WIDE_ENDS)
_CLOSERS = "\"')]}»”’*_`" + "」』）"
"""Characters that may stand between the end punctuation of a sentence and the space after it."""
_BORDER = re.compile(rf"[\s{_WIDE_ENDS}]")


class SentenceSplitter:
    """Divider of a text that arrives in pieces: `feed` every piece, then `flush` once.

    The sentences concatenate to the text, and are the same for every way of cutting it into pieces. One ends after a
    line break, after end punctuation of East Asian scripts, and before white space that follows other end punctuation.
    A sentence may therefore begin with white space, and an abbreviation may end one; a number such as 3.14 does not.
    """

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> list[str]:
        """Append a piece; return the sentences that it completes."""
        start = len(self._pending)
        self._pending += text
        sentences, begin = [], 0
        for match in _BORDER.finditer(self._pending, start):
            end = self._end(begin, match.start())
            if end is not None:
                sentences.append(self._pending[begin:end])
                begin = end
        self._pending = self._pending[begin:]
        return sentences

    def flush(self) -> str:
        """Return the rest of the text, which may be empty."""
        rest, self._pending = self._pending, ""
        return rest

    def _end(self, begin: int, index: int) -> int | None:
        """Return where the sentence from ``begin`` on ends if the character at ``index`` ends it, else None."""
        if self._pending[index] in _LINE_ENDS or self._pending[index] in _WIDE_ENDS:
            return index + 1
        before = self._pending[begin:index].rstrip(_CLOSERS)
        return index if before.endswith(_ENDS) else None
