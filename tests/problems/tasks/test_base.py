"""What every task has from the interface itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from torch import nn

from autolora.configs.parser import parse
from autolora.problems.tasks import make_task
from autolora.problems.tasks.base import Rows, Task


class Plain(Task):
    """Nothing but what must be there."""

    inputs = ("text",)

    def rows(self) -> Rows:
        raise AssertionError("nothing here reads rows")

    def head(self) -> Mapping[str, Any]:
        return {}

    def encode(self, rows: Dataset, tokenizer: Any) -> Dataset:
        return rows

    def collate(self, tokenizer: Any) -> Any:
        return dict

    def metrics(self, outputs: np.ndarray, labels: np.ndarray, rows: Dataset) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(
    ("metrics", "score"),
    [
        ({"f1": 0.25, "accuracy": 0.75}, 0.25),
        ({"accuracy": 0.75, "f1": 0.25}, 0.75),
        ({"loss": 3.0, "accuracy": 0.75}, 0.75),
        ({"mse": 0.5, "pearson": 0.9}, -0.5),
    ],
)
def test_a_choice_maximises_the_metric_named_first_and_makes_an_error_small(
    metrics: dict[str, float], score: float
) -> None:
    assert Plain().score(metrics) == score


def test_one_split_gives_its_own_metrics_and_two_must_be_combined_by_the_task() -> None:
    assert Plain().combine({"validation": {"f1": 0.5}}) == {"f1": 0.5}
    with pytest.raises(ValueError, match="too many values"):
        Plain().combine({"matched": {"f1": 0.5}, "mismatched": {"f1": 0.6}})


def test_unless_it_says_so_a_task_changes_no_model_and_keeps_no_predictions() -> None:
    model = nn.Linear(2, 2)
    forward, before = model.forward, dict(vars(model))
    Plain().adapt(model)  # type: ignore[arg-type]
    assert (model.forward, vars(model)) == (forward, before)
    assert Plain().predictions(np.zeros((1, 2)), np.zeros(1), Dataset.from_dict({"x": [1]})) is None


ORIGINS = {
    "sample": ((), "--task.type: sample", "--task.type: sample"),
    "glue of the hub": (("--task.type", "glue", "--task.glue", "sst2"), *["--task.path: nyu-mll/glue, sst2,"] * 2),
    "e2e": (("--task.type", "generation", "--task.benchmark", "e2e", "--task.path", "e2e"), *["--task.path: e2e"] * 2),
    "text": (("--task.type", "text"), "--task.path: {here}/train.txt", "--task.test_path: {here}/test.txt"),
    "generation": (
        ("--task.type", "generation"),
        "--task.path: {here}/train.txt",
        "--task.test_path: {here}/test.txt",
    ),
    "a folder of sentences": (
        ("--task.type", "tokens", "--task.path", "{here}"),
        "--task.path: {here}/train.txt",
        "--task.test_path: {here}/test.txt",
    ),
}


@pytest.mark.parametrize("case", ORIGINS)
def test_a_task_says_where_its_rows_come_from(tmp_path: Path, case: str) -> None:
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("")
    given, training, evaluation = ORIGINS[case]
    if case in ("text", "generation"):
        given = (*given, "--task.path", "{here}/train.txt", "--task.test_path", "{here}/test.txt")
    task = make_task(parse([word.replace("{here}", str(tmp_path)) for word in given]).config)
    found = task.origin(), task.origin("test")
    assert found == tuple(line.replace("{here}", str(tmp_path)) for line in (training, evaluation))


def test_a_path_of_data_may_begin_at_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},x\nb,y\n")
    given = ["--task.type", "text", "--task.path", "~/train.csv"]
    for split, file in (("validation", "dev"), ("test", "test")):
        rows = make_task(parse([*given, f"--task.{split}_path", f"~/{file}.csv"]).config).rows()
        assert rows.train["text"][:] == ["train", "b"]
        assert rows.evaluation[split]["text"][:] == [file, "b"]
