"""Compare AutoLoRA (search and retraining) with AdaLoRA and uniform LoRA, trained for the same number of epochs.

Each is a whole run through `autolora.engine.stages`, all in one process. For each task and seed the methods run one
after the other, so that a slow hour of the machine affects all of them.
"""

import itertools
import json as json_text
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.ranges import Positive
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.engine.terminal.console import log
from autolora.problems.tasks import make_task
from benchmarks.command import Settings, main, refuse_empty, refuse_unknown, table_of

METHODS = ("lora", "adalora", "autolora")
TARGETS = {"adalora": 1.0, "lora": 1.3}
"""Method -> the most time that AutoLoRA may take, divided by that of the method."""


@dataclass(frozen=True)
class TotalSettings(Settings):
    """What is run."""

    config: str = "fast.yaml"
    """Configuration of all runs; the benchmark itself sets the task, the method, the seed and the number of steps."""
    path: str | None = None
    """Local folder with GLUE in the hub's layout; null: nyu-mll/glue."""
    tasks: list[str] = field(default_factory=lambda: ["sst2", "mrpc"])
    """GLUE tasks."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Seeds; every method runs once with each."""
    train_rows: int | None = None
    """Train on only this many training rows; null: all."""
    epochs: Positive = 3.0
    """Epochs of LoRA and AdaLoRA."""
    retrain_share: Positive = 0.85
    """Epochs of AutoLoRA's retraining, as a share of `epochs`. With a search_share of 0.15, search and retraining
    together take as many steps as the other methods."""
    search_share: Positive = 0.15
    """The most rows of D_tr that the search sees, as a share of the rows that the other methods see in `epochs`."""
    r: int = 4
    """Rank of uniform LoRA, and mean rank of AdaLoRA."""
    learning_rates: dict[str, float] = field(default_factory=dict)
    """Learning rate of a method's training, as {"adalora": 3e-3}; for other methods the configuration's is taken."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Further keys of the configuration for every run, as {"model.name": "..."}."""
    runs_folder: str | None = None
    """Folder that keeps the runs, none of which may be there yet; null: they are deleted."""

    AT_LEAST: ClassVar = {"r": 1, "seeds": 0}


def measure(settings: TotalSettings) -> tuple[dict[str, Any], list[Table]]:
    """Runs every method on every task and seed. Raises UserError for settings that are not allowed."""
    refuse_empty("tasks", settings.tasks)
    refuse_unknown("learning_rates", settings.learning_rates, METHODS)
    base = parse(["--config", settings.config]).config
    with tempfile.TemporaryDirectory() as folder:
        place = settings.runs_folder or folder
        wanted = list(itertools.product(settings.tasks, settings.seeds, METHODS))
        _refuse_earlier(place, wanted)
        runs: list[dict[str, Any]] = []
        for number, (task, seed, method) in enumerate(wanted, start=1):
            log.info("run %d of %d: %s on %s, seed %d", number, len(wanted), method, task, seed)
            found = _run(settings, base, place, task, seed, method)
            runs.append({"task": task, "seed": seed, "method": method, **found})
    ratios = {task: {other: _ratio(runs, task, other) for other in TARGETS} for task in settings.tasks}
    equal = {task: _at_equal_speed(runs, task) for task in settings.tasks}
    numbers = {"runs": runs, "autolora_seconds_over": ratios, "over_lora_at_equal_speed": equal, "targets": TARGETS}
    return numbers, [_table(runs, task, ratios[task], equal[task]) for task in settings.tasks]


def _refuse_earlier(place: str, wanted: Sequence[tuple[str, int, str]]) -> None:
    """Raises UserError if the folder has one of these runs: it would not be timed whole, or would be replaced."""
    for task, seed, method in wanted:
        if (run := Path(place) / _name(task, seed, method)).exists():
            raise UserError(f"--runs_folder: {run} is there already; allowed: a folder without these runs")


def _name(task: str, seed: int, method: str) -> str:
    return f"{task}_{method}_{seed}"


