"""A model's own loss is told apart from the mean log loss of its logits, from which shares are measured."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from tests.helpers.api import class_rows, classifier, learn

pytestmark = pytest.mark.trains

Loss = Callable[[Tensor, Tensor], Tensor]


def weighted(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with class weights, as for a rare class."""
    return functional.cross_entropy(logits.float(), labels, weight=torch.tensor([1.0, 4.0]))


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """The focal loss with gamma 2."""
    nll = functional.cross_entropy(logits.float(), labels, reduction="none")
    return ((1 - (-nll).exp()).square() * nll).mean()


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean squared error of numbers."""
    return (logits.view(-1).float() - labels).square().mean()


def huber(logits: Tensor, labels: Tensor) -> Tensor:
    """A robust loss of numbers."""
    return functional.smooth_l1_loss(logits.view(-1).float(), labels)


def of_logits(loss: Loss) -> Callable[[Any, dict[str, Tensor]], Tensor]:
    """The loss as a script gives it."""
    return lambda model, batch: loss(
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    )


@pytest.mark.parametrize(
    ("loss", "dtype", "measured"),
    [
        (functional.cross_entropy, torch.float32, True), (functional.cross_entropy, torch.bfloat16, True),
        (weighted, torch.float32, False), (weighted, torch.bfloat16, False), (focal, torch.float32, False),
    ],
)  # fmt: skip
def test_a_loss_other_than_the_log_loss_gives_ranks_by_size_and_a_warning(
    model_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture, loss: Loss, dtype: torch.dtype, measured: bool
) -> None:
    """Also where the first rows have one class, in which class weights cancel."""
    rows = sorted(class_rows(96), key=lambda row: row["labels"])
    with caplog.at_level(logging.WARNING, "autolora"):
        learned = learn(classifier(model_folder()).to(dtype), rows, loss=of_logits(loss), precision="auto")
    assert (learned.shares is not None) == measured
    assert ("the loss of 64 rows is" in caplog.text) == (not measured)
    assert learned.record.rule == ("shares" if measured else "size")
    if not measured:
        assert sum(learned.ranks.values()) == 4 * 2  # half of k in every layer


@pytest.mark.parametrize(("loss", "measured"), [(squared, True), (huber, False)])
def test_a_regression_is_compared_by_its_squared_error(
    model_folder: Callable[..., Path], loss: Loss, measured: bool
) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=1)
    rows = [{**row, "labels": row["labels"] + 0.5 + number / 9} for number, row in enumerate(class_rows())]
    assert (learn(model, rows, loss=of_logits(loss)).shares is not None) == measured


def test_validation_rows_are_never_mixed_with_train_rows(model_folder: Callable[..., Path]) -> None:
    """The train rows have class 0 alone, the validation rows class 1."""
    classes: list[set[int]] = []

    def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
        classes.append(set(batch["labels"].tolist()))
        return of_logits(functional.cross_entropy)(model, batch)

    rows = [[row for row in class_rows(48) if row["labels"] == label] for label in (0, 1)]
    answer = {"rule": "threshold", "rows": 0}
    learn(classifier(model_folder()), rows[0], validation_dataset=rows[1], loss=loss, answer=answer)
    assert {0} in classes
    assert {1} in classes
    assert {0, 1} not in classes[:-1], "the last one compares the loss with the log loss"
