"""Trainings at random places, from the cells of a study and from a table that was kept of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.ranks import LayerRank, RankRecord
from benchmarks.places.allocations import joined, of_study, read_table, write_table
from tests.helpers.allocations import LAYERS, planted
from tests.helpers.finished import write_finished


def write_cell(
    root: Path, name: str, found: list[int], rule: str = "random", loss: float | None = 0.5, **result: Any
) -> Path:
    folder = write_finished(root, name, "lora_random", loss, **{"task": "sst2"} | result)
    layers = tuple(LayerRank(name, rank) for name, rank in zip(LAYERS, found, strict=True))
    if found:
        ranks.save(RankRecord(8, layers, rule=rule), folder / "ranks.json")
    return folder


def test_the_finished_cells_of_a_study_are_read(tmp_path: Path) -> None:
    for seed, draw in ((2, 0), (1, 1), (1, 0)):
        chosen = [int(place % 3 == draw) for place in range(len(LAYERS))]
        settings = {"lora.draw": draw, "task.train_rows": 9}
        write_cell(tmp_path, f"{seed}-{draw}", chosen, loss=0.5 + draw, seed=seed, settings=settings)
    write_finished(tmp_path, "head", "head", 0.9, seed=1, task="sst2", settings={"lora.budget": None})
    (tmp_path / "cells" / "not finished").mkdir()
    found = of_study(tmp_path)
    assert found.table[["seed", "draw", "loss"]].to_numpy().tolist() == [[1, 0, 0.5], [1, 1, 1.5], [2, 0, 0.5]]
    assert found.layers == LAYERS
    assert found.head == {1: 0.9}
    assert found.settings["task.train_rows"] == 9


def test_an_allocation_that_was_trained_at_two_seeds_is_one() -> None:
    found = planted(np.zeros(len(LAYERS)), noise=0.1, allocations=5)
    assert found.losses.shape == (5, 2)
    assert np.allclose(found.losses.mean(), 0)
    again = type(found)(found.table[found.table["draw"] + found.table["seed"] > 1], found.head)
    assert np.isnan(again.losses.to_numpy()).sum() == 1
    one = found.table[found.table["draw"] == 3]
    place = [row.tolist() == one[LAYERS].iloc[0].tolist() for row in found.chosen.astype(int)].index(True)
    assert found.mean[place] == pytest.approx(one["loss"].mean() - found.table["loss"].mean())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"loss": None}, "row_losses.parquet: does not exist; --retrain.row_losses true"),
        ({"rule": "given"}, "not random ranks of 0 and 1; --lora.cap 1"),
        ({"found": [2] * len(LAYERS)}, "not random ranks of 0 and 1; --lora.cap 1"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    fitting = {"found": [1] * len(LAYERS), "seed": 1}
    write_cell(tmp_path, "a", **(fitting | change))
    with pytest.raises(UserError, match=named) as caught:
        of_study(tmp_path)
    assert str(tmp_path / "cells" / "a") in str(caught.value)


OTHER = {
    "task": ({"task": "mrpc"}, "its task is 'mrpc', that of the first cell 'sst2'"),
    "settings": ({"settings": {"task.train_rows": 9}}, "its task.train_rows is 9, that of the first cell 8"),
}


@pytest.mark.parametrize("what", OTHER)
def test_cells_that_differ_in_more_than_seed_and_places_are_refused(tmp_path: Path, what: str) -> None:
    """Of two tasks in one study, the second had silently replaced the first."""
    changed, named = OTHER[what]
    for name, own in {"a": {}, "b": changed}.items():
        write_cell(tmp_path, name, [1] * len(LAYERS), **{"seed": 1, "settings": {"task.train_rows": 8}} | own)
    with pytest.raises(UserError, match=rf"cells/b/metrics.json: {named}; allowed: trainings that differ in seed"):
        of_study(tmp_path)


@pytest.mark.parametrize("key", ["lora.budget", "lora.draw_seed"])
def test_cells_whose_draws_are_of_other_allocations_are_refused_but_not_the_head(tmp_path: Path, key: str) -> None:
    """Of two budgets in one study, the second had silently replaced the first."""
    write_cell(tmp_path, "a", [1] * len(LAYERS), seed=1, settings={key: 0.25})
    write_finished(tmp_path, "head", "head", 0.9, seed=1, task="sst2", settings={key: 0.75})
    assert of_study(tmp_path).head == {1: 0.9}
    write_cell(tmp_path, "z", [1] * len(LAYERS), seed=1, settings={key: 0.5})
    with pytest.raises(UserError, match=rf"cells/z/metrics.json: its {key} is 0.5, that of the first cell 0.25"):
        of_study(tmp_path)


def test_cells_with_lora_in_different_layers_are_refused(tmp_path: Path) -> None:
    write_cell(tmp_path, "a", [1] * len(LAYERS), seed=1)
    folder = write_cell(tmp_path, "b", [1] * len(LAYERS), seed=2)
    ranks.save(RankRecord(8, (LayerRank("another", 1),), rule="random"), folder / "ranks.json")
    with pytest.raises(UserError, match=r"b/ranks.json: its layers are not those of the other cells"):
        of_study(tmp_path)


def test_a_folder_without_such_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run of method lora_random"):
        of_study(tmp_path)


def test_a_table_keeps_every_training(tmp_path: Path) -> None:
    found = planted(np.arange(len(LAYERS)) * 0.001)
    write_table(found, tmp_path / "new" / "kept.csv")
    again = read_table(tmp_path / "new" / "kept.csv")
    pd.testing.assert_frame_equal(again.table, found.table, rtol=1e-5, check_dtype=False)
    assert again.head == found.head


def test_of_a_training_in_several_parts_the_last_counts() -> None:
    found = planted(np.arange(len(LAYERS)) * 0.001)
    newer = type(found)(found.table.assign(loss=found.table["loss"] + 1), dict.fromkeys(found.head, 9.0))
    again = joined([found, newer])
    pd.testing.assert_frame_equal(again.table, newer.table)
    assert again.head == newer.head


def test_trainings_of_other_layers_are_not_joined() -> None:
    found = planted(np.arange(len(LAYERS)) * 0.001)
    other = type(found)(found.table.rename(columns={LAYERS[0]: "another"}), {})
    with pytest.raises(UserError, match="not of the same layers"):
        joined([found, other])


def test_draws_of_other_allocations_are_not_joined() -> None:
    """The trainings of the table were lost."""
    found = planted(np.zeros(len(LAYERS)))
    with pytest.raises(UserError, match=r"^--study, --table: draw \d+ of seed \d+ has LoRA in other layers"):
        joined([found, planted(np.zeros(len(LAYERS)), seed=1)])


def test_trainings_under_other_settings_are_not_joined(tmp_path: Path) -> None:
    """Those of the study took the places of those in the table, and the rest was mixed."""
    parts = []
    for steps in (9, 10):
        write_cell(tmp_path / f"{steps}", "a", [1] * len(LAYERS), seed=1, settings={"retrain.max_steps": steps})
        parts.append(of_study(tmp_path / f"{steps}"))
    assert len(joined([parts[0], parts[0]]).table) == 1
    with pytest.raises(UserError, match="made under different settings; give each study a table of its own"):
        joined(parts)


def test_trainings_of_two_tasks_are_not_joined() -> None:
    found = planted(np.zeros(len(LAYERS)))
    other = type(found)(found.table.assign(task="mrpc"), {})
    with pytest.raises(UserError, match="are of different tasks: sst2, mrpc"):
        joined([found, other])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            "task,settings,seed,draw,loss\na,b,1,2,3\n",
            "columns task, settings, seed, draw, loss and one for each layer",
        ),
        ("task,settings,seed,draw,loss,x\na,b,1,2,3,much\n", "in the column x, every row must have a number"),
        ("task,settings,seed,draw,loss,x\na,,1,2,3,1\n", "in the column settings, every row must have a text"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=named) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
