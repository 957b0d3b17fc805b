"""What every task has from the interface itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from torch import nn

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


def test_unless_it_says_so_a_task_changes_no_model_and_keeps_no_predictions() -> None:
    model = nn.Linear(2, 2)
    forward, before = model.forward, dict(vars(model))
    Plain().adapt(model)  # type: ignore[arg-type]
    assert (model.forward, vars(model)) == (forward, before)
    assert Plain().predictions(np.zeros((1, 2)), np.zeros(1), Dataset.from_dict({"x": [1]})) is None
