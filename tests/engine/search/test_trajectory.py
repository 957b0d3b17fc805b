"""trajectory.parquet: the columns that other programs read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from autolora.engine.run.folder import RunFolder
from autolora.engine.search import trajectory
from autolora.engine.search.state import points, restore_points
from autolora.engine.search.trajectory import Trajectory


def some() -> Trajectory:
    torch.manual_seed(0)
    made = Trajectory(["b.query", "a.value"])
    for step in (0, 10, 15):
        made.add(step, torch.rand(2, 3), torch.rand(2, 3))
    return made


def test_a_row_per_point_layer_and_component(tmp_path: Path) -> None:
    made = some()
    made.write(tmp_path / "search" / "t.parquet")
    table = pq.read_table(tmp_path / "search" / "t.parquet")
    types = {field.name: str(field.type).removeprefix("large_") for field in table.schema}
    assert types == {
        "step": "int64",
        "layer": "string",
        "component": "int64",
        "alpha": "double",
        "contribution": "double",
    }
    rows = table.to_pylist()
    assert len(rows) == 3 * 2 * 3
    for row in rows:
        point, layer = made.steps.index(row["step"]), made.names.index(row["layer"])
        assert row["alpha"] == made.alpha[point][layer, row["component"]]
        assert row["contribution"] == made.contribution[point][layer, row["component"]]
    assert len({(row["step"], row["layer"], row["component"]) for row in rows}) == len(rows)


def test_it_comes_back_from_the_file_and_from_a_checkpoint(tmp_path: Path) -> None:
    made = some()
    made.write(tmp_path / "t.parquet")
    restored = Trajectory(made.names)
    restore_points(restored, points(made))
    for other in (trajectory.read(tmp_path / "t.parquet"), restored):
        assert other.names == made.names
        assert other.steps == made.steps
        assert np.array_equal(other.alpha, made.alpha)
        assert np.array_equal(other.contribution, made.contribution)
    made.add(20, torch.rand(2, 3), torch.rand(2, 3))
    assert len(restored.steps) == 3
    restored.add(20, torch.rand(2, 3), torch.rand(2, 3))
    assert np.stack(restored.alpha).shape == (4, 2, 3)


def test_ranks_are_those_of_the_threshold_at_the_points() -> None:
    made = Trajectory(["a", "b"])
    made.add(0, torch.full((2, 2), 0.5), torch.zeros(2, 2))
    made.add(10, torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[3.0, 2.0], [1.0, 0.5]]))
    assert made.ranks("softmax", [0, 1]).tolist() == [[2, 2], [1, 2]]
    assert made.ranks("softmax", [1]).tolist() == [[1, 2]]


@pytest.mark.trains
def test_a_search_logs_the_start_every_interval_and_the_end(finished_run: Callable[..., RunFolder]) -> None:
    folder = finished_run("bert", "--search.steps", "5")
    found = trajectory.read(folder.trajectory)
    assert found.steps == [0, 2, 4, 5]
    assert np.array_equal(found.alpha[0], np.full((4, 4), 0.25, dtype=np.float32))
    assert not np.any(found.contribution[0]), "B is zero at the start"
    assert np.all(found.contribution[-1] > 0)
    assert found.names == [f"bert.encoder.layer.{i}.attention.self.{p}" for i in (0, 1) for p in ("query", "value")]
