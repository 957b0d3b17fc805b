"""Which ranks are best at equal size? `python -m benchmarks.table1`.

--studies: folders of studies of table1_minilm.yaml, finished or not. --table keeps their runs in a CSV file and adds
those of later studies, from this machine or another one. The tables show each line's log loss, metric and size on each
task; the differences between lines at the same task and seed, with tests; and how well the ranks of two seeds agree.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table

from autolora.engine.study.rows import LOSS, SEED, TASK
from benchmarks.command import Settings, main
from benchmarks.kept import gathered
from benchmarks.table1 import runs
from benchmarks.table1.contrasts import FAMILIES, Contrast, contrasts_of
from benchmarks.table1.picture import draw_losses
from benchmarks.table1.runs import VARIANT
from benchmarks.table1.sizes import of_their_size
from benchmarks.table1.tables import of_agreement, of_contrasts, of_losses


@dataclass(frozen=True)
class Table1Settings(Settings):
    """What is read and written."""

    studies: list[str] = field(default_factory=list)
    """Folders of studies with the runs; those that are not finished are left out."""
    table: str | None = None
    """CSV file with the runs of earlier commands. With --studies, the studies' own are added to it."""
    picture: str | None = None
    """PNG file that gets the losses against the number of LoRA parameters."""

    FILES: ClassVar = ("table",)
    PICTURES: ClassVar = ("picture",)


def measure_table1(settings: Table1Settings) -> tuple[dict[str, Any], list[Table]]:
    """The losses of every line, the tests and the agreement of seeds. Raises UserError if there is no run."""
    table = of_their_size(gathered(runs, settings.table, settings.studies))
    if settings.picture:
        draw_losses(table, Path(settings.picture))
    found = {title: contrasts_of(table, pairs) for title, pairs in FAMILIES.items()}
    tables = [of_losses(table), *(of_contrasts(part, title) for title, part in found.items() if part)]
    agreement = of_agreement(table)
    losses = table[[TASK, SEED, VARIANT, LOSS]].to_dict("records")
    numbers = {title: [_numbers(one) for one in part] for title, part in found.items()}
    return {"runs": losses, "contrasts": numbers}, [*tables, *([agreement] if agreement else [])]


def _numbers(one: Contrast) -> dict[str, Any]:
    return {
        "line": one.line, "other": one.other, "gains": dict(one.gains), "better": one.better, "p": one.p,
        "corrected": one.corrected, "differences": {task: part.tolist() for task, part in one.differences.items()},
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(Table1Settings, measure_table1))
