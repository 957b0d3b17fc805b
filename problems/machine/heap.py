"""Gives memory that was freed back to the system. The C library keeps it, in gaps of its heap that later tensors of
other sizes do not fill, so that a search would need a tenth more memory than its tensors take."""

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SECONDS = 2.0
"""The least time between two calls: giving back takes milliseconds, and so does touching the memory again. A pass of a
large model takes longer than this time, so that every pass begins without gaps."""

GiveBack = Callable[[], object]


def of_this_system() -> GiveBack | None:
    """glibc's malloc_trim; None where the C library has no such function (macOS, Alpine)."""
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: trim(0)


@dataclass
class Heap:
    """`tidy` gives freed memory back, at most every SECONDS seconds."""

    give_back: GiveBack | None = field(default_factory=of_this_system)
    clock: Callable[[], float] = time.monotonic
    _last: float = float("-inf")

    def tidy(self) -> None:
        """Gives freed memory back to the system, if the last time is long enough ago."""
        if self.give_back is not None and (now := self.clock()) >= self._last + SECONDS:
            self._last = now
            self.give_back()


HEAP = Heap()
"""The heap of this process."""
