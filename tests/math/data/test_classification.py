"""Labels, heads and metrics of classes and of numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from autolora.configs.tasks import Table
from autolora.problems.tasks.label_scale import LabelScale
from autolora.problems.tasks.texts import Texts


def task_of(*columns: str, metrics: list[str], regression: bool = False, max_length: int = 16) -> Texts:
    kind: Any = "regression" if regression else "classification"
    config = Table(type="text", path="x.csv", text_columns=list(columns), metrics=metrics, kind=kind,
                   max_length=max_length)  # fmt: skip
    return Texts(config, 0)


def test_class_metrics_are_the_definitions() -> None:
    task = task_of("text", metrics=["accuracy", "matthews", "f1_macro"])
    labels = np.array([1, 1, 1, 0, 0, 1])
    predicted = np.array([1, 1, 0, 0, 1, 1])
    found = task.metrics(np.eye(2)[predicted], labels)
    tp, tn, fp, fn = 3, 1, 1, 1
    matthews = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["matthews"] == pytest.approx(matthews)
    assert found["f1_macro"] == pytest.approx((2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2)


def test_number_metrics_are_the_definitions() -> None:
    task = task_of("text", metrics=["spearman", "pearson", "mse"], regression=True)
    labels, outputs = np.array([0.0, 1.0, 2.0, 5.0]), np.array([[0.0], [10.0], [20.0], [30.0]])
    found = task.metrics(outputs, labels)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(np.corrcoef(labels, outputs[:, 0])[0, 1])
    assert found["mse"] == pytest.approx(np.mean((labels - outputs[:, 0]) ** 2))
    constant = task.metrics(np.ones((4, 1)), labels)
    assert (constant["spearman"], constant["pearson"]) == (0.0, 0.0)


@pytest.mark.parametrize("columns", [["text"], ["text", "other"]])
@pytest.mark.parametrize("regression", [False, True])
def test_encoding_gives_tokens_of_text_or_pair_and_labels_of_the_right_type(
    model_folder: Callable[..., Path], columns: list[str], regression: bool
) -> None:
    task = task_of(*columns, metrics=["mse" if regression else "accuracy"], regression=regression, max_length=8)
    task.classes = ["0", "1"]
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bert"))
    labels: list[Any] = [1.0, 0.0] if regression else [1, 0]
    rows = Dataset.from_dict({"text": ["the film", "our room is"], "other": ["dull", "the"], "label": labels})
    encoded = task.encode(rows, tokenizer)
    assert set(encoded.column_names) >= {"input_ids", "attention_mask", "labels", "length"}
    assert not {"text", "other", "label"} & set(encoded.column_names)
    parts = [tokenizer.convert_ids_to_tokens(ids) for ids in encoded["input_ids"]]
    first = ["<s>", "the", "film", "</s>"]
    assert parts[0] == (first if len(columns) == 1 else [*first, "dull", "</s>"])
    assert encoded["length"][:] == [len(part) for part in parts]
    batch = task.collate(tokenizer)([encoded[0], encoded[1]])
    assert batch["labels"].dtype.is_floating_point is regression
    assert batch["labels"].tolist() == labels


@pytest.mark.parametrize(("scale", "predicted"), [(None, [0.5, -1.0]), (LabelScale(10.0, 2.0), [11.0, 8.0])])
def test_numbers_are_predicted_in_the_units_of_the_file(scale: LabelScale | None, predicted: list[float]) -> None:
    task = task_of("text", metrics=["mse"], regression=True)
    task.label_scale = scale
    raw = Dataset.from_dict({"text": ["a", "b"], "label": [11.5, 7.0]})
    found = task.predicted_rows(np.array([[0.5], [-1.0]], dtype=np.float32), raw)
    assert found.to_dict("list") == {"text": ["a", "b"], "label": [11.5, 7.0], "predicted": predicted}
