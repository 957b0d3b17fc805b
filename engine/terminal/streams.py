"""Let a run continue if standard output or error can no longer be written: its results are files in its folder."""

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

_replaced: list[TextIO | None] = []
"""The original streams, kept because deleting them would close the descriptors that their replacements use."""


class _Lasting(io.FileIO):
    """A file descriptor whose writes never fail; after the first error, kept in `lost`, it discards all data.

    If the descriptor does not block, as a pipe of Node or ssh, a write waits for the reader all the same."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes the data, or discards it once a write has failed."""
        while self.lost is None:
            try:
                written: int | None = super().write(data)
                if written is not None:
                    return written
                select.select([], [self], [])
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


def survive_lost_output() -> None:
    """Replaces standard output and error by streams that ignore write errors: closed, disk full, or reader gone.

    A character that the terminal cannot encode is written as an escape (`\\u2026`).
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get this number and become standard output
            os.open(os.devnull, os.O_RDWR)
    _replaced.extend((sys.stdout, sys.stderr))
    sys.stdout, sys.stderr = _lasting(sys.stdout, 1), _lasting(sys.stderr, 2)


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    encoding = stream.encoding if stream is not None else "utf-8"
    raw = _Lasting(number, "w", closefd=False)
    lines = raw.isatty() or number == 2
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)


def lost_output() -> str:
    """The error because of which output was lost; "" if none was, or if the reader closed the pipe, as `head` does."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Lasting):
        return ""
    sys.stdout.flush()
    if raw.lost is None or raw.lost.errno == errno.EPIPE:
        return ""
    return os.strerror(raw.lost.errno or errno.EIO)
