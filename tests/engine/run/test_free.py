"""Free memory: the smallest limit of the process's control groups counts where it is less than the machine's."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from autolora.engine.run import free as module
from autolora.engine.run.free import free
from autolora.problems.machine.compute import Compute

pytestmark = pytest.mark.unit

FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
    2: ("memory.max", "memory.current", "memory.stat"),
}
UNLIMITED = {1: "9223372036854771712", 2: "max"}


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /sys/fs/cgroup; the process is in the root group until a test says otherwise."""
    monkeypatch.setattr(module, "_ROOT", tmp_path / "fs")
    monkeypatch.setattr(module, "_OWN", tmp_path / "own")
    (tmp_path / "own").write_text("4:memory:/\n0::/\n", encoding="ascii")
    return tmp_path / "fs"


def write(version: int, folder: Path, limit: str, used: int = 0, cache: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stat = f"anon 1\ninactive_file {cache}\n" if version == 2 else f"inactive_file 0\ntotal_inactive_file {cache}\n"
    for name, text in zip(FILES[version], (limit, str(used), stat), strict=True):
        (folder / name).write_text(text, encoding="ascii")


def left() -> float:
    return free(Compute(torch.device("cpu"), bf16=False))


@pytest.mark.parametrize(("version", "mount"), [(2, "."), (2, "unified"), (1, "memory")])
def test_the_limit_of_the_root_counts(groups: Path, version: int, mount: str) -> None:
    """A container sees its own group as the root; what caches files can be dropped."""
    write(version, groups / mount, "5000", 4000, 1500)
    assert left() == 2500


@pytest.mark.parametrize(("version", "mount"), [(2, "."), (2, "unified"), (1, "memory")])
@pytest.mark.parametrize(("job", "step", "expected"), [("9000", "5000", 2500), ("3000", "5000", 500)])
def test_the_smallest_limit_of_the_own_group_and_those_around_it_counts(
    groups: Path, version: int, mount: str, job: str, step: str, expected: int
) -> None:
    own = "slurm/job_7/step_0"
    lines = ["12:cpu,cpuacct:/elsewhere", f"4:memory:/{own}", f"0::/{own}"]
    (groups.parent / "own").write_text("\n".join(lines), encoding="ascii")
    write(version, groups / mount, UNLIMITED[version], 9000)
    write(version, groups / mount / "slurm/job_7", job, 4000, 1500)
    write(version, groups / mount / own, step, 4000, 1500)
    write(version, groups / mount / "slurm/job_8", "10", 10)
    write(version, groups / mount / "elsewhere", "10", 10)
    assert left() == expected


@pytest.mark.parametrize("version", [1, 2])
def test_a_path_of_outside_the_container_leaves_the_root(groups: Path, version: int) -> None:
    (groups.parent / "own").write_text("4:memory:/docker/ab12\n0::/../../docker/ab12\n", encoding="ascii")
    write(version, groups / ("memory" if version == 1 else "."), "5000", 4000)
    assert left() == 1000


def test_a_group_without_a_limit_or_without_files_limits_nothing(groups: Path) -> None:
    write(2, groups, "max", 4000)
    assert list(module._left_in_groups()) == []
    (groups.parent / "own").unlink()
    assert list(module._left_in_groups()) == []


def test_the_memory_that_torch_keeps_on_a_gpu_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert free(Compute(torch.device("cuda"), bf16=False)) == 1400


def test_processes_on_one_machine_share_what_is_free_and_gpus_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1200))
    monkeypatch.setattr("autolora.engine.run.free._left_in_groups", lambda: iter([900]))
    assert [free(Compute(torch.device("cpu"), bf16=False), processes) for processes in (1, 3)] == [900, 300]
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert free(Compute(torch.device("cuda"), bf16=False), 3) == 1000
