"""What the processes of the suite need not do again and again."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

MEMORY = Path("/dev/shm")
ENOUGH = 4 * 2**30


def keep_bytecode(folder: Path) -> None:
    """Where bytecode may not lie beside the sources, as in many containers, this process and those that it starts
    keep it in `folder`: without it, each process takes ten seconds to compile torch and the other libraries."""
    torch = importlib.util.find_spec("torch")
    compiled = torch is not None and torch.cached is not None and Path(torch.cached).exists()
    if sys.dont_write_bytecode and not compiled and sys.pycache_prefix is None:
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(folder)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def write_to_memory() -> None:
    """The tests' files lie in memory where there is room: a disk may take milliseconds for each file that is synced
    or removed, and there are thousands. TMPDIR and --basetemp choose another place."""
    asked = "TMPDIR" in os.environ or "PYTEST_DEBUG_TEMPROOT" in os.environ
    if not asked and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)
