"""How much memory is free for this process."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil
import torch

from autolora.problems.machine.compute import Compute

MIB, GIB = 2**20, 2**30
_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
"""Linux names the control groups of a process here: one line for each hierarchy, `number:controllers:path`."""


class _Version(NamedTuple):
    """Where a version of Linux's control groups is mounted, and its files: limit, use, and counters of the use."""

    controllers: str
    mounts: tuple[str, ...]
    limit: str
    used: str
    counters: str
    cache: str
    """The counter of the bytes that cache files and can be dropped, of this group and those inside it."""


_VERSIONS = (
    _Version("", (".", "unified"), "memory.max", "memory.current", "memory.stat", "inactive_file"),
    _Version(
        "memory", ("memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"
    ),
)


def free(compute: Compute, processes: int = 1) -> float:
    """Bytes that are free for this process: on the GPU if it uses one, which no other process of the run uses; else on
    the machine (`free_on_host`)."""
    if compute.device.type == "cuda":
        # torch keeps what it has freed; the driver counts that as taken.
        reserved = torch.cuda.memory_reserved(compute.device) - torch.cuda.memory_allocated(compute.device)
        return float(torch.cuda.mem_get_info(compute.device)[0] + reserved)
    return free_on_host(processes)


def free_on_host(processes: int = 1) -> float:
    """Bytes that are free for this process in the machine's memory, or within the limit of the process's control
    group, or of one around it, if that is less.

    `processes`: how many processes of this run share the machine; each has an equal part of what is free there."""
    return min([float(psutil.virtual_memory().available), *_left_in_groups()]) / processes


def _left_in_groups() -> Iterator[float]:
    """Bytes left in the control groups of this process that have a limit (a container has one, a batch system sets
    one for each job)."""
    for version in _VERSIONS:
        for mount in version.mounts:
            for path in _own_paths(version.controllers):
                yield from _left(version, _ROOT / mount / path)


def _own_paths(controllers: str) -> Iterator[str]:
    """Relative paths of this process's group and of all groups around it, the root (`.`) last.

    Inside a container, Linux may give the group's path outside the container. That path does not exist inside, where
    the container's own group is the root.
    """
    with suppress(OSError):
        for line in _OWN.read_text(encoding="utf-8", errors="replace").splitlines():
            _, names, path = [*line.split(":", 2), "", ""][:3]
            if controllers in names.split(","):
                own = PurePosixPath(path.lstrip("/"))
                yield from (str(group) for group in (own, *own.parents) if str(group) != ".")
    yield "."


def _left(version: _Version, group: Path) -> Iterator[float]:
    """Bytes left in one group, if it has a limit; memory that caches files counts as free."""
    with suppress(OSError, ValueError):  # "max" is no number: there is no limit
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in (version.limit, version.used))
        counters = (group / version.counters).read_text(encoding="ascii").split()
        # The root of version 1 may lack the sum over the groups inside it.
        cache = version.cache if version.cache in counters else "inactive_file"
        yield max(limit - used + int(counters[counters.index(cache) + 1]), 0)
