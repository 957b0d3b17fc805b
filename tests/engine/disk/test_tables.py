"""Tables come back as they were written; damaged ones are refused by file and column."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.engine.disk.tables import read_parquet, write_csv, write_parquet

pytestmark = pytest.mark.unit

TABLE = pd.DataFrame({"name": ["a", "b"], "loss": [0.5, 1.5]})


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.parquet"
    write_parquet(path, TABLE)
    pd.testing.assert_frame_equal(read_parquet(path, "nothing", texts=["name"], numbers=["loss"]), TABLE)


@pytest.mark.parametrize("text", ["a good\rfilm", "\r", "two\nlines", "two\r\nlines", 'a "b", c', " a ", "é\u2028"])
def test_any_text_comes_back_from_a_csv_file(tmp_path: Path, text: str) -> None:
    """A bare carriage return ended its row."""
    table = pd.DataFrame({"text": [text, "b"], "label": ["x", "y"], "probability": [0.5, 0.25], "number": [1, 2]})
    write_csv(tmp_path / "x.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), table, check_dtype=False)
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["text", text, "b"]


@pytest.mark.parametrize(
    ("texts", "numbers", "wrong"),
    [
        (["other"], [], "has no column 'other'"),
        ([], ["name"], "column 'name' does not have the type"),
        (["loss"], [], "column 'loss' does not have the type"),
    ],
)
def test_a_table_of_other_columns_is_refused(tmp_path: Path, texts: list[str], numbers: list[str], wrong: str) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, TABLE)
    with pytest.raises(UserError, match=f"x.parquet: {wrong}.*; remove it$"):
        read_parquet(path, "remove it", texts=texts, numbers=numbers)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"x.parquet: not readable as parquet .*; remove it$") as refused:
        read_parquet(path, "remove it")
    assert "\n" not in str(refused.value)


def test_a_missing_text_is_refused_and_a_missing_number_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(path, pd.DataFrame({"name": ["a", None], "loss": [0.5, None]}))
    assert len(read_parquet(path, "remove it", numbers=["loss"])) == 2
    with pytest.raises(UserError, match="column 'name' does not have the type"):
        read_parquet(path, "remove it", texts=["name"])
