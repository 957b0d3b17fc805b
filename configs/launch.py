"""How this process was started: by torchrun, by uv or by a Python. This can be read before torch is loaded."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from autolora.configs.errors import UserError


def processes_started() -> int:
    """How many processes torchrun started; 1 without it.

    Raises UserError if the environment variable WORLD_SIZE is not such a number; accelerate could not read it, either.
    """
    found = os.environ.get("WORLD_SIZE", "1")
    if not re.fullmatch("[1-9][0-9]{0,8}", found):
        raise UserError(
            f"WORLD_SIZE: {found[:60]!r} in the environment is not allowed; allowed: the number of processes, as "
            f"torchrun sets it, or no such variable (unset WORLD_SIZE)"
        )
    return int(found)


def speaks() -> bool:
    """Whether this process writes to the terminal; only the first one does."""
    return processes_started() == 1 or os.environ.get("RANK", "0") == "0"


def program() -> str:
    """The beginning of a command line that starts this program again, such as `uv run run.py`.

    It uses uv if uv started this process, else this Python, which is written `python` if the shell finds the same one.
    """
    script = sys.argv[0] if Path(sys.argv[0]).name == "run.py" else "run.py"
    if os.environ.get("UV_RUN_RECURSION_DEPTH"):  # uv sets it for what `uv run` starts
        return f"uv run {shlex.quote(script)}"
    found = shutil.which("python")
    own = "python" if found and os.path.samefile(Path(found).parent, Path(sys.executable).parent) else sys.executable
    return shlex.join((own, script))
