"""Standard output and error that fail without ending the program: what a run is for lies in its folder."""

import errno
import io
import os
import sys
from typing import Any, TextIO

_replaced: list[TextIO | None] = []
"""The streams of before: given up, they would close the descriptors of those in their place."""


class _Lasting(io.FileIO):
    """A file descriptor that takes everything; `lost` is the first error, after which nothing is written any more."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes the data, or passes over it when nobody can take it."""
        if self.lost is None:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


def survive_lost_output() -> None:
    """From now on a standard output or error that is closed, full, or has nobody at its other end ends nothing.

    A letter that the terminal cannot show is spelled out (`\\u2026`).
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: else the first file that is opened would become standard output
            os.open(os.devnull, os.O_RDWR)
    _replaced.extend((sys.stdout, sys.stderr))
    sys.stdout, sys.stderr = _lasting(sys.stdout, 1), _lasting(sys.stderr, 2)


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    encoding = stream.encoding if stream is not None else "utf-8"
    raw = _Lasting(number, "w", closefd=False)
    lines = raw.isatty() or number == 2
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)


def lost_output() -> str:
    """Why standard output did not take all that was written to it; "" where it did, or where its reader has left,
    as `head` does when it has seen enough."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lasting):
        return ""
    sys.stdout.flush()
    if raw.lost is None or raw.lost.errno == errno.EPIPE:
        return ""
    return os.strerror(raw.lost.errno or errno.EIO)
