"""GLUE tasks in the hub's layout, from a folder."""

from pathlib import Path

import pytest

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.glue import Glue
from tests.helpers.glue_folders import folder_of, rows
from tests.helpers.places import SHARED

REAL_FOLDER = SHARED / "glue"
REAL = {"sst2": (67349, 872), "mrpc": (3668, 408), "cola": (8551, 1043), "stsb": (5749, 1500)}


def test_a_task_reads_its_columns_classes_and_split(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "d", "rte", {"train": rows("rte", 1), "validation": rows("rte", 1)})
    task = Glue(TaskConfig(type="glue", name="rte", path=path))
    found = task.rows()
    assert task.columns == ["sentence1", "sentence2"]
    assert task.classes == ["0", "1"]
    assert list(found.evaluation) == ["validation"]
    assert found.train["label"][:] == [0, 1]
    assert found.train["sentence2"][0] == "some text sentence2"


def test_mnli_is_evaluated_on_both_of_its_splits(tmp_path: Path) -> None:
    splits = {name: rows("mnli", 2) for name in ("train", "validation_matched", "validation_mismatched")}
    task = Glue(TaskConfig(type="glue", name="mnli", path=folder_of(tmp_path / "d", "mnli", splits)))
    assert list(task.rows().evaluation) == ["validation_matched", "validation_mismatched"]
    by_split = {
        "validation_matched": {"accuracy": 0.5, "loss": 1.0},
        "validation_mismatched": {"accuracy": 0.7, "loss": 2.0},
    }
    assert task.combine(by_split) == pytest.approx(
        {"accuracy": 0.6, "accuracy_matched": 0.5, "accuracy_mismatched": 0.7, "loss": 1.5}
    )


def test_one_split_is_reported_as_it_is() -> None:
    task = Glue(TaskConfig(type="glue", name="cola"))
    assert task.combine({"validation": {"matthews": 0.3, "loss": 1.0}}) == {"matthews": 0.3, "loss": 1.0}
    assert (task.path, task.evaluation_split) == ("nyu-mll/glue", "validation")


def test_an_unknown_task_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"^--task\.name: 'imdb' is not allowed; allowed: cola, sst2, "):
        Glue(TaskConfig(type="glue", name="imdb"))


@pytest.mark.slow
@pytest.mark.skipif(not REAL_FOLDER.exists(), reason="the real GLUE data is not on this machine (../shared/data/glue)")
@pytest.mark.parametrize("name", REAL)
def test_real_glue_has_its_rows_and_classes(name: str) -> None:
    task = Glue(TaskConfig(type="glue", name=name, path=str(REAL_FOLDER)))
    found = task.rows()
    assert (len(found.train), len(found.evaluation["validation"])) == REAL[name]
    assert task.regression is (name == "stsb")
    expected = {"sst2": ["negative", "positive"], "cola": ["unacceptable", "acceptable"]}
    assert task.classes == expected.get(name, ["not_equivalent", "equivalent"] if name == "mrpc" else [])
