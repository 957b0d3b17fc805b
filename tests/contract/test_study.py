"""A study: many runs under one name, one table, skipped where finished; a cell that fails stops no
other."""

import json
import shlex
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.contract.conftest import Finished, Tiny
from tests.contract.inputs import once
from tests.contract.program import Fork, refused, succeed
from tests.contract.readers import everything, read

FEW = ("--task.train_rows", "16", "--task.evaluation_rows", "16", "--retrain.max_steps", "2")
METHODS = (
    "{variant: {lora_shuffled: {method: lora_shuffled, lora.ranks_from: {variant: autolora}}, "
    "autolora: {}, lora: {method: lora}}, seed: [0, 1]}"
)
"""The shuffled ranks stand before the search that finds them."""


@pytest.fixture
def study(finished: Finished) -> Path:
    """A finished study of three methods and two seeds; do not write."""
    return finished(*FEW, "--measure.rows", "0", "--study.axes", METHODS)


def test_every_cell_is_a_run_folder_and_a_row(study: Path) -> None:
    rows = pd.read_parquet(study / "results.parquet")
    assert len(rows) == 6
    assert {"method", "seed", "metric.accuracy", "log_loss", "mean_rank", "ranks"} <= set(
        rows.columns
    )
    for cell in rows["cell"]:
        assert (study / "cells" / cell / "adapter" / "adapter_config.json").exists()
    assert "lora_shuffled" in (study / "table.md").read_text()
    assert (study / "report.html").stat().st_size > 0
    ranks = rows.set_index(["seed", "method"])["ranks"]
    for seed in (0, 1):
        assert sorted(ranks[seed, "lora_shuffled"]) == sorted(ranks[seed, "autolora"])


def times_of(folder: Path) -> dict[str, int]:
    """Cell -> when its result was written."""
    return {
        path.parent.name: path.stat().st_mtime_ns for path in folder.glob("cells/*/metrics.json")
    }


def test_an_overwrite_trains_the_cells_whose_settings_changed(tiny: Tiny, folder: Path) -> None:
    """The same study again trains nothing."""
    axes = "{variant: {a: {}, b: {retrain.batch_size: %d}}}"
    succeed(*tiny(*FEW, "--method", "lora", "--study.axes", axes % 4))
    times = times_of(folder)
    before = everything(folder)
    changed = tiny(*FEW, "--method", "lora", "--study.axes", axes % 2)
    assert "--retrain.batch_size" in refused(*changed)
    assert everything(folder) == before
    succeed(*changed, "--overwrite")
    assert "2 of 2" in succeed("--show", folder)
    again = times_of(folder)
    assert [name for name in times if again[name] != times[name]] == ["variant-b"]
    succeed(*changed)
    assert times_of(folder) == again
    assert len(pd.read_parquet(folder / "results.parquet")) == 2


def test_the_listed_commands_run_the_cells_whose_sources_are_finished(
    tiny: Tiny, folder: Path
) -> None:
    """For SLURM or xargs; the study then has nothing left to train."""
    axes = (
        "{variant: {again: {method: lora_ranks, lora.ranks_from: {variant: first}}, first: "
        "{method: lora}}}"
    )
    argv = tiny(*FEW, "--study.axes", axes)
    for name in ("first", "again"):
        (line,) = succeed(*argv, "--list").splitlines()
        words = shlex.split(line)
        assert words[words.index("--config") + 1] == str(
            folder / "cells" / f"variant-{name}" / "config.yaml"
        )
        succeed(*words[words.index("--config") :])
    assert succeed(*argv, "--list") == ""
    succeed(*argv)
    assert sorted(pd.read_parquet(folder / "results.parquet")["variant"]) == ["again", "first"]


