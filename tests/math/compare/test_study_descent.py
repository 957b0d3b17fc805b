"""The losses of a study's searches over their passes: which searches, smoothing, and means over equal seeds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autolora.engine.run.folder import RunFolder
from autolora.engine.study.descent import TaskDescents, descents
from autolora.engine.study.folder import StudyFolder

KIND = "hypergradient.type"
AXES = [KIND, "seed"]
STEPS = 4
"""Logged steps of a search here: a point is the mean over three of them, or as many as there are."""


def write_losses(folder: StudyFolder, cell: str, losses: list[float | None], passes: int = 2) -> Path:
    """Writes the logged losses of a search whose steps take so many forward, and as many backward passes."""
    path = RunFolder(folder.cells / cell).search_metrics
    path.parent.mkdir(parents=True)
    lines = [
        {"step": step, "val_loss": loss, "forward_passes": passes * step, "backward_passes": passes * step}
        for step, loss in enumerate(losses, start=1)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """run("darts", 0, losses): a row of the results, whose search logged these losses."""

    def make(kind: str, seed: int, losses: list[float | None], *, task: str = "t", passes: int = 2) -> dict[str, Any]:
        cell = f"{task}-{kind}-{seed}"
        write_losses(StudyFolder(tmp_path), cell, losses, passes)
        own = {"searched_by": kind, "options": "{}", "search_forward_passes": 8.0}
        return {KIND: kind, "seed": seed, "task": task, "cell": cell, **own}

    return make


Run = Callable[..., dict[str, Any]]


def drawn(tmp_path: Path, rows: list[dict[str, Any]], axes: list[str] = AXES) -> list[TaskDescents]:
    return descents(pd.DataFrame(rows), axes, StudyFolder(tmp_path))


def test_a_line_has_the_smoothed_loss_at_the_passes_so_far(run: Run, tmp_path: Path) -> None:
    rows = [run("darts", 0, [8.0, 4.0, None, 3.0, 2.0]), run("cg", 0, [1.0], passes=5, task="u")]
    first, second = drawn(tmp_path, rows)
    assert (first.task, list(first.lines), first.seeds) == ("t", ["darts"], [0])
    line = first.lines["darts"]
    assert line.passes.tolist() == [4, 8, 16, 20], "the step without an outer step is left out"
    assert line.loss.tolist() == [8.0, 6.0, 5.0, 3.0]
    assert line.error is None, "one search"
    assert (second.task, second.lines["cg"].passes.tolist(), second.lines["cg"].loss.tolist()) == ("u", [10], [1.0])


def test_the_band_leaves_out_what_lifts_all_lines_of_a_seed(run: Run, tmp_path: Path) -> None:
    seeds, apart = {0: 0.0, 1: 5.0}, {0: 0.0, 1: 0.2}
    rows = [run("darts", seed, [level] * STEPS) for seed, level in seeds.items()]
    rows += [run("cg", seed, [level + 1 + apart[seed]] * STEPS) for seed, level in seeds.items()]
    (panel,) = drawn(tmp_path, rows)
    # Each row differs by 0.1 from the mean of both, up or down; times sqrt(2), as one of the two rows is the other's.
    expected = 2**0.5 * np.std([-0.05, 0.05], ddof=1) / 2**0.5
    for line in panel.lines.values():
        assert line.error is not None
        assert line.error.tolist() == pytest.approx([expected] * STEPS)
    (alone,) = drawn(tmp_path, rows[:2])
    assert alone.lines["darts"].error is not None
    assert alone.lines["darts"].error[0] == pytest.approx(2.5), "no other line has this seed's level"
