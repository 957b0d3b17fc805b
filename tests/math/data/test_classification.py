"""Labels, heads and metrics of classes and of numbers."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from autolora.configs.tasks import Table
from autolora.problems.tasks.texts import Texts


def task_of(path: Path, rows: dict[str, list[Any]], **settings: Any) -> Texts:
    """The task of these rows, which are also evaluated."""
    pd.DataFrame(rows).to_parquet(path)
    given = {"path": str(path), "validation_path": str(path), "max_length": 8}
    return Texts(Table(type="text", **{**given, **settings}), 0)


def test_class_metrics_are_the_definitions(tmp_path: Path) -> None:
    task = task_of(tmp_path / "a.parquet", {"text": ["a"]}, metrics=["accuracy", "matthews", "f1_macro"])
    labels, predicted = [1, 1, 1, 0, 0, 1], torch.tensor([1, 1, 0, 0, 1, 1])
    found = task.predicted(torch.eye(2)[predicted] * 3, torch.tensor(labels))
    assert found[0].tolist() == pytest.approx([1, 1 / (1 + math.exp(-3))]), "the class and its probability"
    metrics = task.metrics(found.numpy(), Dataset.from_dict({"labels": labels}), 0.0)
    tp, tn, fp, fn = 3, 1, 1, 1
    matthews = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["matthews"] == pytest.approx(matthews)
    assert metrics["f1_macro"] == pytest.approx((2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2)


@pytest.mark.parametrize("own_units", [False, True])
def test_number_metrics_are_the_definitions_in_the_units_of_the_file(tmp_path: Path, own_units: bool) -> None:
    """Labels 8 and 12 have mean 10 and deviation 2."""
    settings: dict[str, Any] = {"metrics": ["spearman", "pearson", "mse"], "kind": "regression"}
    task = task_of(tmp_path / "a.parquet", {"text": ["a", "b"], "label": [8.0, 12.0]}, **settings)
    task = replace(task, own_units=own_units)
    rows = Dataset.from_dict({"labels": [8.0, 12.0, 10.0], "texts": [["a"], ["b"], ["c"]]})
    outputs = torch.tensor([[0.5], [1.0], [-1.0]])
    found = task.predicted(outputs, torch.tensor(rows["labels"][:])).numpy()
    said = np.array([0.5, 1.0, -1.0]) if own_units else np.array([11.0, 12.0, 8.0])
    metrics = task.metrics(found, rows, 0.0)
    assert metrics["mse"] == pytest.approx(np.mean((np.array(rows["labels"][:]) - said) ** 2))
    assert metrics["pearson"] == pytest.approx(np.corrcoef(rows["labels"][:], said)[0, 1])
    assert metrics["spearman"] == pytest.approx(0.5)
    table = task.predictions(found, rows).to_dict("list")
    assert table == {"text": ["a", "b", "c"], "label": [8.0, 12.0, 10.0], "predicted": pytest.approx(said.tolist())}
    constant = task.metrics(np.ones((3, 1)), rows, 0.0)
    assert (constant["spearman"], constant["pearson"]) == (0.0, 0.0)


def test_encoding_gives_the_tokens_of_a_pair_padded_to_its_batch(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    rows: dict[str, list[Any]] = {"text": ["the film", "our room is"], "other": ["dull", "the"], "label": [1, 0]}
    task = task_of(tmp_path / "a.parquet", rows, text_columns=["text", "other"])
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bert"))
    encoded = task.encode(task.raw.train, tokenizer)
    parts = [tokenizer.convert_ids_to_tokens(ids) for ids in encoded["input_ids"]]
    assert parts[0] == ["<s>", "the", "film", "</s>", "dull", "</s>"]
    assert encoded["length"][:] == [len(part) for part in parts]
    batch = task.collate(tokenizer)([encoded[0], encoded[1]])
    assert type(batch) is dict
    assert set(batch) == set(tokenizer.model_input_names) | {"labels"}
    assert (batch["labels"].tolist(), batch["input_ids"].shape[1]) == ([1, 0], 8)
