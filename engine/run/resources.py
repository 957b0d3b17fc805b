"""What a run needs and uses: its peak memory in MiB, and the versions of the packages that affect the numbers."""

import platform
import resource
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

from problems.machine.compute import Compute

STATUS = Path("/proc/self/status")
"""Linux tells a process here how much memory it had at most; other systems have no such file."""


def forget_peak(compute: Compute) -> None:
    """Resets the peak memory, if the system can: all cells of a study run in one process, each with its own peak."""
    compute.let_go()
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(compute: Compute) -> float:
    """Peak of this process in MiB, since `forget_peak`: of the GPU if one is used, else resident memory."""
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated(compute.device) / 2**20
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines() if STATUS.exists() else []
    for line in lines:  # some sandboxes' Linux has the file without this line
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that affect the numbers."""
    packages = ("betty-ml", "torch", "transformers", "peft", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
