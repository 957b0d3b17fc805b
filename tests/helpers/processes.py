"""The program in processes of its own that begin warm: forked, so that a start costs no imports."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

import run
from autolora.engine.disk import exchange
from autolora.engine.run.folder import RunFolder
from autolora.engine.tracking.metrics_file import MetricsFile
from tests.helpers.undrawn import draw_nothing

RunProcess = Callable[..., "Process"]


class Process:
    """`python run.py ...` in a fork of this process; `prepare` is called there first, to set up a fault. With `draw`
    off the run leaves out its report."""

    def __init__(
        self, argv: Sequence[str], output: Path, prepare: Callable[[], None] = lambda: None, *, draw: bool = True
    ) -> None:
        self.output = output
        self.pid = os.fork()
        if self.pid == 0:
            self._child(argv, prepare, draw)

    def _child(self, argv: Sequence[str], prepare: Callable[[], None], draw: bool) -> None:
        code = 99
        try:
            file = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            torch.set_num_threads(1)
            if not draw:
                draw_nothing()
            prepare()
            code = run.main(list(argv))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Exit code, negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_for(self, happened: Callable[[], bool], seconds: float = 60) -> None:
        """Waits until something has happened."""
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, f"it did not happen; output: {self.output.read_text()}"
            time.sleep(0.005)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal and waits for the end."""
        os.kill(self.pid, number)
        return self.wait()


def die_at_operation(moment: int, counted: Path | None = None) -> None:
    """From now on this process kills itself before its `moment`-th operation on files (0: it lives).

    `counted` is a file that gets the number of operations so far.
    """
    count = [0]

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if counted is not None:
                counted.write_bytes(str(count[0]).encode())
            if count[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    for place, name in (
        (os, "replace"), (os, "fsync"), (os, "unlink"), (os, "rmdir"), (torch, "save"),
        (Path, "mkdir"), (Path, "unlink"), (Path, "write_text"), (pd.DataFrame, "to_parquet"), (exchange, "swap"),
    ):  # fmt: skip
        setattr(place, name, guarded(getattr(place, name)))


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Does `work` in a fork that dies before its `moment`-th operation on files; False if it ended before that."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            die_at_operation(moment)
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


COSTS = ("seconds", "seconds_evaluation", "peak_memory_mib", "ended")
"""The keys of metrics.json that differ between two equal runs."""


def outcome(root: Path) -> dict[str, Any]:
    """All that a finished run leaves, without seconds and memory."""
    folder = RunFolder(root)
    result = json.loads(folder.metrics.read_text())
    lines = MetricsFile(folder.search_metrics).read()
    return {
        "files": sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.name.endswith(".tmp")),
        "ranks": folder.ranks.read_text(),
        "trajectory": pd.read_parquet(folder.trajectory).to_dict("list"),
        "lines": [{key: value for key, value in line.items() if key != "seconds"} for line in lines],
        "search": {n: v.tolist() for n, v in load_file(folder.search_weights).items()},
        "adapter": {n: v.tolist() for n, v in load_file(folder.adapter / "adapter_model.safetensors").items()},
        "adapter_config": json.loads((folder.adapter / "adapter_config.json").read_text()),
        "metrics": {key: value for key, value in result.items() if key not in COSTS},
    }


def fresh(root: Path) -> Path:
    """An empty place for a run."""
    shutil.rmtree(root, ignore_errors=True)
    return root
