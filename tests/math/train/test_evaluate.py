"""The evaluation after a training, against sums over one row at a time in float64: a mean over
labels at every batch size, in the precision of the weights."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import TaskType
from torch import nn
from transformers import BertForSequenceClassification, BertForTokenClassification

from autolora.configs.tasks import Chat
from autolora.engine.retrain.judge import Judgement, NotFinite, judge
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute
from autolora.problems.rows import Splits
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.scoring import Scoring, scoring_of
from tests.helpers.encoded import encoded
from tests.helpers.heads import NO, TOKENS, collate, rows_with, tiny_bert, tiny_gpt2

WORDS = [*TOKENS, [NO, NO, NO, NO, NO, NO], [NO, 0, 1, 1, 2, 0], [NO, 1, 1, NO, NO, NO]]
"""Of seven rows, one without a label: as a batch of its own its mean is no number."""


KINDS: dict[str, tuple[type, int, list[Any]]] = {
    "classes": (BertForSequenceClassification, 3, [0, 2, 1, 1, 0, 2, 2]),
    "numbers": (BertForSequenceClassification, 1, [0.5, 2.0, 1.25, 1.0, 0.125, 2.0, 3.25]),
    "words": (BertForTokenClassification, 3, WORDS),
}
"""The model, its outputs, and the labels."""


def oracle(model: Any, rows: Dataset) -> tuple[list[float], int, int]:
    """The loss of each row, summed over its labels; how many labels have the largest logit; and how
    many there are."""
    model = model.double().eval()
    losses = []
    hits = 0
    count = 0
    for row in rows:
        labels = torch.tensor(row["labels"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        if labels.is_floating_point():
            losses.append(float((logits[0] - labels.double()) ** 2))
            count += 1
            continue
        if "GPT2" in type(model).__name__:
            logits = logits[:-1]
            labels = labels[1:]
        losses.append(float(nn.functional.cross_entropy(logits, labels, reduction="sum")))
        hits += int(((logits.argmax(-1) == labels) & (labels != NO)).sum())
        count += int((labels != NO).sum()) if labels.dim() else 1
    model.float()
    return losses, hits, count


class Outputs:
    """A task that keeps what the evaluation gives it: of words the place of the largest logit, else
    the logits."""

    def predicted(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.argmax(-1) if logits.dim() == 3 else logits

    def metrics(self, predicted: np.ndarray, rows: Dataset, loss: float) -> dict[str, float]:
        return {"mean": float(predicted.mean())}

    def predictions(self, predicted: np.ndarray, rows: Dataset) -> pd.DataFrame:
        return pd.DataFrame(predicted)


WORLD = World(Compute(torch.device("cpu"), bf16=True))


def scoring(*, regression: bool = False) -> Scoring:
    task: Any = Outputs()
    return Scoring(TaskType.SEQ_CLS, regression=regression, task=task)


def judged(of: Scoring, model: Any, rows: Dataset, batch: int) -> Judgement:
    encoded_rows = encoded(rows, collate)
    return judge(model, Splits(encoded_rows, {"a": encoded_rows}), of, WORLD, batch=batch)


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_over_labels_and_the_predictions_are_in_the_order_of_the_rows(
    kind: str, batch: int
) -> None:
    model_class, outputs, labels = KINDS[kind]
    model = tiny_bert(model_class, outputs)
    rows = rows_with(labels)
    rows = rows.remove_columns("length").add_column("length", [2, 5, 3, 6, 5, 1, 4])
    found = judged(scoring(regression=kind == "numbers"), model, rows, batch)
    losses, _, count = oracle(model, rows)
    assert found.metrics["loss"] == pytest.approx(sum(losses) / count, rel=1e-5)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(rows["input_ids"][:])).logits
    expected = expected.argmax(-1) if kind == "words" else expected
    assert found.predicted_rows is not None
    table = found.predicted_rows.to_numpy()[:, : expected.shape[1]]
    np.testing.assert_allclose(table, expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_loss_and_the_accuracy_of_tokens_are_over_all_labels_at_every_batch_size(
    batch: int,
) -> None:
    model = tiny_gpt2()
    rows = rows_with(WORDS)
    losses, hits, count = oracle(model, rows)
    task = Conversations(Chat(type="chat", path="x"))
    found = judged(scoring_of(task), model, rows, batch)
    assert found.metrics["loss"] == pytest.approx(sum(losses) / count, rel=1e-5)
    assert found.metrics["token_accuracy"] == pytest.approx(hits / count)
    assert found.row_losses is not None
    assert found.row_losses["weight"].tolist() == [
        sum(label != NO for label in labels[1:]) for labels in WORDS
    ]


def test_several_splits_are_measured_each_by_itself_and_the_mean_first() -> None:
    one = rows_with([0, 1, 2])
    other = rows_with([1, 1, 0, 2])
    splits = {"validation_matched": one, "validation_mismatched": other}
    evaluation = {name: encoded(rows, collate) for name, rows in splits.items()}
    data = Splits(encoded(one, collate), evaluation)
    model = tiny_bert(BertForSequenceClassification)
    found = judge(model, data, scoring(), WORLD, batch=8)
    alone = [judged(scoring(), model, rows, 8).metrics for rows in (one, other)]
    means = {name: (alone[0][name] + alone[1][name]) / 2 for name in ("mean", "loss")}
    assert found.metrics == pytest.approx(
        {**means, "mean_matched": alone[0]["mean"], "mean_mismatched": alone[1]["mean"]}
    )
    assert found.predicted_rows is not None
    assert (
        found.predicted_rows["split"].tolist()
        == ["validation_matched"] * 3 + ["validation_mismatched"] * 4
    )


def test_a_loss_that_is_not_finite_is_told() -> None:
    model = tiny_bert(BertForSequenceClassification)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    with pytest.raises(
        NotFinite, match=r"^--retrain\.learning_rate: the loss on the evaluation rows is not finite"
    ):
        judged(scoring(), model, rows_with([0, 1, 2]), 8)
