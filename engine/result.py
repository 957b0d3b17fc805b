"""metrics.json: what a run gave, what it cost, and the versions that decide the numbers."""

from __future__ import annotations

import platform
import resource
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from configs.rules import SEARCHING
from engine.ranks import RankRecord
from engine.run_folder import read_json
from engine.trainer import Fitted
from engine.tuning import read_trials
from problems.compute import Compute

_STATUS = Path("/proc/self/status")

if TYPE_CHECKING:
    from engine.stages import Run


def result_of(run: Run, fitted: Fitted, record: RankRecord | None, trainable: int, rate: float) -> dict[str, Any]:
    """The content of metrics.json. The sweep's seconds stand apart: total is what one run at its rate costs."""
    config, searched = run.config, _searched(run)
    seconds = {"search": searched.get("seconds"), "retrain": fitted.seconds}
    return {
        "method": config.method,
        "task": run.task.name,
        "split": run.task.evaluation_split,
        "metrics": {name: value for name, value in fitted.metrics.items() if name != "loss"},
        "loss": fitted.metrics.get("loss"),
        "trainable_parameters": trainable,
        "lora_parameters": record.lora_parameters if record else 0,
        "mean_rank": record.mean_rank if record else None,
        "learning_rate": rate,
        "learning_rates_tried": config.retrain.learning_rates,
        "seconds_sweep": sum(trial.seconds for trial in read_trials(run.folder.sweep)),
        "seed": config.seed,
        "seconds": seconds | {"total": sum(s for s in seconds.values() if s is not None)},
        "steps": {"search": searched.get("steps"), "retrain": fitted.steps},
        "peak_memory_mib": max(peak_memory(run.compute), searched.get("peak_memory_mib", 0.0)),
        "versions": versions(),
    }


def _searched(run: Run) -> dict[str, Any]:
    """Seconds, steps and memory of what found the ranks; nothing where no stage did."""
    if run.config.method == "lora_grid":
        trials = read_trials(run.folder.grid)
        return {"seconds": sum(t.seconds for t in trials), "steps": sum(t.steps for t in trials)}
    return read_json(run.folder.search_summary) if run.config.method in SEARCHING else {}


def forget_peak(compute: Compute) -> None:
    """The peak is counted from now on, where the system can: the cells of a study share one process."""
    compute.let_go()
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(compute: Compute) -> float:
    """Peak of this process in MiB, since `forget_peak`: of the GPU where one is used, else resident memory."""
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated(compute.device) / 2**20
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines() if _STATUS.exists() else []
    for line in lines:  # some sandboxes' Linux has the file without this line
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def versions() -> dict[str, str]:
    """Of Python and the packages that decide the numbers."""
    packages = ("betty-ml", "torch", "transformers", "peft", "datasets")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
