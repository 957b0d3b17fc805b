"""The program as its users meet it: a command with what it says and its exit code, in this process
or in a fork."""

import io
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import run


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that tells a mistake, and nothing else on stderr."""
        (line,) = [line for line in self.err.splitlines() if line.strip()]
        assert line.startswith("error: "), self.err
        return line


def command(*argv: object) -> Answer:
    """`python run.py ...` in this process."""
    out = io.StringIO()
    err = io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = run.main([str(word) for word in argv])
        except SystemExit as ended:  # after --help and --print_config
            code = int(ended.code or 0)
    assert "Traceback" not in out.getvalue() + err.getvalue(), err.getvalue()
    return Answer(code, out.getvalue(), err.getvalue())


def succeed(*argv: object) -> str:
    """What a command that must end well prints."""
    answer = command(*argv)
    assert answer.code == 0, answer.err
    return answer.out


def refused(*argv: object) -> str:
    """The one line by which a command that must be refused tells why."""
    answer = command(*argv)
    assert answer.code == 2, answer
    return answer.line


class Fork:
    """The command in a warm fork of this process; `prepare` is called there first, to set up a
    fault."""

    def __init__(
        self, argv: Sequence[object], output: Path, prepare: Callable[[], None] = lambda: None
    ) -> None:
        self.output = output
        self.pid = os.fork()
        if self.pid == 0:
            self._child([str(word) for word in argv], prepare)

    def _child(self, argv: list[str], prepare: Callable[[], None]) -> None:
        code = 99
        try:
            file = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            torch.set_num_threads(1)
            prepare()
            code = run.main(argv)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Exit code, negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def succeed(self) -> str:
        """Waits for its end, which must be a good one; what it printed."""
        assert self.wait() == 0, self.said()
        return self.said()

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Waits until something has happened, at most two minutes."""
        end = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < end, f"it did not happen; output: {self.said()}"
            time.sleep(0.005)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal and waits for the end."""
        os.kill(self.pid, number)
        return self.wait()

    def said(self) -> str:
        """All that it printed."""
        return self.output.read_text()


def torchrun(argv: Sequence[object], output: Path, size: int = 2) -> list[Fork]:
    """`torchrun --nproc-per-node SIZE run.py ...`, each process forked warm."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def place(rank: int) -> Callable[[], None]:
        found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
        given = {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in found.items()}}
        return lambda: os.environ.update(given)

    return [Fork(argv, output.with_suffix(f".{rank}"), place(rank)) for rank in range(size)]


def die_at_operation(moment: int, log: Path | None = None) -> None:
    """From now on this process kills itself before its `moment`-th operation on files (0: it
    lives). `log` gets a letter for each operation."""
    count = itertools.count(1)

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if log is not None:
                with open(log, "a") as file:
                    file.write("o")
            if next(count) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    for place, name in (
        (os, "replace"),
        (os, "rename"),
        (os, "link"),
        (os, "fsync"),
        (os, "unlink"),
        (os, "rmdir"),
        (torch, "save"),
        (Path, "mkdir"),
        (Path, "unlink"),
        (Path, "write_text"),
        (pd.DataFrame, "to_parquet"),
    ):
        setattr(place, name, guarded(getattr(place, name)))


def signal_at_step(step: int, number: int, log: Path) -> None:
    """This process sends itself a signal after so many steps of its optimisers (0: never). `log`
    gets a letter for each step."""
    count = itertools.count(1)

    def after_step(*_: Any) -> None:
        with open(log, "a") as file:
            file.write("s")
        if next(count) == step:
            os.kill(os.getpid(), number)

    register_optimizer_step_post_hook(after_step)
