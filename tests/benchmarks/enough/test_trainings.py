"""Trainings at the same rank in every layer, from the cells of a study and from a table that was kept of them."""

from pathlib import Path
from unittest.mock import ANY

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.ranks.evidence import CurvePoint, Evidence
from benchmarks.enough.trainings import COLUMNS, joined, of_study, read_table, write_table
from tests.helpers.finished import write_finished


def evidence(gain: float = 0.2) -> Evidence:
    """At rank 1 the loss rises by 0.1, at rank 2 by 0.001: rank 2 is enough."""
    points = tuple(
        CurvePoint(rank, 0.5 + above, 0.001, 1.0, 1 - above / 0.2, 0.01)
        for rank, above in ((1, 0.1), (2, 0.001), (4, 0.0))
    )
    return Evidence(400, 400, "head alone", 0.5, gain, 0.01, 0.15, 0.05, 0.2, 3, 1.0, points, "shares", ())


def write_search(root: Path, name: str, found: Evidence | None, loss: float = 0.4) -> None:
    folder = write_finished(root, name, "autolora", loss, seed=1, lora_parameters=250)
    ranks.save(
        RankRecord(4, (LayerRank("a", 1), LayerRank("b", 2)), rule="shares", evidence=found), folder / "ranks.json"
    )


def test_the_finished_cells_of_a_study_are_read(tmp_path: Path) -> None:
    root = tmp_path / "sst2"
    write_search(root, "search", evidence())
    write_finished(root, "two", "lora", 0.45, seed=1, lora_parameters=200, settings={"lora.r": 2})
    write_finished(root, "head", "head", 0.9, seed=1, lora_parameters=0)
    write_finished(root, "full", "full", 0.3, seed=1, lora_parameters=0)
    (root / "cells" / "not finished").mkdir()
    assert of_study(root).to_numpy().tolist() == [
        ["sst2", 1, "autolora", 2, pytest.approx(0.4), 250, ANY],
        ["sst2", 1, "head", 0, pytest.approx(0.9), 0, ANY],
        ["sst2", 1, "lora", 2, pytest.approx(0.45), 200, ANY],
    ]


def test_a_search_that_learned_nothing_calls_no_rank_enough(tmp_path: Path) -> None:
    write_search(tmp_path, "search", evidence(gain=0.001))
    assert of_study(tmp_path)["rank"].isna().tolist() == [True]


def test_a_search_without_a_curve_is_named(tmp_path: Path) -> None:
    write_search(tmp_path, "search", None)
    with pytest.raises(UserError, match="has measured no curve"):
        of_study(tmp_path)


def test_a_folder_without_such_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run of the methods head, lora, autolora"):
        of_study(tmp_path)


def table(*rows: tuple[str, int, str, int | None, float, int], settings: str = "") -> pd.DataFrame:
    return pd.DataFrame([(*row, settings) for row in rows], columns=COLUMNS)


def test_a_table_keeps_every_training(tmp_path: Path) -> None:
    kept = table(("a", 1, "autolora", None, 0.5, 10), ("a", 1, "head", 0, 0.9, 0), ("a", 1, "lora", 4, 0.25, 40))
    write_table(kept, tmp_path / "new" / "kept.csv")
    again = read_table(tmp_path / "new" / "kept.csv")
    assert again["rank"].isna().tolist() == [True, False, False]
    assert again.drop(columns="rank").to_numpy().tolist() == kept.drop(columns="rank").to_numpy().tolist()
    assert again["rank"].dropna().tolist() == [0, 4]


def test_trainings_of_two_kinds_are_no_table() -> None:
    """A study at another scale had replaced some ranks of a kept table, and kept the others."""
    before = table(("a", 1, "lora", 1, 0.6, 10), ("a", 1, "lora", 2, 0.5, 20), settings="x.y")
    after = table(("a", 1, "lora", 1, 0.7, 10), settings="x.z")
    with pytest.raises(UserError, match=r"^a: the trainings lora at rank 1, seed 1 and lora at rank 2, seed 1 have"):
        joined([before, after])
    head, search = table(("a", 1, "head", 0, 0.9, 0), settings="x"), table(("a", 1, "autolora", 1, 0.5, 10))
    assert len(joined([before, head, search, after.assign(task="b")])) == 5


@pytest.mark.parametrize(("earlier", "later"), [(2, 4), (4, 2), (None, 2)])
def test_of_a_training_that_stands_in_both_the_later_counts(earlier: int | None, later: int) -> None:
    before = table(("a", 1, "autolora", earlier, 0.5, 10), ("a", 1, "lora", 1, 0.6, 10), ("a", 1, "lora", 2, 0.5, 20))
    after = table(("a", 1, "autolora", later, 0.4, 10), ("a", 1, "lora", 1, 0.7, 10))
    found = joined([before, after])
    assert found[["method", "rank", "loss"]].to_numpy().tolist() == [
        ["autolora", later, 0.4], ["lora", 1, 0.7], ["lora", 2, 0.5],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("lora,1.5", "in the column rank, every row must have a whole number"),
        ("full,1", "allowed methods: head, lora,"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, part: str, named: str) -> None:
    (tmp_path / "kept.csv").write_text(f"{','.join(COLUMNS)}\na,1,{part},0.5,3,\n")
    with pytest.raises(UserError, match=f"kept.csv: {named}"):
        read_table(tmp_path / "kept.csv")
