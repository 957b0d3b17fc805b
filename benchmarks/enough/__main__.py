"""Is the rank that a search calls enough as good as the best rank? `python -m benchmarks.enough`.

--studies: folders of studies such as enough.yaml makes, one for each task. The table of a task has the loss at every
rank, and the regret of the ranks that its searches call enough: how far their loss is above that of the best rank.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from rich.table import Table

from autolora.configs.errors import UserError
from autolora.engine.terminal.console import console
from benchmarks.command import Settings, main, table_of, with_error
from benchmarks.enough import trainings
from benchmarks.enough.regret import Regret, regret_of
from benchmarks.kept import gathered


@dataclass(frozen=True)
class EnoughSettings(Settings):
    """What is read and written."""

    studies: list[str] = field(default_factory=list)
    """Folders of studies with the trainings, a task each; seeds and tasks that are not finished are left out."""
    table: str | None = None
    """CSV file with the trainings of earlier commands. With --studies, the studies' own are added to it."""

    FILES: ClassVar = ("table",)


def measure_enough(settings: EnoughSettings) -> tuple[dict[str, Any], list[Table]]:
    """The regret of every task. Raises UserError if no task has a seed with a search and a training at every rank."""
    table = gathered(trainings, settings.table, settings.studies)
    if unknown := int((table["settings"] == "").sum()):
        console.print(f"the settings of {unknown} trainings are not recorded, so that they were not compared")
    by_task = {str(task): regret_of(str(task), rows) for task, rows in table.groupby("task", sort=False)}
    found = [one for one in by_task.values() if one is not None]
    if not found:
        raise UserError("--studies: no seed has finished its search and a training at every rank and of the head "
                        "alone")  # fmt: skip
    for task in (task for task, one in by_task.items() if one is None):
        console.print(f"{task} is left out: no seed has its search, the head alone and a training at every rank yet")
    numbers = {one.task: _numbers(one) for one in found}
    return numbers, [*(_shown(one) for one in found), _at_multiples(found)]


def _numbers(one: Regret) -> dict[str, Any]:
    regrets, own = one.regrets(), one.found_regrets()
    return {
        "seeds": len(one.enough), "losses": {str(rank): losses.tolist() for rank, losses in one.losses.items()},
        "parameters": {str(rank): count for rank, count in one.parameters.items()}, "best": one.best, "gain": one.gain,
        "enough": one.enough, "regrets": regrets.tolist(), "mean_parameters": one.mean_parameters(),
        "found": one.found.tolist(), "found_regrets": own.tolist(), "found_parameters": one.found_parameters.tolist(),
    }  # fmt: skip


def _shown(one: Regret) -> Table:
    """A row for every rank, one for the ranks called enough, and one for the ranks that the searches' rule chose."""
    title = f"{one.task}, {len(one.enough)} seeds: mean +- standard error"
    table = table_of(title, "ranks", "loss, nats a label", "regret / gain", "LoRA parameters")
    for rank, losses in one.losses.items():
        name = "the head alone" if rank == 0 else f"{rank} in every layer"
        regret = "the best" if rank == one.best else _percent(one.over_gain(losses))
        table.add_row(name, with_error(losses), regret, f"{one.parameters[rank]:,}")
    called = ", ".join("-" if rank is None else str(rank) for rank in one.enough)
    parameters, own = one.mean_parameters(), one.found_parameters.mean()
    table.add_row(f"enough: {called}", with_error(one.at_enough), _percent(one.regrets()), f"{parameters:,.0f}")
    table.add_row("by the search's rule", with_error(one.found), _percent(one.found_regrets()), f"{own:,.0f}")
    return table


def _at_multiples(found: Sequence[Regret]) -> Table:
    """What trainings at multiples of the rank called enough lose, over the searches of all tasks on which LoRA gains
    something. A multiple at which one of them trained nothing is left out."""
    gaining = [one for one in found if one.gain > 0]
    notes = [f"{one.task}: left out, as LoRA gains nothing there" for one in found if one not in gaining]
    rows = []
    for times in (1, 2, 4):
        lacking = [f"{rank} ({one.task})" for one in gaining for rank in one.untrained_at(times)]
        if lacking:
            notes.append(f"{times} times that rank: left out, as nothing was trained at rank {', '.join(lacking)}")
            continue
        regrets = np.array([regret for one in gaining for regret in one.regrets_at(times)])
        if len(regrets):
            rows.append([f"{times}", f"{len(regrets)}", _percent(regrets), f"{(regrets > 0.05).sum()}"])
    title = "searches that call a rank below the largest one enough, all tasks: trainings at"
    columns = ("times that rank", "searches", "regret / gain, mean", "of more than 5 %")
    table = table_of(title, *columns, left=0, caption="; ".join(notes))
    for row in rows:
        table.add_row(*row)
    return table


def _percent(values: np.ndarray) -> str:
    return "-" if np.isnan(values).any() else f"{with_error(100 * values, 1)} %"


if __name__ == "__main__":
    sys.exit(main(EnoughSettings, measure_enough))
