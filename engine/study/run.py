"""Many runs: the axes of a study expand to cells, each an ordinary run folder; finished cells are skipped."""

import dataclasses
import logging
from collections.abc import Sequence

import pandas as pd

from configs.errors import UserError
from configs.files import to_yaml
from configs.requests import Request
from configs.schema import RunConfig
from configs.unread import tell_unread
from engine import ranks
from engine.disk.files import write_parquet, write_text
from engine.retrain.settings import FINISHED
from engine.run.contents import read_result
from engine.run.interrupt import StopRequest
from engine.run.opening import AskedOf, open_folder, refuse_misplaced
from engine.study.cells import RESULT_KEYS, Cell, damage, expand, reads, with_chosen_rate
from engine.study.comparison import refuse_changed_probe
from engine.study.folder import AskedOfStudy, StudyFolder, refuse_single_run
from engine.study.launchers import LAUNCHERS, Job, Running
from engine.study.words import all_numbers, word
from engine.tracking.login import wandb_mode

log = logging.getLogger("autolora")


def run_study(request: Request, stop: StopRequest) -> tuple[StudyFolder, list[str]]:
    """Runs unfinished cells, then collects results.parquet. A failed cell does not stop the others.

    Returns the folder and one line for each failed cell.

    Raises UserError for what the user must change, Interrupted when a signal asked to stop.
    """
    config = request.config
    asked = AskedOf(config, StudyFolder.of(config), request.stage, request.overwrite)
    cells = expand(config, asked.folder)
    if request.stage != "report":
        tell_unread(request.given, config, [dataclasses.replace(cell.config, study=config.study) for cell in cells])
    running = Running(_jobs(request, asked, cells), config.study.ray.retries)
    folder = open_folder(
        asked,
        (
            _refuse_stage, refuse_misplaced, refuse_single_run, _refuse_without_key,
            lambda asked: _refuse_changed_cells(asked, cells), refuse_changed_probe,
            lambda asked: _refuse_launcher(asked, running),
        ),
    )  # fmt: skip
    failed = [] if request.stage == "report" else _run_cells(asked, cells, running, stop)
    damaged = {cell.config.name: line for cell in cells if cell.folder.metrics.exists() and (line := damage(cell))}
    for line in damaged.values():
        log.warning("left out: %s", line)
    failed += damaged.values()
    results = collect([cell for cell in cells if cell.config.name not in damaged])
    if results.empty:
        raise UserError(f"no cell of the study finished; the first failure: {(failed or ['none was run'])[0]}")
    write_parquet(folder.results, results)
    return folder, failed


def _run_cells(asked: AskedOfStudy, cells: Sequence[Cell], running: Running, stop: StopRequest) -> list[str]:
    """Runs the jobs; returns a line for each cell that failed."""
    config, folder = asked.config, asked.folder
    write_text(folder.config, to_yaml(config))
    failed = LAUNCHERS[config.study.launcher].run(running, config.study, stop)
    for line in failed:
        log.warning("failed: %s", line)
    # A first seed that is run again may choose another rate than the one that finished later seeds used.
    _refuse_changed_cells(AskedOf(config, folder), cells)
    return failed


def _refuse_stage(asked: AskedOfStudy) -> None:
    """Refuses the stages that a study does not have."""
    if asked.stage not in ("all", "report"):
        raise UserError(f"--stage: {asked.stage!r} is not allowed for a study; allowed: all, report")


def _refuse_without_key(asked: AskedOfStudy) -> None:
    """Refuses a study whose curves and tables are to go online when there is no API key."""
    wandb_mode(asked.config)


def _refuse_changed_cells(asked: AskedOfStudy, cells: Sequence[Cell]) -> None:
    """Refuses finished cells in the study's folder that were made under other settings than these."""
    for cell in cells:
        run = cell.folder
        if asked.stands(run.metrics) and not damage(cell):
            recorded = read_result(run.metrics).get("settings", {})
            placed = _placed(asked.config, cell, cells)
            FINISHED.refuse_changed(recorded, placed, f"{run.root} was finished with")


def _refuse_launcher(asked: AskedOfStudy, running: Running) -> None:
    """Refuses a launcher that cannot start the cells."""
    if running.total:
        LAUNCHERS[asked.config.study.launcher].check(asked.config.study)


def _jobs(request: Request, asked: AskedOfStudy, cells: Sequence[Cell]) -> list[Job]:
    """One job for every cell whose result does not stand already; each comes after the jobs that it reads."""
    config = request.config

    def job(cell: Cell) -> Job:
        after = {str(other.config.name) for other in reads(cell, cells, sweep_once=config.study.sweep_once)}
        return Job(
            str(cell.config.name),
            lambda: Request(_placed(config, cell, cells), "all", False, request.source),
            frozenset(after),
        )

    if request.stage == "report":
        return []
    return [job(cell) for cell in cells if not asked.stands(cell.folder.metrics)]


def _placed(config: RunConfig, cell: Cell, cells: Sequence[Cell]) -> RunConfig:
    return (with_chosen_rate(cell, cells) if config.study.sweep_once else cell).config


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
        result = read_result(run.metrics, *RESULT_KEYS)
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
                "search_seconds": result["seconds"].get("search"),
                "total_seconds": result["seconds"]["total"],
                "search_steps": result["steps"].get("search"),
                "cell": cell.config.name,
            }
        )
    return pd.DataFrame(rows)
