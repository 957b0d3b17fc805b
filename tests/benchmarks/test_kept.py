"""The CSV file of trainings: what is read, written and refused, whichever benchmark keeps it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from benchmarks.kept import Layout, gathered, refuse_mixed

LAYOUT = Layout(["task", "seed", "score"], {"task"}, perhaps={"score"})


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Also a task whose name pandas takes for a missing value, and one that is a number."""
    table = pd.DataFrame([["null", 0, None], ["1", 1, 2.0]], columns=LAYOUT.columns)
    LAYOUT.write(table, tmp_path / "new" / "kept.csv")
    assert (tmp_path / "new" / "kept.csv").read_text() == "task,seed,score\nnull,0,\n1,1,2.000000\n"
    pd.testing.assert_frame_equal(LAYOUT.read(tmp_path / "new" / "kept.csv"), table, check_dtype=False)


@pytest.mark.parametrize(
    ("content", "further", "named"),
    [
        ("", "", "cannot be read as a CSV file: "),
        ("task,seed,score\na,1,2\na,1,2,3\n", "", "Expected 3 fields in line 3, saw 4$"),
        ("task,seed,score,x\na,1,2,3\n", "", "it must have the columns task, seed, score$"),
        ("task,seed,score\na,1,2\n", "one a layer", "it must have the columns task, seed, score and one a layer$"),
        ("task,seed,score,x\na,1,2,y\n", "one a layer", "in the column x, every row must have a number$"),
        ("task,seed,score\n,1,2\n", "", "in the column task, every row must have a text$"),
        ("task,seed,score\na,,2\n", "", "in the column seed, every row must have a number$"),
        ("task,seed,score\na,1,nan\n", "", "in the column score, every row must have a number or nothing$"),
    ],
)
def test_a_file_that_is_no_such_table_is_named(tmp_path: Path, content: str, further: str, named: str) -> None:
    path = tmp_path / "kept.csv"
    layout = Layout(LAYOUT.columns, LAYOUT.texts, LAYOUT.perhaps, further=further)
    with pytest.raises(UserError, match=f"^{path}: cannot be read as a CSV file: "):
        layout.read(path)
    path.write_text(content)
    with pytest.raises(UserError, match=rf"^{path}: [^\n]*{named}"):
        layout.read(path)


def test_each_part_of_a_digest_is_compared_within_its_group_where_it_is_known() -> None:
    def refuse(*rows: tuple[str, int, str]) -> None:
        table = pd.DataFrame(rows, columns=["task", "seed", "digest"])
        refuse_mixed(table, ["task"], "digest", "seed {seed}", "rows")

    refuse(("a", 0, "x.y"), ("a", 1, "x"), ("a", 2, ""), ("a", 3, "x.y.z"), ("b", 0, "z"))
    with pytest.raises(UserError, match=r"^a: the trainings seed 1 and seed 2 have other rows$"):
        refuse(("b", 0, "x"), ("a", 0, "x"), ("a", 1, "x.y"), ("a", 2, "x.z"))


def test_studies_are_added_to_the_table_and_a_table_alone_is_not_written(tmp_path: Path) -> None:
    """Here a training is a word: that of a study is the name of its folder."""
    path = tmp_path / "kept.csv"
    words: Any = SimpleNamespace(
        of_study=lambda root: [root.name],
        read_table=lambda path: path.read_text().split(),
        joined=lambda parts: sorted(set().union(*parts)),
        write_table=lambda found, path: path.write_text(" ".join(found)),
    )
    with pytest.raises(UserError, match=r"^--study, --table: give at least one of them, with trainings to read$"):
        gathered(words, str(path), [], "--study")
    assert gathered(words, None, ["b"]) == ["b"]
    assert gathered(words, str(path), ["b", "a"]) == ["a", "b"]
    assert gathered(words, str(path), ["b", "c"]) == ["a", "b", "c"]
    assert path.read_text() == "a b c"
    path.write_text("b  a")
    assert gathered(words, str(path), []) == ["a", "b"]
    assert path.read_text() == "b  a"
