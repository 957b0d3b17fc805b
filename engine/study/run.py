"""Many runs: the axes of a study expand to cells, each an ordinary run folder; finished cells are skipped."""

import logging
from collections.abc import Sequence

import pandas as pd

from configs.errors import UserError
from configs.files import to_yaml
from configs.requests import Request
from configs.schema import RunConfig
from engine import ranks
from engine.disk.files import read_json, remove, write_parquet, write_text
from engine.retrain.settings import FINISHED
from engine.run.interrupt import StopRequest
from engine.study.cells import Cell, expand, reads, with_chosen_rate
from engine.study.comparison import refuse_changed_probe
from engine.study.folder import StudyFolder, refuse_single_run
from engine.study.launchers import LAUNCHERS, Job, Running
from engine.study.words import all_numbers, word
from engine.tracking.login import wandb_mode

log = logging.getLogger("autolora")


def run_study(request: Request, stop: StopRequest) -> tuple[StudyFolder, list[str]]:
    """Runs what is not finished yet, then collects results.parquet. A failed cell does not stop the others; with the
    folder comes a line for each.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop.
    """
    config = request.config
    folder = StudyFolder.of(config)
    cells = expand(config, folder)
    failed = _run_cells(request, folder, cells, stop)
    results = collect(cells)
    if results.empty:
        raise UserError(f"no cell of the study finished; the first failure: {(failed or ['none was run'])[0]}")
    write_parquet(folder.results, results)
    return folder, failed


def _run_cells(request: Request, folder: StudyFolder, cells: Sequence[Cell], stop: StopRequest) -> list[str]:
    """A line for each cell that failed. All that can be refused is refused before the folder is touched."""
    config = request.config
    if request.stage not in ("all", "report"):
        raise UserError(f"--stage: {request.stage!r} is not allowed for a study; allowed: all, report")
    refuse_single_run(folder)
    wandb_mode(config)
    kept = request.stage == "report" or not request.overwrite
    if kept:
        _refuse_others(config, folder, cells)
    launcher = LAUNCHERS[config.study.launcher]
    jobs = _jobs(request, cells, kept=kept) if request.stage == "all" else []
    running = Running(jobs, config.study.ray.retries)
    if jobs:
        launcher.check(config.study)
    if request.overwrite:
        for path in folder.outputs(request.stage):
            remove(path)
    if request.stage == "report":
        return []
    write_text(folder.config, to_yaml(config))
    failed = launcher.run(running, config.study, stop)
    for line in failed:
        log.warning("failed: %s", line)
    # A first seed that was run again may have chosen another rate than the seeds that were finished with its last.
    _refuse_others(config, folder, cells)
    return failed


def _jobs(request: Request, cells: Sequence[Cell], *, kept: bool) -> list[Job]:
    """One job per unfinished cell, or per cell when no result is `kept`; each comes after the jobs that it reads."""
    config = request.config

    def job(cell: Cell) -> Job:
        after = {str(other.config.name) for other in reads(cell, cells, sweep_once=config.study.sweep_once)}
        return Job(
            str(cell.config.name),
            lambda: Request(_placed(config, cell, cells), "all", False, request.source),
            frozenset(after),
        )

    return [job(cell) for cell in cells if not (kept and cell.folder.metrics.exists())]


def _placed(config: RunConfig, cell: Cell, cells: Sequence[Cell]) -> RunConfig:
    return (with_chosen_rate(cell, cells) if config.study.sweep_once else cell).config


def _refuse_others(config: RunConfig, folder: StudyFolder, cells: Sequence[Cell]) -> None:
    """Refuses results in the study's folder that were made under other settings than these."""
    for cell in cells:
        run = cell.folder
        if run.metrics.exists():
            recorded = read_json(run.metrics).get("settings", {})
            FINISHED.refuse_changed(recorded, _placed(config, cell, cells), f"{run.root} was finished with")
    refuse_changed_probe(config, folder)


def collect(cells: list[Cell]) -> pd.DataFrame:
    """A row per finished cell: its place on the axes, metrics, ranks, parameters, seconds, steps."""
    # A column of a parquet file has one type, and a table must tell null from nothing: all but numbers are text there.
    places = {axis: [cell.values[axis] for cell in cells] for axis in cells[0].values}
    plain = {axis for axis, values in places.items() if all_numbers(values)}
    rows = []
    for cell in cells:
        run = cell.folder
        if not run.metrics.exists():
            continue
        result = read_json(run.metrics)
        # Full fine-tuning and bottleneck adapters have no ranks.
        record = ranks.load(run.ranks) if run.ranks.exists() else None
        rows.append(
            {
                **{axis: value if axis in plain else word(value) for axis, value in cell.values.items()},
                "task": result["task"],
                "method": result["method"],
                "main_metric": next(iter(result["metrics"])),
                "score": next(iter(result["metrics"].values())),
                **{f"metric.{name}": value for name, value in result["metrics"].items()},
                "mean_rank": record.mean_rank if record else None,
                "ranks": [layer.rank for layer in record.layers] if record else None,
                **{key: result[key] for key in ("lora_parameters", "trainable_parameters", "learning_rate")},
                "search_seconds": result["seconds"]["search"],
                "total_seconds": result["seconds"]["total"],
                "search_steps": result["steps"]["search"],
                "cell": cell.config.name,
            }
        )
    return pd.DataFrame(rows)