def test_a_failed_cell_stops_no_other_and_is_tried_again(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    """Two cells have ranks for a layer that the model lacks; the same command tries them again and
    trains no other."""
    for name, layer in (("good", "query"), ("bad", "nosuch")):
        layers = [{"name": f"bert.encoder.layer.0.attention.self.{layer}", "rank": 2}]
        (tmp_path / f"{name}.json").write_text(json.dumps({"layers": layers}))
    axes = f"{{lora.ranks_from: [{tmp_path}/bad.json, {tmp_path}/good.json], seed: [0, 1]}}"
    argv = tiny(*FEW, "--method", "lora_ranks", "--study.axes", axes)
    assert "nosuch" in refused(*argv)
    done = times_of(folder)
    assert len(done) == len(pd.read_parquet(folder / "results.parquet")) == 2
    refused(*argv)
    assert times_of(folder) == done


def test_a_study_that_was_killed_goes_on_and_ends_alike(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    argv = tiny(
        *FEW, "--method", "lora", "--study.axes", "{seed: [0, 1, 2]}", "--retrain.max_steps", "60"
    )
    process = Fork(argv, tmp_path / "killed.txt")
    process.wait_for(lambda: len(times_of(folder)) > 0)
    assert process.kill() == -signal.SIGKILL
    done = times_of(folder)
    assert len(done) < 3
    Fork(argv, tmp_path / "again.txt").succeed()
    assert times_of(folder) | done == times_of(folder)
    rows = pd.read_parquet(folder / "results.parquet")
    assert list(rows["seed"]) == [0, 1, 2]
    assert read(folder / "cells" / rows["cell"].iloc[2] / "metrics.json")["steps"]["retrain"] == 60


EIGHT = (
    "--task.train_rows",
    "64",
    "--task.evaluation_rows",
    "16",
    "--method",
    "lora",
    "--retrain.max_steps",
    "150",
    "--retrain.checkpoint_every",
    "10",
    "--study.axes",
    "{variant: {copy: {method: lora_ranks, lora.ranks_from: {variant: own}}, own: {}}, seed: "
    "[0, 1, 2, 3]}",
)


def losses_of(folder: Path) -> dict[str, float]:
    """Cell -> loss, of the eight cells that must be there."""
    rows = pd.read_parquet(folder / "results.parquet")
    assert len(rows) == 8
    return dict(zip(rows["cell"], rows["loss"], strict=True))


@pytest.mark.soak
@pytest.mark.parametrize("launcher", ["serial", "ray"])
def test_eight_cells_survive_kills(tiny: Tiny, folder: Path, tmp_path: Path, launcher: str) -> None:
    """Each ends as in one process that nobody kills; sources before those that read them."""
    argv = tiny(*EIGHT, "--study.launcher", launcher)
    first = Fork(argv, tmp_path / "first.txt")
    if launcher == "ray":
        first.wait_for(lambda: len(list(folder.glob("cells/*/retrain"))) > 0)
        workers = [
            child
            for child in psutil.Process(first.pid).children(recursive=True)
            if "_work" in child.name()
        ]
        workers[0].kill()
    first.wait_for(lambda: len(times_of(folder)) > 0)
    assert first.kill() == -signal.SIGKILL
    Fork(argv, tmp_path / "again.txt").succeed()
    Fork(
        once([*argv, "--name", "whole", "--study.launcher", "serial"]), tmp_path / "whole.txt"
    ).succeed()
    assert losses_of(folder) == pytest.approx(losses_of(folder.parent / "whole"), abs=1e-6)


@pytest.mark.soak
def test_a_signal_to_the_launcher_saves_the_cells_on_ray(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    argv = tiny(*EIGHT, "--study.launcher", "ray", "--retrain.checkpoint_every", "100000")
    first = Fork(argv, tmp_path / "first.txt")
    first.wait_for(lambda: any(folder.glob("cells/*/config.yaml")))
    assert first.kill(signal.SIGTERM) == 143
    assert len(times_of(folder)) < 8
    Fork(argv, tmp_path / "again.txt").succeed()
    losses_of(folder)
