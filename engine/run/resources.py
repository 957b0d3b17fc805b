"""What a run needs and uses: its peak memory in MiB, and the versions of the packages that affect
the numbers."""

import os
import platform
import re
import resource
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from autolora.problems.machine.compute import Compute

STATUS = Path("/proc/self/status")
"""Linux tells a process here how much memory it had at most; other systems have no such file."""


def forget_peak(compute: Compute) -> bool:
    """Resets the peak that `peak_memory` returns: all cells of a study run in one process, each
    with its own peak.

    Returns whether the system could do so (Linux can, and a CUDA GPU).
    """
    compute.let_go()
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory(compute: Compute) -> float:
    """Peak of this process in MiB, since `forget_peak`: of the GPU if one is used, else resident
    memory."""
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated(compute.device) / 2**20
    told = STATUS.read_text(encoding="ascii", errors="replace") if STATUS.exists() else ""
    if found := re.search(r"VmHWM:\s*(\d+)", told):
        return int(found[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def computed_on(compute: Compute, processes: int = 1) -> dict[str, Any]:
    """The device on which a run computes, its name, the precision of its arithmetic, and the number
    of processes: what `auto` in --device and --precision stood for."""
    on_gpu = compute.device.type == "cuda"
    return {
        "device": compute.device.type,
        "name": torch.cuda.get_device_name(compute.device) if on_gpu else processor(),
        "precision": "bf16" if compute.bf16 else "fp32",
        "processes": processes,
    }


def own_cores() -> int:
    """How many cores this process may use; all of the machine's where the system cannot tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The name of the machine's processor; "" if the system does not tell it."""
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that affect the numbers."""
    packages = ("betty-ml", "torch", "transformers", "peft", "datasets")
    found = {one.metadata["Name"].lower(): one.version for one in distributions()}
    return {
        "python": platform.python_version(),
        **{name: found[name] for name in packages if name in found},
    }
