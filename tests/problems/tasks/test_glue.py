"""GLUE tasks in the hub's layout, from a folder."""

from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.tasks import Glue as GlueSettings
from autolora.problems.tasks.glue import GLUE, Glue
from autolora.problems.tasks.label_scale import LabelScale
from tests.helpers.glue_folders import folder_of, rows
from tests.helpers.places import SHARED

REAL_FOLDER = SHARED / "glue"
REAL = {"sst2": (67349, 872), "mrpc": (3668, 408), "cola": (8551, 1043), "stsb": (5749, 1500)}


def test_a_task_reads_its_columns_classes_and_split(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "d", "rte", {"train": rows("rte", 1), "validation": rows("rte", 1)})
    task = Glue(GlueSettings(type="glue", glue="rte", path=path), 0)
    found = task.rows()
    assert task.columns == ["sentence1", "sentence2"]
    assert task.classes == ["0", "1"]
    assert list(found.evaluation) == ["validation"]
    assert found.train["label"][:] == [0, 1]
    assert found.train["sentence2"][0] == "some text sentence2"


def test_mnli_is_evaluated_on_both_of_its_splits(tmp_path: Path) -> None:
    splits = {name: rows("mnli", 2) for name in ("train", "validation_matched", "validation_mismatched")}
    task = Glue(GlueSettings(type="glue", glue="mnli", path=folder_of(tmp_path / "d", "mnli", splits)), 0)
    assert list(task.rows().evaluation) == ["validation_matched", "validation_mismatched"]
    by_split = {
        "validation_matched": {"accuracy": 0.5, "loss": 1.0},
        "validation_mismatched": {"accuracy": 0.7, "loss": 2.0},
    }
    assert task.combine(by_split) == pytest.approx(
        {"accuracy": 0.6, "accuracy_matched": 0.5, "accuracy_mismatched": 0.7, "loss": 1.5}
    )


def test_one_split_is_reported_as_it_is() -> None:
    task = Glue(GlueSettings(type="glue", glue="cola"), 0)
    assert task.combine({"validation": {"matthews": 0.3, "loss": 1.0}}) == {"matthews": 0.3, "loss": 1.0}
    assert (task.path, task.evaluation_split) == ("nyu-mll/glue", "validation")


def labelled(folder: Path, train: list[Any], validation: list[Any], name: str = "rte") -> Glue:
    """Task `name` with these labels in a local folder, which gives them no names."""
    splits = {
        split: {column: [f"{split} {n}" for n in range(len(labels))] for column in GLUE[name][0]} | {"label": labels}
        for split, labels in (("train", train), ("validation", validation))
    }
    return Glue(GlueSettings(type="glue", glue=name, path=folder_of(folder / "d", name, splits)), 0)


@pytest.mark.parametrize(
    ("train", "validation", "classes", "learned"),
    [
        ([1, 2, 2], [2, 1], ["1", "2"], [1, 0]),
        ([2, 10, 2], [10, 2], ["2", "10"], [1, 0]),
        (["yes", "no", "yes"], ["no", "yes"], ["no", "yes"], [0, 1]),
        ([1.0, 0.0, 1.0], [0.0, 1.0], ["0", "1"], [0, 1]),
        ([True, False, True], [False, True], ["False", "True"], [0, 1]),
    ],
)
def test_labels_of_a_folder_are_numbered_from_0_by_the_training_rows(
    tmp_path: Path, train: list[Any], validation: list[Any], classes: list[str], learned: list[int]
) -> None:
    task = labelled(tmp_path, train, validation)
    found = task.rows()
    assert task.classes == classes
    assert found.train["label"][:] == [classes.index(str(int(x) if isinstance(x, float) else x)) for x in train]
    assert found.evaluation["validation"]["label"][:] == learned
    assert found.evaluation["validation"]["sentence1"][:] == ["validation 0", "validation 1"]


@pytest.mark.parametrize(
    ("name", "train", "validation", "message"),
    [
        (
            "rte",
            [0, 1],
            [1, 2],
            r"split 'validation' of .*d, row 2 \(counted from 1\): label 2 does not occur .*; known: 0, 1$",
        ),
        (
            "rte",
            ["a", "b"],
            ["a", "z"],
            r"split 'validation' of .*, row 2 \(counted from 1\): label 'z' does not occur .*; known: a, b$",
        ),
        ("rte", [0.0, float("nan"), 1.0], [0.0], r"split 'train' of .* has rows without label"),
        ("rte", [[0], [1]], [[0]], r"column 'label' of split 'train' of .* holds lists or objects; allowed"),
        (
            "rte",
            [n / 7 for n in range(40)],
            [0.0],
            r"column 'label' of split 'train' .*nearly one a row; to learn numbers, set",
        ),
        (
            "stsb",
            ["good", "bad"],
            ["good"],
            r"split 'train' of .*, row 1 \(counted from 1\): label 'good' is not a number",
        ),
        ("stsb", [1.0, 1e39], [1.0], r"split 'train' of .*, row 2 \(counted from 1\): label 1e\+39 is too large"),
        ("stsb", [1.0, 2.0], [float("nan")], r"split 'validation' of .* has rows without label"),
    ],
)
def test_a_label_that_cannot_be_learned_is_named_with_its_row(
    tmp_path: Path, name: str, train: list[Any], validation: list[Any], message: str
) -> None:
    with pytest.raises(UserError, match=rf"^--task\.path: {message}") as caught:
        labelled(tmp_path, train, validation, name).rows()
    assert "\n" not in str(caught.value)


