"""How this process was started: by torchrun, by uv or by a Python. This can be read before torch is
loaded."""

import os


def processes_started() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def speaks() -> bool:
    """Whether this process writes to the terminal; only the first one does."""
    return processes_started() == 1 or os.environ.get("RANK", "0") == "0"
