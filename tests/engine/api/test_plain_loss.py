"""A model's own loss is told apart from the mean log loss of its logits, from which shares are measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from autolora.engine.api.plain_loss import NEEDS, unmeasured
from autolora.problems.machine.compute import Compute
from autolora.problems.tasks.given import GivenKind, GivenRows, kind_of
from tests.helpers.api import class_rows, classifier, learn, padded
from tests.helpers.chat_toys import save_chat_model
from tests.helpers.untouched import left_as_it_was

CPU = Compute(torch.device("cpu"), bf16=False)


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


def searched(model: Any) -> Any:
    """With a head that tells the classes apart, as after a search."""
    with torch.no_grad():
        model.classifier.weight.normal_(std=1.0)
    return model


def told(model: nn.Module, rows: list[dict[str, Any]], kind: GivenKind | None = None) -> str:
    given = GivenRows(rows, padded)
    return unmeasured(model, kind or kind_of(TaskType.SEQ_CLS, None, given, plain=True), given, CPU)


@pytest.mark.parametrize("loss", [None, weighted, focal, smoothed])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_other_than_the_log_loss_is_told(
    model_folder: Callable[..., Path], dtype: torch.dtype, loss: Callable[[Tensor, Tensor], Tensor] | None
) -> None:
    model = classifier(model_folder()) if loss is None else with_loss(model_folder(), loss)
    model = searched(model).to(dtype)
    ids = padded(class_rows())
    with torch.no_grad():  # most rows are learned
        labels = model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).logits.argmax(-1).tolist()
    rows = [row | {"labels": label} for row, label in zip(class_rows(), labels, strict=True)]
    found = told(model, rows[:24] + class_rows()[24:])
    assert found == "" if loss is None else found.startswith("the loss of 32 rows is ")


@pytest.mark.trains
def test_a_model_in_bf16_with_a_head_in_fp32_is_searched(model_folder: Callable[..., Path]) -> None:
    model = classifier(model_folder())
    model.bert.to(torch.bfloat16)
    with left_as_it_was(model):
        learned = learn(model, precision="auto")
    assert learned.ranks
    assert learned.shares is not None


def test_rows_without_labels_and_rows_that_are_fitted_are_not_told_apart(model_folder: Callable[..., Path]) -> None:
    model = AutoModelForTokenClassification.from_pretrained(model_folder(), num_labels=3)
    given = GivenRows(
        class_rows(), lambda examples: {**padded(examples), "labels": torch.full((len(examples), 9), -100)}
    )
    assert unmeasured(model, GivenKind(TaskType.TOKEN_CLS, tells_rows=True), given, CPU) == ""
    fitted = classifier(model_folder()).to(torch.bfloat16)
    with torch.no_grad():
        fitted.classifier.bias.copy_(torch.tensor([9.0, 0.0]))
    assert told(fitted, [{**row, "labels": 0} for row in class_rows()]) == ""


def test_class_weights_are_told_also_where_the_rows_are_sorted_by_class(model_folder: Callable[..., Path]) -> None:
    """As the first rows have one class, their weights cancel."""
    rows = sorted(class_rows(200), key=lambda row: row["labels"])
    assert told(searched(with_loss(model_folder(), weighted)), rows)


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
        assert (told(model, rows, kind) == "") is same


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
    assert unmeasured(model, kind, given, CPU) == ""


def test_the_loss_of_a_router_is_no_other_loss(model_folder: Callable[..., Path]) -> None:
    model = with_loss(model_folder(), lambda logits, labels: functional.cross_entropy(logits, labels) + 0.1)
    assert told(model, class_rows())
    forward = model.forward

    def routed(**batch: Any) -> Any:
        found = forward(**batch)
        found.aux_loss = torch.tensor(10.0)
        return found

    model.forward = routed
    assert told(model, class_rows()) == ""


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
    assert learn(model, answer={"rule": "size", "budget": 1.0}).record.rule == "size"


def test_batches_without_a_row_of_labels_for_each_example_are_not_measured(model_folder: Callable[..., Path]) -> None:
    assert told(classifier(model_folder()), class_rows(), GivenKind(TaskType.SEQ_CLS)) == NEEDS


@pytest.mark.trains
def test_a_language_model_without_a_task_type_is_measured_as_one_with_it(tmp_path: Path, log_lines: list[str]) -> None:
    def learned(**more: Any) -> Any:
        given = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **more)
        model = AutoModelForCausalLM.from_pretrained(save_chat_model(tmp_path / "model"))
        rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in class_rows()]
        return learn(model, rows, given, collate=next_tokens)

    found = learned()
    assert found.shares is not None
    assert any("CAUSAL_LM is taken" in line for line in log_lines)
    assert found.record == learned(task_type="CAUSAL_LM").record


def next_tokens(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch in which every token is learned."""
    batch = padded([{**example, "labels": 0} for example in examples])
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}
