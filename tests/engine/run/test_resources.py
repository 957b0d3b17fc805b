"""What a run costs and runs on: peak memory in MiB, and the versions that decide the numbers."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autolora.engine.run.resources import extra_memory, forget_peak, peak_memory, versions
from autolora.problems.machine.compute import Compute

CPU = Compute(torch.device("cpu"), bf16=False)


def test_peak_memory_is_in_mib_as_the_system_tells_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = SimpleNamespace(ru_maxrss=512 * 2**20)
    monkeypatch.setattr("autolora.engine.run.resources.resource.getrusage", lambda who: usage)
    monkeypatch.setattr("autolora.engine.run.resources.STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("VmPeak:\t 9216 kB\nVmHWM:\t 2048 kB\nVmRSS:\t 1024 kB\n")
    assert peak_memory(CPU) == 2
    for content in ("Name:\tpython\n", None):  # Linux in some sandboxes; other systems
        (tmp_path / "status").unlink() if content is None else (tmp_path / "status").write_text(content)
        for system, expected in (("linux", 512 * 2**10), ("darwin", 512)):
            monkeypatch.setattr("autolora.engine.run.resources.sys.platform", system)
            assert peak_memory(CPU) == expected


def test_a_peak_is_forgotten_where_the_system_can() -> None:
    torch.ones(100 * 2**18).sum()  # 100 MiB, free again
    before = peak_memory(CPU)
    forget_peak(CPU)
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system cannot reset a process's peak")
    assert peak_memory(CPU) < before - 50


def test_extra_memory_is_beyond_what_was_there_before() -> None:
    kept = torch.ones(100 * 2**18)
    found = extra_memory(lambda: torch.ones(60 * 2**18).sum(), CPU)
    assert kept.all()
    if not Path("/proc/self/clear_refs").exists():
        assert found != found, "NaN"
        pytest.skip("the system cannot reset a process's peak")
    assert 55 < found < 80  # the kernel counts a process's pages for each core and adds them up now and then


def test_versions_are_of_what_decides_the_numbers() -> None:
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert set(found) == {"python", "betty-ml", "torch", "transformers", "peft", "datasets"}
