"""The loss of an evaluation is a mean over labels, and evaluation is in the weights' own precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import BertForSequenceClassification, BertForTokenClassification, TrainingArguments

from autolora.engine.retrain.label_mean import LabelMean
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import Processes
from tests.helpers.heads import NO, TOKENS, collate, rows_with, tiny_bert, tiny_gpt2

WORDS = [*TOKENS, [NO, NO, NO, NO, NO, NO], [NO, 0, 1, 1, 2, 0], [NO, 1, 1, NO, NO, NO]]
"""Of seven rows, one without a label: as a batch of its own its mean is no number."""


def of_classes() -> Any:
    return tiny_bert(BertForSequenceClassification)


def of_numbers() -> Any:
    model = tiny_bert(BertForSequenceClassification, labels=1)
    model.config.problem_type = "regression"
    return model


def of_words() -> Any:
    return tiny_bert(BertForTokenClassification)


KINDS = {
    "classes": (of_classes, [0, 2, 1, 1, 0, 2, 2]),
    "numbers": (of_numbers, [0.5, 2.0, 1.25, 1.0, 0.1, 2.0, 3.3]),
    "words": (of_words, WORDS),
    "next tokens": (tiny_gpt2, WORDS),
}


def trained(model: Any, rows: Dataset, folder: Path, precision: str = "bf16") -> RetrainTrainer:
    """The trainer of `model` after one step on the first four rows."""
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=4, max_steps=1, learning_rate=1e-3, use_cpu=True, report_to="none",
        save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False,
        label_names=["labels"],
    )  # fmt: skip
    trainer = RetrainTrainer(
        model=model,
        args=arguments,
        train_dataset=rows.select(range(4)),
        data_collator=collate,
        compute=Compute(torch.device("cpu"), bf16=precision == "bf16"),
    )
    trainer.train()
    return trainer


def oracle(model: Any, rows: Dataset) -> float:
    """The mean over all labels of all rows, one row at a time, in float64."""
    model = model.double().eval()
    total, count = 0.0, 0
    for row in rows:
        labels = torch.tensor(row["labels"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        if labels.is_floating_point():
            total, count = total + float((logits[0] - labels.double()) ** 2), count + 1
            continue
        if "GPT2" in type(model).__name__:
            logits, labels = logits[:-1], labels[1:]
        total += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        count += int((labels != NO).sum()) if labels.dim() else 1
    return total / count


@pytest.mark.trains
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_over_labels_at_every_batch_size(kind: str, tmp_path: Path) -> None:
    make, labels = KINDS[kind]
    model, rows = make(), rows_with(labels)
    trainer = trained(model, rows, tmp_path)
    losses = []
    for batch in (1, 2, 3, 7, 64):
        trainer.args.per_device_eval_batch_size = batch
        losses.append((trainer.predict(rows).metrics or {})["eval_loss"])
    assert losses == pytest.approx([oracle(model, rows)] * 5, rel=1e-6)


@pytest.mark.trains
def test_rows_of_similar_length_share_a_batch_and_the_outputs_are_in_the_order_of_the_rows(tmp_path: Path) -> None:
    model, rows = of_numbers(), rows_with([float(number) for number in range(7)])
    rows = rows.remove_columns("length").add_column("length", [2, 5, 3, 6, 5, 1, 4])
    trainer = trained(model, rows, tmp_path)
    trainer.args.per_device_eval_batch_size = 3
    batches: list[list[float]] = []

    def seen(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batches.append([row["labels"] for row in batch])
        return collate(batch)

    trainer.data_collator = seen
    output = trainer.predict(rows)
    assert batches == [[3, 1, 4], [6, 2, 0], [5]]
    assert np.asarray(output.label_ids).tolist() == rows["labels"][:]
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(rows["input_ids"][:])).logits
    np.testing.assert_allclose(np.asarray(output.predictions), expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.trains
def test_predictions_after_a_training_in_bf16_are_those_of_the_weights(tmp_path: Path) -> None:
    """In bf16, numbers between 1 and 2 are one of 128."""
    model, rows = of_numbers(), rows_with([float(number) for number in range(300)])
    trained_in: set[torch.dtype] = set()

    def note(module: Any, inputs: Any, output: torch.Tensor) -> None:
        if module.training:
            trained_in.add(output.dtype)

    model.bert.encoder.layer[0].output.dense.register_forward_hook(note)
    found = np.asarray(trained(model, rows, tmp_path).predict(rows).predictions)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(rows["input_ids"][:])).logits
    assert trained_in == {torch.bfloat16}, "the training itself is in bf16"
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)
    assert len(np.unique(found)) > 290


def means(rows: int, batch: int, size: int) -> list[LabelMean]:
    return [LabelMean(rows, Processes(rank, size)) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 10])
@pytest.mark.parametrize("rows", [1, 6, 7])
def test_every_row_counts_once_in_however_many_processes(rows: int, batch: int, size: int) -> None:
    """Trainer hands batch after batch to the processes in turn, and fills the last ones up with other rows."""
    found = means(rows, batch, size)
    steps = -(-rows // (batch * size))
    own = [mean.own(batch) for _ in range(steps) for mean in found]
    assert sum(own) == rows
    assert sorted(own, reverse=True) == own, "the rows that count come first"


def test_a_loss_over_nothing_counts_nothing() -> None:
    (mean,) = means(2, 1, 1)
    mean.add(torch.tensor(float("nan")), 0)
    assert np.isnan(mean.value())
    mean.add(torch.tensor(2.0), 3)
    mean.add(torch.tensor(4.0), 1)
    assert mean.value() == 2.5
