"""How this process was started: by torchrun, by uv or by a Python. This can be read before torch is loaded."""

import os
import shlex
import sys


def processes_started() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def speaks() -> bool:
    """Whether this process writes to the terminal; only the first one does."""
    return processes_started() == 1 or os.environ.get("RANK", "0") == "0"


def program() -> str:
    """The beginning of a command line that starts this program again, such as `uv run run.py`."""
    started = ("uv", "run") if os.environ.get("UV_RUN_RECURSION_DEPTH") else (sys.executable,)
    return shlex.join((*started, sys.argv[0]))
