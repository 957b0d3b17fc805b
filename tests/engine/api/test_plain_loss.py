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

from autolora.configs.search import Shares
from autolora.engine.api import UserError
from autolora.engine.api.plain_loss import other_loss
from autolora.problems.tasks.given import GivenKind, GivenRows, kind_of
from tests.helpers.api import class_rows, classifier, learn, padded
from tests.helpers.untouched import left_as_it_was


def weighted(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with class weights, as for a rare class."""
    return functional.cross_entropy(logits.float(), labels, weight=torch.tensor([1.0, 4.0]))


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """The focal loss with gamma 2."""
    nll = functional.cross_entropy(logits.float(), labels, reduction="none")
    return ((1 - (-nll).exp()).square() * nll).mean()


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with label smoothing."""
    return functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)


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
    return other_loss(model, kind or kind_of(TaskType.SEQ_CLS, None, given, plain=True), given, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_of_a_transformers_classifier_is_the_log_loss(
    model_folder: Callable[..., Path], dtype: torch.dtype
) -> None:
    assert told(classifier(model_folder()).to(dtype).train(), class_rows()) is None


@pytest.mark.parametrize("loss", [weighted, focal, smoothed])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_another_loss_is_told_also_by_a_fresh_head(
    model_folder: Callable[..., Path], dtype: torch.dtype, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """A fresh head gives all classes about the same logit, at which these losses are nearly the plain one."""
    for seed in range(5):
        model = with_loss(model_folder(), loss).to(dtype)
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.classifier.weight, std=0.02)
        found = told(model, class_rows())
        assert found is not None
        assert found.startswith("with noise on the logits, the loss of 32 rows is ")


@pytest.mark.parametrize("loss", [None, weighted])
def test_a_head_in_fp32_on_a_model_in_bf16_is_compared(
    model_folder: Callable[..., Path], loss: Callable[[Tensor, Tensor], Tensor] | None
) -> None:
    """Without autocast, its product with the hidden states in bf16 fails."""
    model = classifier(model_folder()) if loss is None else with_loss(model_folder(), loss)
    model.bert.to(torch.bfloat16)
    assert (told(model, class_rows()) is None) == (loss is None)


@pytest.mark.trains
def test_a_model_in_bf16_with_a_head_in_fp32_is_searched(model_folder: Callable[..., Path]) -> None:
    model = classifier(model_folder())
    model.bert.to(torch.bfloat16)
    with left_as_it_was(model):
        learned = learn(model, precision="auto")
    assert learned.ranks
    assert learned.shares is not None


def test_class_weights_are_told_where_one_class_is_rare(model_folder: Callable[..., Path]) -> None:
    """With one class alone the weights cancel."""
    rows = [{**row, "labels": int(number == 77)} for number, row in enumerate(class_rows(200))]
    assert told(with_loss(model_folder(), weighted), rows) is not None
    assert told(classifier(model_folder()), rows) is None


def test_a_loss_past_the_output_of_the_head_is_compared_without_noise(model_folder: Callable[..., Path]) -> None:
    """TRL computes a language model's loss from the weight of its head."""
    model = classifier(model_folder())
    plain = told(model, class_rows())

    def past(model: Any, batch: dict[str, Tensor]) -> Tensor:
        hidden = model.bert(**{name: value for name, value in batch.items() if name != "labels"}).pooler_output
        return functional.cross_entropy(hidden @ model.classifier.weight.T + model.classifier.bias, batch["labels"])

    kind = GivenKind(TaskType.SEQ_CLS, past, tells_rows=True)
    assert plain is None
    assert told(model, class_rows(), kind) is None
    wrong = GivenKind(TaskType.SEQ_CLS, lambda model, batch: 2 * past(model, batch), tells_rows=True)
    assert (told(model, class_rows(), wrong) or "").startswith("the loss of 32 rows is ")


def test_rows_without_labels_and_rows_that_are_fitted_are_not_told_apart(model_folder: Callable[..., Path]) -> None:
    model = AutoModelForTokenClassification.from_pretrained(model_folder(), num_labels=3)
    given = GivenRows(
        class_rows(), lambda examples: {**padded(examples), "labels": torch.full((len(examples), 9), -100)}
    )
    assert other_loss(model, GivenKind(TaskType.TOKEN_CLS, tells_rows=True), given, 8) is None
    fitted = classifier(model_folder()).to(torch.bfloat16)
    with torch.no_grad():
        fitted.classifier.bias.copy_(torch.tensor([9.0, 0.0]))
    assert told(fitted, [{**row, "labels": 0} for row in class_rows()]) is None


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
    assert other_loss(model, kind, given, 8) is None


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
    assert any("by the logits is" in line and "shares and the curve are not" in line for line in log_lines)
    with pytest.raises(
        UserError,
        match=r"not known here: with noise on the logits, the loss of 32 rows is .*; allowed here: threshold",
    ):
        learn(model, answer=Shares())