def test_one_number_in_all_training_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^--task\.path: column 'label' of split 'train' of .* has the one number 0\.1; "
    ):
        labelled(tmp_path, [0.1, 0.1, 0.1], [2.0, 3.0], "stsb").rows()


def test_numbers_are_learned_with_mean_0_and_told(tmp_path: Path, log_lines: list[str]) -> None:
    """As they are, STS-B's numbers kept a short search busy with their mean, and it learned nothing."""
    task = labelled(tmp_path, [1.0, 3.0], [2.0], "stsb")
    rows = task.rows()
    assert rows.train["label"][:] == [1.0, 3.0]
    assert task.label_scale == LabelScale(2.0, 1.0)
    assert log_lines == [
        f"INFO data: 2 training rows of {tmp_path / 'd'}, numbers with mean 2 and standard deviation 1; the program "
        f"learns them with mean 0 and standard deviation 1 and converts its predictions"
    ]
    (tmp_path / "other").mkdir()
    labelled(tmp_path / "other", [0, 1], [1]).rows()
    assert len(log_lines) == 1


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": {"text": ["a"], "label": [0]}, "validation": {"text": ["a"], "label": [0]}},
            r"path: split 'train' of .*d has no column sentence; it has: text, label$",
        ),
        (
            {"train": rows("sst2", 1), "validation": {"sentence": ["a"]}},
            r"path: split 'validation' of .*d has rows without label",
        ),
        ({"train": rows("sst2", 1)}, r"evaluation_split: .*d has no split 'validation'; it has: train$"),
    ],
    ids=["train column", "evaluation column", "split"],
)
def test_a_folder_that_lacks_a_column_or_a_split_is_named_with_what_it_has(
    tmp_path: Path, splits: dict[str, dict[str, list[Any]]], message: str
) -> None:
    task = Glue(GlueSettings(type="glue", glue="sst2", path=folder_of(tmp_path / "d", "sst2", splits)), 0)
    with pytest.raises(UserError, match=rf"^--task\.{message}"):
        task.rows()


@pytest.mark.parametrize("text", [5, ["a", "b"], {"a": "b"}])
def test_a_text_that_is_none_is_refused(tmp_path: Path, text: Any) -> None:
    splits = {name: {"sentence": [text, text], "label": [0, 1]} for name in ("train", "validation")}
    task = Glue(GlueSettings(type="glue", glue="sst2", path=folder_of(tmp_path / "d", "sst2", splits)), 0)
    with pytest.raises(
        UserError, match=r"^--task\.path: column 'sentence' of split 'train' of .* holds no texts; allo"
    ):
        task.rows()


def test_hidden_labels_of_validation_have_no_other_split_to_try(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'validation' of .* has hidden labels \(-1\)$"):
        labelled(tmp_path, [0, 1], [-1, -1]).rows()


@pytest.mark.slow
@pytest.mark.skipif(not REAL_FOLDER.exists(), reason="the real GLUE data is not on this machine (../shared/data/glue)")
@pytest.mark.parametrize("name", REAL)
def test_real_glue_has_its_rows_and_classes(name: str) -> None:
    task = Glue(GlueSettings(type="glue", glue=name, path=str(REAL_FOLDER)), 0)
    found = task.rows()
    assert (len(found.train), len(found.evaluation["validation"])) == REAL[name]
    assert task.regression is (name == "stsb")
    expected = {"sst2": ["negative", "positive"], "cola": ["unacceptable", "acceptable"]}
    assert task.classes == expected.get(name, ["not_equivalent", "equivalent"] if name == "mrpc" else [])


MAIN = {"cola": "matthews", "stsb": "spearman"}


@pytest.mark.parametrize("name", GLUE)
def test_the_first_metric_is_the_papers(name: str) -> None:
    task = Glue(GlueSettings(type="glue", glue=name), 0)
    assert next(iter(task._metrics)) == MAIN.get(name, "accuracy")
    assert task.regression is (name == "stsb")
