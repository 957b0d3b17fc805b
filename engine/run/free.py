"""How much memory is free for this process."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from problems.machine.compute import Compute

MIB, GIB = 2**20, 2**30
_ROOT = Path("/sys/fs/cgroup")
_CGROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def free(compute: Compute) -> float:
    """Bytes that are free for this process: on the GPU if it uses one; else on the machine, or within the container's
    limit if that is less."""
    if compute.device.type == "cuda":
        return float(torch.cuda.mem_get_info(compute.device)[0])
    return min([float(psutil.virtual_memory().available), *_left_in_containers()])


def _left_in_containers() -> Iterator[float]:
    """Bytes left within Linux's control groups (versions 2 and 1); memory that caches files counts as free."""
    for limit, used, cache in _CGROUPS:
        with suppress(OSError, ValueError):  # "max" is no number: there is no limit
            most, taken = (int((_ROOT / name).read_text(encoding="ascii")) for name in (limit, used))
            stat = (_ROOT / cache).read_text(encoding="ascii").split()
            yield max(most - taken + int(stat[stat.index("inactive_file") + 1]), 0)
