"""GLUE tasks from a local folder in the hub's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.errors import UserError
from configs.schema import TaskConfig
from problems.tasks.glue import GLUE, Glue

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "glue"


def folder(tmp_path: Path, name: str, splits: dict[str, pd.DataFrame]) -> str:
    lines = ["---", "configs:", f"- config_name: {name}", "  data_files:"]
    for split, rows in splits.items():
        rows.to_parquet(tmp_path / f"{split}.parquet")
        lines += [f"  - split: {split}", f"    path: {split}.parquet"]
    (tmp_path / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(tmp_path)


def pairs(count: int, columns: tuple[str, ...] = ("premise", "hypothesis"), classes: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {**{c: [f"{c} {i}" for i in range(count)] for c in columns}, "label": np.arange(count) % classes}
    )


def test_mnli_is_reported_matched_mismatched_and_as_their_mean(tmp_path: Path) -> None:
    splits = {"train": pairs(9), "validation_matched": pairs(4), "validation_mismatched": pairs(5)}
    task = Glue(TaskConfig(type="glue", path=folder(tmp_path, "mnli", splits), name="mnli"))
    rows = task.rows()
    assert {name: len(split) for name, split in rows.evaluation.items()} == {
        "validation_matched": 4,
        "validation_mismatched": 5,
    }
    assert task.head()["num_labels"] == 3
    measured = {
        "validation_matched": {"accuracy": 0.5, "loss": 1.0},
        "validation_mismatched": {"accuracy": 1.0, "loss": 3.0},
    }
    assert task.combine(measured) == {
        "accuracy": 0.75,
        "accuracy_matched": 0.5,
        "accuracy_mismatched": 1.0,
        "loss": 2.0,
    }


def test_hidden_labels_are_refused(tmp_path: Path) -> None:
    hidden = pairs(4, ("sentence",), 2).assign(label=-1)
    splits = {"train": pairs(6, ("sentence",), 2), "test": hidden}
    config = TaskConfig(type="glue", path=folder(tmp_path, "sst2", splits), name="sst2", evaluation_split="test")
    with pytest.raises(UserError, match="hidden labels; try validation"):
        Glue(config).rows()


def test_missing_columns_and_splits_are_named(tmp_path: Path) -> None:
    splits = {"train": pairs(6), "validation": pairs(3)}
    config = TaskConfig(type="glue", path=folder(tmp_path, "rte", splits), name="rte")
    with pytest.raises(UserError, match="no column sentence1, sentence2; it has: premise, hypothesis, label"):
        Glue(config).rows()


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(UserError, match=f"allowed: {', '.join(GLUE)}"):
        Glue(TaskConfig(type="glue", name="sst3"))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the real GLUE rows are not here")
@pytest.mark.parametrize(("name", "rows"), [("sst2", 872), ("cola", 1043), ("mrpc", 408), ("stsb", 1500)])
def test_real_tasks_load_whole(name: str, rows: int) -> None:
    task = Glue(TaskConfig(type="glue", path=str(SHARED), name=name))
    assert len(task.rows().evaluation["validation"]) == rows
    assert task.regression == (name == "stsb")


def test_correlations_of_a_constant_prediction_are_zero() -> None:
    task = Glue(TaskConfig(type="glue", name="stsb"))
    assert task.metrics(np.ones((4, 1)), np.arange(4.0)) == {"spearman": 0.0, "pearson": 0.0}
    assert task.metrics(np.arange(4.0)[:, None], np.arange(4.0))["spearman"] == pytest.approx(1.0)