def _run(
    settings: TotalSettings, base: RunConfig, place: str, task: str, seed: int, method: str
) -> dict[str, Any]:  # fmt: skip
    values: dict[str, Any] = {
        "name": _name(task, seed, method), "runs_folder": place, "method": method, "seed": seed, "lora.r": settings.r,
        "tracking.wandb": "disabled", "retrain.epochs": settings.epochs, "retrain.max_steps": None,
        "retrain.learning_rates": [],
        "retrain.learning_rate": settings.learning_rates.get(method, base.retrain.learning_rate),
    }  # fmt: skip
    if method == "autolora":
        values |= {
            "retrain.epochs": settings.epochs * settings.retrain_share,
            "search.steps": _search_steps(settings, base, task),
        }
    else:
        values["retrain.init"] = "scratch"
    config = with_values(base, _task_values(settings, task) | values | settings.overrides)
    folder = run_stages(Request(config, "all", False, settings.config), StopRequest(), draw=False)
    result = json_text.loads(folder.metrics.read_text(encoding="utf-8"))
    kept = ("metrics", "learning_rate", "seconds", "steps", "mean_rank", "lora_parameters")
    return {key: result[key] for key in kept}


def _task_values(settings: TotalSettings, task: str) -> dict[str, Any]:
    return {"task.type": "glue", "task.name": task, "task.path": settings.path, "task.train_rows": settings.train_rows}


def _search_steps(settings: TotalSettings, base: RunConfig, task: str) -> int:
    """The number of steps in which a search sees `search_share` of the rows that the baselines see."""
    config = with_values(base, _task_values(settings, task) | settings.overrides)
    there = len(make_task(config).rows().train)
    rows = there if config.task.train_rows is None else min(config.task.train_rows, there)
    return max(1, round(settings.search_share * settings.epochs * rows / config.search.batch_size))


def _ratio(runs: list[dict[str, Any]], task: str, other: str) -> float:
    """The median over the seeds of AutoLoRA's seconds divided by the other method's."""
    by = {(r["seed"], r["method"]): r["seconds"]["total"] for r in runs if r["task"] == task}
    seeds = {seed for seed, _ in by}
    return statistics.median(by[seed, "autolora"] / by[seed, other] for seed in seeds)


def _at_equal_speed(runs: list[dict[str, Any]], task: str) -> float:
    """The median over the seeds of AutoLoRA's seconds divided by LoRA's, if each step of LoRA had taken as long as one
    of AutoLoRA's retraining: the steps are the same, but the machine may have been slower during one of the two."""
    found = []
    for own in (run for run in runs if run["task"] == task and run["method"] == "autolora"):
        lora = next(r for r in runs if (r["task"], r["seed"], r["method"]) == (task, own["seed"], "lora"))
        a_step = own["seconds"]["retrain"] / own["steps"]["retrain"]
        found.append(own["seconds"]["total"] / (lora["steps"]["retrain"] * a_step))
    return statistics.median(found)


def _table(runs: list[dict[str, Any]], task: str, ratios: dict[str, float], equal: float) -> Table:
    metric = next(iter(next(run for run in runs if run["task"] == task)["metrics"]))
    table = table_of(
        f"{task}: whole runs", "method", "seconds", "search", f"{metric} (median)", "lowest", "highest",
        "AutoLoRA's seconds / this method's",
        caption=f"AutoLoRA's seconds / LoRA's, at the seconds per step of AutoLoRA's retraining: {equal:.2f}",
    )  # fmt: skip
    for method in METHODS:
        found = [run for run in runs if run["task"] == task and run["method"] == method]
        values = [next(iter(run["metrics"].values())) for run in found]
        searched = [run["seconds"]["search"] for run in found if run["seconds"]["search"] is not None]
        table.add_row(
            method,
            f"{statistics.median(run['seconds']['total'] for run in found):.1f}",
            f"{statistics.median(searched):.1f}" if searched else "",
            f"{statistics.median(values):.4f}",
            f"{min(values):.4f}",
            f"{max(values):.4f}",
            f"{ratios[method]:.2f} (target {TARGETS[method]:g})" if method in TARGETS else "",
        )
    return table


if __name__ == "__main__":
    sys.exit(main(TotalSettings, measure))
