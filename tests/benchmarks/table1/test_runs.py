"""The runs of a study of Table 1, and the CSV file that keeps them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.disk.tables import write_parquet
from benchmarks.table1.runs import COLUMNS, joined, of_study, read_table, write_table
from tests.helpers.table1_runs import runs, write_study

HEADER = ",".join(COLUMNS)


def test_the_runs_of_a_study_are_read(tmp_path: Path) -> None:
    found = of_study(write_study(tmp_path / "one", runs({"rank 1": [0.4, 0.5], "head": [0.6, 0.7]})))
    assert list(found) == COLUMNS
    assert found[["seed", "variant", "log_loss"]].to_numpy().tolist() == [
        [0, "rank 1", 0.4], [0, "head", 0.6], [1, "rank 1", 0.5], [1, "head", 0.7]
    ]  # fmt: skip
    assert found["settings"].nunique() == 1  # the seed is no part of the digest


def test_a_folder_without_results_and_a_study_without_variants_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.parquet: does not exist; the study's command with --stage report"):
        of_study(tmp_path)
    write_study(tmp_path, runs({"head": [0.6]}))
    results = pd.read_parquet(tmp_path / "results.parquet")
    write_parquet(tmp_path / "results.parquet", results.drop(columns="variant"))
    with pytest.raises(UserError, match="its study has no axis variant"):
        of_study(tmp_path)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = runs({"rank 1": [0.41234, 0.5]}, ranks=[1, 0, 2])
    table.loc[0, ["score", "total_seconds"]] = float("nan")
    write_table(table, tmp_path / "new" / "kept.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "new" / "kept.csv"), table, check_dtype=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}\nt,v,0,m,much{',' * (len(COLUMNS) - 5)}\n", "in the column log_loss, every row must have"),
        (f"{HEADER}\nt,v,0,m,0.5{',' * (len(COLUMNS) - 6)},one two\n", "cannot be read as a CSV"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "kept.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_table(tmp_path / "kept.csv")
    assert str(tmp_path / "kept.csv") in str(caught.value)


def test_later_runs_replace_those_of_the_same_line_and_seed() -> None:
    found = joined([runs({"rank 1": [0.4, 0.5]}), runs({"rank 1": [0.3]}), runs({"head": [0.6]}, task="b")])
    assert found[["task", "variant", "seed", "log_loss"]].to_numpy().tolist() == [
        ["a", "rank 1", 0, 0.3], ["a", "rank 1", 1, 0.5], ["b", "head", 0, 0.6]
    ]  # fmt: skip


def test_runs_of_a_line_with_other_settings_are_refused() -> None:
    first, second = runs({"rank 1": [0.4]}), runs({"rank 1": [0.4, 0.5]}).tail(1)
    with pytest.raises(UserError, match="a: the trainings rank 1, seed 0 and rank 1, seed 1 have other settings"):
        joined([first.assign(settings="x"), second.assign(settings="y")])
    joined([first.assign(settings=""), second.assign(settings="y")])
    joined([first.assign(settings="x", task="b"), second.assign(settings="y")])


def test_lines_of_a_task_must_be_evaluated_on_the_same_rows() -> None:
    first, second = runs({"rank 1": [0.4]}), runs({"head": [0.6]})
    with pytest.raises(UserError, match="a: the trainings rank 1, seed 0 and head, seed 0 have other evalua"):
        joined([first.assign(rows="x"), second.assign(rows="y")])
    joined([first.assign(rows="x"), second.assign(rows="y", task="b")])


def test_lines_of_a_seed_must_be_judged_on_equally_many_rows() -> None:
    first, second = runs({"rank 1": [0.4]}), runs({"head": [0.6]})
    with pytest.raises(UserError, match="a: the trainings rank 1, seed 0 and head, seed 0 have other evaluated_r"):
        joined([first.assign(unused_rows=2000), second.assign(unused_rows=0)])
    with pytest.raises(UserError, match="evaluated_rows or unused_rows; allowed: trainings of a seed judged on"):
        joined([first.assign(evaluated_rows=408), second.assign(evaluated_rows=400)])
    joined([first.assign(unused_rows=1731), runs({"head": [0.6, 0.6]}).tail(1)])
    joined([first, second.assign(unused_rows=float("nan"))])


def test_lines_of_a_seed_must_share_their_training_rows_and_their_unused_rows(tmp_path: Path) -> None:
    data = data_of("x")
    other = [data | {"training": {"rows": 2, "sha256": "o"}}, data | {"unused": {"rows": 5, "sha256": "u"}}]
    first, second, third = (
        of_study(write_study(tmp_path / str(place), runs({line: [0.6]}), data=rows))
        for place, (line, rows) in enumerate(zip(("head", "rank 1", "rank 2"), (data, *other), strict=True))
    )
    for part in (second, third):
        with pytest.raises(UserError, match="other training rows or unused rows; allowed: trainings of a seed on"):
            joined([first, part])
        joined([first, part.assign(seed=1)])  # each seed draws its own rows
        joined([first.assign(rows=first["rows"].str.split(".").str[0]), part])  # a table that knows only the first


def test_runs_that_could_be_confused_and_cells_that_are_gone_are_refused(tmp_path: Path) -> None:
    twice = pd.concat([runs({"rank 1": [0.4]}), runs({"rank 1": [0.5]})])
    with pytest.raises(UserError, match="several runs have one task, variant and seed"):
        of_study(write_study(tmp_path / "twice", twice))
    root = write_study(tmp_path / "gone", runs({"head": [0.6]}))
    (root / "cells" / "0-head" / "metrics.json").unlink()
    with pytest.raises(UserError, match="0-head, which has no result; the study's command with --stage report"):
        of_study(root)


def test_a_run_with_other_evaluation_rows_or_weights_has_another_digest(tmp_path: Path) -> None:
    head = runs({"head": [0.6]})
    digests = [
        of_study(write_study(tmp_path / str(place), head, data=data, base_weights=weights))["rows"][0]
        for place, (data, weights) in enumerate(
            [(None, "w"), (None, "other"), (data_of("x"), "w"), (data_of("y"), "w")]
        )
    ]
    assert len(set(digests)) == 4


def test_a_rate_counts_whichever_seed_chose_it(tmp_path: Path) -> None:
    """Under study.sweep_once the first seed tries several rates, and the others are given the best."""
    places = [(0.1, [0.1, 0.2], 0.2), (0.2, [], 0.2), (0.1, [], 0.1)]
    digests = []
    for place, (rate, rates, trained) in enumerate(places):
        root = write_study(tmp_path / str(place), runs({"eva": [0.6]}))
        path = root / "cells" / "0-eva" / "metrics.json"
        result = read_json(path)
        result["settings"] |= {"retrain.learning_rate": rate, "retrain.learning_rates": rates}
        write_json(path, result | {"learning_rate": trained})
        digests.append(of_study(root)["settings"][0])
    assert digests[0] == digests[1] != digests[2]


def data_of(digest: str) -> dict[str, Any]:
    rows = {"rows": 2, "sha256": "t"}
    return {"classes": [], "training": rows, "evaluation_rows": None, "evaluation": {"v": rows | {"sha256": digest}}}
