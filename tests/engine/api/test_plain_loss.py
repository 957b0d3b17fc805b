"""A model's own loss is told apart from the mean log loss of its logits, from which shares are measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import TaskType
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForTokenClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from engine.api import AnswerConfig, UserError
from engine.api.plain_loss import other_loss
from problems.tasks.given import GivenKind, GivenRows, kind_of
from tests.helpers.api import class_rows, classifier, learn, padded
from tests.helpers.untouched import left_as_it_was


def weighted(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with class weights, as for a rare class."""
    return functional.cross_entropy(logits.float(), labels, weight=torch.tensor([1.0, 4.0]))


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """The focal loss with gamma 2."""
    nll = functional.cross_entropy(logits.float(), labels, reduction="none")
    return ((1 - (-nll).exp()).square() * nll).mean()


def huber(logits: Tensor, labels: Tensor) -> Tensor:
    """A robust loss of numbers."""
    return functional.smooth_l1_loss(logits.view(-1), labels.float())


def with_loss(folder: Path, loss: Callable[[Tensor, Tensor], Tensor], **options: Any) -> Any:
    """The tiny classifier whose own forward computes `loss`."""
    model = classifier(folder)
    forward = model.forward

    def own(labels: Tensor | None = None, **inputs: Any) -> SequenceClassifierOutput:
        logits = forward(**inputs).logits
        return SequenceClassifierOutput(
            loss=None if labels is None else loss(logits, labels), logits=logits, **options
        )

    model.forward = own
    return model


def told(model: nn.Module, rows: list[dict[str, Any]], kind: GivenKind | None = None) -> str | None:
    given = GivenRows(rows, padded)
    return other_loss(model, kind or kind_of(TaskType.SEQ_CLS, None, given, plain=True), given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_of_a_transformers_classifier_is_the_log_loss(
    model_folder: Callable[..., Path], dtype: torch.dtype
) -> None:
    assert told(classifier(model_folder()).to(dtype).train(), class_rows()) is None


@pytest.mark.parametrize("loss", [weighted, focal])
def test_another_loss_is_told_with_both_numbers(
    model_folder: Callable[..., Path], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model, rows = with_loss(model_folder(), loss).eval(), class_rows()
    batch = padded(rows)
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch).logits
    own, plain = float(loss(logits, labels)), float(functional.cross_entropy(logits, labels))
    assert told(model, rows) == (
        f"the loss of 32 rows is {own:.4g}, but the mean log loss by the model's logits is {plain:.4g}"
    )


def test_class_weights_are_told_also_where_the_rows_are_sorted_by_class(model_folder: Callable[..., Path]) -> None:
    """As the first rows have one class, their weights cancel."""
    rows = sorted(class_rows(200), key=lambda row: row["labels"])
    assert told(with_loss(model_folder(), weighted), rows) is not None


def test_a_regression_is_compared_by_its_squared_error(model_folder: Callable[..., Path]) -> None:
    rows = [{**row, "labels": row["labels"] + 0.5 + number / 9} for number, row in enumerate(class_rows())]
    kind = GivenKind(TaskType.SEQ_CLS, tells_rows=True, regression=True)
    for loss, same in ((lambda x, y: (x.view(-1) - y).square().mean(), True), (huber, False)):
        model = with_loss(model_folder(), lambda logits, labels, loss=loss: loss(logits[:, :1], labels))
        whole = model.forward

        def one(labels: Tensor | None = None, whole: Any = whole, **inputs: Any) -> SequenceClassifierOutput:
            found = whole(labels=labels, **inputs)
            return SequenceClassifierOutput(loss=found.loss, logits=found.logits[:, :1])

        model.forward = one
        assert (told(model, rows, kind) is None) is same


def test_a_tagger_is_compared_by_its_labelled_tokens(model_folder: Callable[..., Path]) -> None:
    model = AutoModelForTokenClassification.from_pretrained(model_folder(), num_labels=3)
    rows = [{**row, "labels": [-100, *([row["labels"], 2] * 9)][: len(row["input_ids"])]} for row in class_rows()]

    def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = padded([{**example, "labels": 0} for example in examples])
        longest = batch["input_ids"].shape[1]
        tags = [example["labels"] + [-100] * (longest - len(example["labels"])) for example in examples]
        return {**batch, "labels": torch.tensor(tags)}

    given = GivenRows(rows, collate)
    kind = kind_of(TaskType.TOKEN_CLS, None, given, plain=True)
    assert kind.tells_rows
    assert other_loss(model, kind, given) is None


def test_the_loss_of_a_router_is_no_other_loss(model_folder: Callable[..., Path]) -> None:
    model = with_loss(model_folder(), lambda logits, labels: functional.cross_entropy(logits, labels) + 0.1)
    assert told(model, class_rows()) is not None
    forward = model.forward

    def routed(**batch: Any) -> Any:
        found = forward(**batch)
        found.aux_loss = torch.tensor(10.0)
        return found

    model.forward = routed
    assert told(model, class_rows()) is None


def test_a_model_without_logits_is_told(model_folder: Callable[..., Path]) -> None:
    model = with_loss(model_folder(), weighted)
    forward = model.forward
    model.forward = lambda **batch: {"loss": forward(**batch).loss}
    assert told(model, class_rows()) == "the model's output has no logits"


@pytest.mark.trains
def test_a_search_by_class_weights_measures_no_shares_and_says_why(
    model_folder: Callable[..., Path], log_lines: list[str]
) -> None:
    model = with_loss(model_folder(), weighted)
    with left_as_it_was(model):
        learned = learn(model)
    assert learned.record.rule == "threshold"
    assert learned.shares is None
    assert any("by the model's logits is" in line and "shares and the curve are not" in line for line in log_lines)
    with pytest.raises(UserError, match=r"own loss \(here the loss of 32 rows is .*\); allowed here: threshold"):
        learn(model, answer=AnswerConfig(rule="shares"))
