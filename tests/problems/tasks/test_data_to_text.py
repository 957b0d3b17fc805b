"""Records from folders in the hub's layout and from users' tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.data_to_text import E2E, SourceTarget, WebNLG
from tests.generation_toys import write_e2e

SHARED = Path(__file__).parents[4] / "shared" / "data"


def table(path: Path, **changes: Any) -> SourceTarget:
    return SourceTarget(TaskConfig(type="generation", path=str(path), **changes), seed=0)


def test_e2e_from_a_folder(tmp_path: Path) -> None:
    path = str(write_e2e(tmp_path / "d"))
    task = E2E(TaskConfig(type="generation", name="e2e", path=path, metrics=["bleu"]))
    rows = task.rows()
    assert len(rows.train) == 24
    assert list(rows.evaluation) == ["test"]
    test = rows.evaluation["test"]
    assert test["source"][0] == "name : The Mill | Type : pub | area : riverside"
    assert [len(x) for x in test["references"]] == [2, 2, 2, 2]
    task = E2E(TaskConfig(type="generation", name="e2e", path=path, metrics=["bleu"], evaluation_split="dev"))
    with pytest.raises(UserError, match=r"no split 'dev'; it has: train, validation, test"):
        task.rows()


def test_without_a_test_split_the_validation_split_is_reported(tmp_path: Path) -> None:
    path = write_e2e(tmp_path / "d")
    (path / "test.jsonl").unlink()
    task = E2E(TaskConfig(type="generation", name="e2e", path=str(path), metrics=["bleu"]))
    assert list(task.rows().evaluation) == ["validation"]
    assert task.evaluation_split == "validation"


def test_a_folder_of_other_data_is_named_with_its_columns(tmp_path: Path) -> None:
    path = str(write_e2e(tmp_path / "d"))
    with pytest.raises(UserError, match=r"is not webnlg data .*meaning_representation, human_reference"):
        WebNLG(TaskConfig(type="generation", name="webnlg", path=path, metrics=["bleu"])).rows()


def test_a_users_table_groups_by_source_and_holds_whole_sources_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pairs = [(f"s{i}", f"t{i}{j}") for j in range(3) for i in range(10)]
    pd.DataFrame(pairs, columns=["data", "text"]).to_csv(path, index=False)
    task = table(path, text_columns=["data"], label_column="text", holdout_share=0.2)
    rows = task.rows()
    held_out = rows.evaluation["validation"]
    assert task.name == "mine"
    assert len(held_out) == 2
    assert all(len(found) == 3 for found in held_out["references"])
    assert len(rows.train) == 24
    assert not set(held_out["source"]) & set(rows.train["source"])


def test_a_list_of_targets_is_several_references(tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text(json.dumps({"source": "a", "target": "one"}) + "\n")
    test.write_text(json.dumps({"source": "b", "target": ["two", "three"]}) + "\n")
    rows = table(train, test_path=str(test)).rows()
    assert rows.evaluation["test"]["references"][:] == [["two", "three"]]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"source": "a"}], "has no column target; it has: source"),
        ([{"source": "a", "target": "x"}, {"source": " ", "target": "x"}], "row 2: column 'source' has no text"),
        ([{"source": "a", "target": []}, {"source": "b", "target": ["x"]}], "row 1: column 'target' has no text"),
        ([{"source": "a", "target": "x"}], "has one source"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, lines: list[dict[str, Any]], words: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=words):
        table(path).rows()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the real data is not here")
def test_the_real_data_is_read_whole() -> None:
    def rows(kind: Any, name: str) -> Any:
        return kind(TaskConfig(type="generation", name=name, path=str(SHARED / folder), metrics=["bleu"])).rows()

    folder = "e2e_nlg"
    found = rows(E2E, "e2e")
    assert (len(found.train), len(found.evaluation["test"])) == (42061, 630)
    folder = "webnlg2017"
    found = rows(WebNLG, "webnlg")
    assert len(found.evaluation["validation"]) == 872
