"""Freed memory goes back to the system, and not too often."""

import subprocess
import sys

import pytest

from autolora.problems.machine.heap import SECONDS, Heap, of_this_system
from tests.helpers.places import ROOT

GAPS = """
import numpy as np, psutil
from autolora.problems.machine.heap import Heap
mib = lambda: psutil.Process().memory_info().rss / 2**20
blocks = [np.ones(12_000) for _ in range(2000)]  # 96 kB each: too small to be given back one by one
last, blocks = blocks[-1], None  # the last one holds the heap's end
before = mib()
Heap().tidy()
print(before - mib())
"""


def test_it_gives_back_at_most_every_few_seconds() -> None:
    calls, now = [], [100.0]
    heap = Heap(lambda: calls.append(now[0]), lambda: now[0])
    for at in (100.0, 100.1, 100.0 + SECONDS - 0.01, 100.0 + SECONDS, 100.1 + SECONDS, 100.0 + 2 * SECONDS):
        now[0] = at
        heap.tidy()
    assert calls == [100.0, 100.0 + SECONDS, 100.0 + 2 * SECONDS]


def test_without_such_a_function_nothing_happens() -> None:
    Heap(None).tidy()


@pytest.mark.trains  # it starts a process
@pytest.mark.skipif(of_this_system() is None, reason="the C library has no malloc_trim")
def test_gaps_of_the_heap_go_back_to_the_system() -> None:
    """192 MB are freed, but below a block that is still used."""
    done = subprocess.run([sys.executable, "-c", GAPS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has glibc")
def test_linux_without_the_function_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert of_this_system() is None
