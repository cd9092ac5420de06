"""Bounded reads of the beginning of a file whose lengths and counts cannot be trusted."""

from __future__ import annotations

import os
import stat
import struct
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from workbench.errors import ModelFormatError

LONGEST_HEADER_BYTES = 64 * 2**20
"""Most bytes of a file that count as its header. The largest vocabularies take about 15 MB."""

_CHUNK_BYTES = 2**18
_U64 = struct.Struct("<Q")
_Buffer: TypeAlias = bytes  # in the class, this is the name of a method
_FEW = 64
"""Strings up to this number are skipped one by one; numpy needs longer to start."""
_FOLLOWED = 16
"""Strings at the end of an array that are followed where the others were counted."""
_MANY = 2048
"""Strings that are skipped one by one where numpy found few, so that a search never costs more than what it spares."""


class BoundedFile:
    """Context manager that reads little-endian values from the beginning of a file, in order.

    No more than `LONGEST_HEADER_BYTES` are read in all, and one chunk is in memory. The file is read, not mapped: a
    mapped file that is cut off meanwhile would end the process.

    Args:
        counts_strings: pass arrays of strings by counting their lengths, several times faster than by following them.
            Where a string is empty, longer than 255 bytes or full of zeros, this may end at another place than the
            array; what follows it can then not be read.

    Raises:
        ModelFormatError: the file cannot be opened; each method raises it where the file ends too early.
    """

    def __init__(self, path: Path, *, counts_strings: bool = False) -> None:
        self._path = path
        self._counts_strings = counts_strings
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
                raise ModelFormatError(f"{path} cannot be read: it is not a regular file.")
            self._file: FileIO = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise ModelFormatError(f"{path} cannot be read: {error.strerror}.") from error
        self._end = min(self.size, LONGEST_HEADER_BYTES)
        self._chunk = bytearray(min(_CHUNK_BYTES, self._end))  # reused, since new memory costs more than reading
        self._filled = 0
        self._chunk_start = 0
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes that a header may still have: to the end of the file, or to the limit."""
        return self._end - self.position

    def bytes(self, count: int, what: str) -> bytes:
        """Return the next bytes; ``what`` names them in an error."""
        self.require(count, what)
        start = self._load(count)
        self.position += count
        return _Buffer(memoryview(self._chunk)[start : start + count])

    def ahead(self, most: int) -> _Buffer:
        """Return the next bytes: at least ``most``, or all that a header may still have.

        The position stays; `skip` moves behind what was used.
        """
        start = self._load(min(most, self.left))
        return _Buffer(memoryview(self._chunk)[start : self._filled])

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int | float | bool, ...]:
        """Return the next values in the layout of a `struct.Struct`."""
        self.require(layout.size, what)
        start = self._load(layout.size)
        self.position += layout.size
        return layout.unpack_from(self._chunk, start)

    def u64(self, what: str) -> int:
        """Return the next 8 bytes as an unsigned integer."""
        self.require(8, what)
        start = self._load(8)
        self.position += 8
        number: int = _U64.unpack_from(self._chunk, start)[0]
        return number

    def skip(self, count: int, what: str) -> None:
        """Move on without reading."""
        self.require(count, what)
        self.position += count

    def skip_strings(self, count: int, what: str) -> None:
        """Move behind an array of strings, each with its length in 8 bytes ahead of it."""
        self.require(8 * count, what)
        if self._counts_strings and count > _FEW:
            self._count_strings(count, what)
            return
        while count:
            passed = self._skip_short_strings(count) if count > _FEW else 0
            if passed < _FEW:
                passed += self._walk_strings(min(count - passed, _MANY), what)
            count -= passed

    def require(self, count: int, what: str) -> None:
        """Raise ModelFormatError unless the header may have that many more bytes."""
        if count <= self._end - self.position:
            return
        if self.size > LONGEST_HEADER_BYTES and self.position + count <= self.size:
            raise ModelFormatError(
                f"{self._path} is damaged: {what} would end {self.position + count:,} bytes into the file; the header "
                f"of a model has at most {LONGEST_HEADER_BYTES:,}."
            )
        raise ModelFormatError(
            f"{self._path} is damaged or cut off: {what} would end after byte {self.size:,}, the end of the file. "
            f"Download it again."
        )

    def _load(self, count: int) -> int:
        """Read until the next ``count`` bytes are in the chunk; return where they start there."""
        start = self.position - self._chunk_start
        if start < 0 or start + count > self._filled:
            if count > len(self._chunk):
                self._chunk = bytearray(count)
            try:
                self._file.seek(self.position)
                self._filled = self._file.readinto(self._chunk) or 0
            except OSError as error:
                raise ModelFormatError(f"{self._path} cannot be read: {error.strerror}.") from error
            self._chunk_start, start = self.position, 0
            if self._filled < count:  # cut off since its size was taken
                raise ModelFormatError(f"{self._path} changed while it was read; try again.")
        return start

    def _walk_strings(self, count: int, what: str) -> int:
        """Skip that many strings one by one; return the number."""
        missing = count
        while missing:
            self.require(8, what)
            start = place = self._load(8)
            last = self._filled - 8
            while missing and place <= last:
                place += 8 + _U64.unpack_from(self._chunk, place)[0]
                missing -= 1
            self.skip(place - start, what)
        return count

    def _skip_short_strings(self, count: int) -> int:
        """Skip the strings of 1 to 255 bytes that come next in the chunk; return their number, which may be 0.

        Following the lengths one by one in Python takes 30 ms for a large vocabulary. Instead, all places are found
        that could be the length of a short string: a byte other than zero with seven zeros behind it. They are its
        lengths exactly as far as each leads to the next.
        """
        import numpy as np

        start = self._load(min(_CHUNK_BYTES // 2, self.left))
        data = np.frombuffer(self._chunk, np.uint8, self._filled - start, start)
        zeros = data == 0
        two = zeros[:-1] & zeros[1:]
        four = two[:-2] & two[2:]
        seven = four[1:-3] & four[4:]
        places = np.flatnonzero(seven & ~zeros[: len(seven)])[:count]
        ends = places + 8 + data[places]
        if not len(places) or places[0] != 0:
            return 0
        broken = np.flatnonzero(places[1:] != ends[:-1])
        passed = int(broken[0]) + 1 if len(broken) else len(places)
        if start + int(ends[passed - 1]) > self._filled:  # the last one is cut off by the chunk
            passed -= 1
        if passed:
            self.position += int(ends[passed - 1])
        return passed

    def _count_strings(self, count: int, what: str) -> None:
        """Move behind an array of strings of 1 to 255 bytes without zeros.

        Lengths are found in words of four bytes: the eight bytes of a length end in seven zeros, which contain exactly
        one whole word, wherever words begin. Only the last few strings are also followed.
        """
        import numpy as np

        self.position -= 4  # the first byte of a length may be in the word before
        while True:
            self.require(8 * count, what)
            start = self._load(min(_CHUNK_BYTES, self.left)) + 4
            words = np.frombuffer(self._chunk, "<u4", (self._filled - start) // 4, start)
            found = len(words) - int(np.count_nonzero(words))
            if found >= count:
                break
            self.skip(words.nbytes, what)
            count -= found
        places = start + 4 * np.flatnonzero(words == 0)[max(count - _FOLLOWED, 0) : count]
        end = self._followed_end(places.tolist(), what)
        self.skip(end - start + 4, what)

    def _followed_end(self, zeros: list[int], what: str) -> int:
        """Return where the last of consecutive strings ends in the chunk.

        Args:
            zeros: the first whole word of zeros in the length of each string.
        """
        end = None
        for zero in zeros:
            length = self._chunk[zero - 4 : zero].rstrip(b"\0")  # its last byte is the first of the length
            begin = zero - 5 + len(length)
            if not length or end not in (None, begin):
                break
            end = begin + 8 + length[-1]
        else:
            return end or 0
        raise ModelFormatError(f"{self._path} cannot be read: {what} has strings that cannot be counted.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
