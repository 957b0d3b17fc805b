"""A standard output that is closed, full, or read by nobody ends no program."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from autolora.engine.terminal.streams import lost_output, survive_lost_output

TEXT = "a line\n" * 20_000  # more than any buffer holds


def in_a_process(prepare: Callable[[], None], body: Callable[[], int]) -> int:
    """The exit code of `body` in a fork."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            prepare()
            survive_lost_output()
            code = body()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def full() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115


def unread() -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    os.close(reading)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115


def closed() -> None:
    for number in (0, 1, 2):
        os.close(number)
    sys.stdout = sys.stderr = None  # as Python starts with closed ones


@pytest.mark.trains  # each starts a process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("prepare", "lost"), [(full, True), (unread, False), (closed, False)])
def test_everything_is_written_or_passed_over(prepare: Callable[[], None], lost: bool) -> None:
    def body() -> int:
        print(TEXT)
        print(TEXT, flush=True)
        print("also here", file=sys.stderr)
        return 3 if bool(lost_output()) is lost else 4

    assert in_a_process(prepare, body) == 3


@pytest.mark.trains
def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    """Pipes of Node, ssh and CI services are such; the run died of BlockingIOError."""
    found: list[bytes] = []

    def late(reading: int) -> None:
        time.sleep(0.2)
        while part := os.read(reading, 1000):
            found.append(part)

    def slow_reader() -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.dup2(writing, 1)
        os.close(writing)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        readers.append(Thread(target=late, args=(reading,), daemon=True))
        readers[0].start()

    def body() -> int:
        print(TEXT, end="")
        print("the end", flush=True)
        lost = lost_output()
        os.close(1)
        readers[0].join(60)
        return 3 if b"".join(found).decode() == f"{TEXT}the end\n" and not lost else 4

    readers: list[Thread] = []
    assert in_a_process(slow_reader, body) == 3


@pytest.mark.trains
def test_a_file_that_is_opened_later_does_not_become_standard_output(tmp_path: Path) -> None:
    def body() -> int:
        with open(tmp_path / "file", "w") as file:
            os.write(1, b"to nobody")
            file.write("mine")
        return 0

    assert in_a_process(closed, body) == 0
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.trains
def test_a_letter_that_the_terminal_lacks_is_spelled_out(tmp_path: Path) -> None:
    def ascii_only() -> None:
        os.dup2(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT), 1)
        sys.stdout = open(1, "w", encoding="ascii", closefd=False)  # noqa: SIM115

    def body() -> int:
        print("é▆", flush=True)
        return 0

    assert in_a_process(ascii_only, body) == 0
    assert (tmp_path / "out").read_text() == "\\xe9\\u2586\n"


def test_without_it_nothing_is_lost() -> None:
    assert lost_output() == ""
