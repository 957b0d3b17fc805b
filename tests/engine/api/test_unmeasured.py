"""Why shares are not measured on a script's rows, and what a script can do about it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, TaskType
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, DataCollatorWithFlattening

from autolora.engine.api import AnswerConfig, UserError, learn_ranks_from_trainer
from autolora.engine.api.unmeasured import why_unmeasured, with_task_type
from autolora.problems.tasks.given import GivenRows, kind_of
from tests.helpers.api import SHORT, class_rows, classifier, learn, padded
from tests.helpers.chat_toys import chat_rows, save_chat_model

LABELLED = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in class_rows()]


def language_model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(save_chat_model(folder / "model"))


def next_tokens(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch in which every token is learned."""
    batch = padded([{**example, "labels": 0} for example in examples])
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


def lora(**changes: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"], **changes})


def labelled(shape: Sequence[int], dtype: torch.dtype = torch.long) -> Callable[[list[Any]], dict[str, Tensor]]:
    """A collator whose labels have this shape."""
    return lambda examples: {"labels": torch.zeros(*shape, dtype=dtype)}


def why(collate: Callable[[list[Any]], Any], task_type: Any = "CAUSAL_LM", model: Any = None, **options: Any) -> str:
    rows = GivenRows(LABELLED, collate)
    kind = kind_of(task_type, None, rows, **{"plain": True, **options})
    return why_unmeasured(kind, model or nn.Linear(2, 2), rows, **{"plain": True, **options})


@pytest.mark.trains
def test_a_language_model_without_a_task_type_is_measured_as_one_with_it(tmp_path: Path, log_lines: list[str]) -> None:
    """The rule had silently become threshold, the paper's."""
    model, given = language_model(tmp_path), lora()
    found = learn(model, LABELLED, given, collate=next_tokens)
    assert found.shares is not None
    assert given.task_type is None, "the script's config stays what it is"
    assert "INFO lora_config: has no task_type; CAUSAL_LM is taken, as the model is a LlamaForCausalLM" in log_lines
    assert found.record == learn(model, LABELLED, lora(task_type="CAUSAL_LM"), collate=next_tokens).record
    assert found.lora_config.task_type == "CAUSAL_LM"


def test_a_task_type_is_taken_only_from_a_language_model(model_folder: Callable[..., Path]) -> None:
    """That of a classifier would make PEFT train the head, too."""
    for model in (classifier(model_folder("bert")), nn.Linear(2, 2)):
        assert with_task_type(lora(), model).task_type is None
    assert with_task_type(lora(task_type="SEQ_2_SEQ_LM"), nn.Linear(2, 2)).task_type == "SEQ_2_SEQ_LM"


@pytest.mark.trains
def test_a_classifier_without_a_task_type_is_warned_with_the_remedy(
    model_folder: Callable[..., Path], log_lines: list[str]
) -> None:
    config = lora(target_modules=["query"])
    learned = learn(classifier(model_folder("bert")), config=config)
    assert (learned.shares, learned.record.rule) == (None, "threshold")
    assert (
        "WARNING answer: shares and the curve are not measured, and rule threshold chooses the ranks by alpha: "
        "lora_config has no task_type; give task_type='SEQ_CLS', with which PEFT trains the head, too"
    ) in log_lines
    log_lines.clear()
    learn(classifier(model_folder("bert")), config=config, answer=AnswerConfig(rule="threshold"))
    assert any(line.startswith("INFO answer: shares and the curve are not measured: lora") for line in log_lines)
    with pytest.raises(UserError, match=r"not known here: lora_config has no task_type; give .*; allowed here: thres"):
        learn(classifier(model_folder("bert")), config=config, answer=AnswerConfig())


@pytest.mark.trains
def test_packed_batches_are_named(tmp_path: Path, log_lines: list[str]) -> None:
    model = language_model(tmp_path)
    packed = DataCollatorWithFlattening()
    assert learn(model, LABELLED, lora(), collate=packed).shares is None
    assert any("by alpha: the batches are packed; packing=False" in line for line in log_lines)
    with pytest.raises(UserError, match=r"not known here: the batches are packed; packing=False and .* of its own; "):
        learn(model, LABELLED, lora(), collate=packed, answer=AnswerConfig())


@pytest.mark.slow
@pytest.mark.trains
def test_trl_without_a_task_type_is_measured_and_its_packing_is_named(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")

    def trainer(**changes: Any) -> Any:
        args = trl.SFTConfig(
            output_dir=str(tmp_path / "out"), report_to=[], use_cpu=True, bf16=False, max_length=64,
            per_device_train_batch_size=4, learning_rate=1e-2, **changes,
        )  # fmt: skip
        return trl.SFTTrainer(language_model(tmp_path), args, train_dataset=Dataset.from_list(chat_rows()))

    assert learn_ranks_from_trainer(trainer(), lora(target_modules="all-linear"), search=SHORT).shares is not None
    with pytest.raises(UserError, match=r"not known here: the batches are packed; packing=False"):
        learn_ranks_from_trainer(trainer(packing=True), lora(), search=SHORT, answer=AnswerConfig())


@pytest.mark.parametrize(
    ("collate", "task_type", "options", "clause"),
    [
        (next_tokens, "CAUSAL_LM", {}, ""),
        (next_tokens, "CAUSAL_LM", {"plain": False}, "the loss is not the model's own"),
        (next_tokens, None, {}, "has no task_type; give one of 'SEQ_CLS', 'TOKEN_CLS', 'CAUSAL_LM'"),
        (next_tokens, "SEQ_2_SEQ_LM", {}, "task_type SEQ_2_SEQ_LM is none of SEQ_CLS, TOKEN_CLS, CAUSAL_LM"),
        (lambda examples: {}, "CAUSAL_LM", {}, "the batches have no labels"),
        (labelled([1, 9]), "CAUSAL_LM", {}, "the batches are packed; packing=False and padding_free=False"),
        (labelled([4]), "SEQ_CLS", {}, "the labels of 2 examples have the shape [4]; SEQ_CLS needs [2]"),
        (labelled([2, 3]), "SEQ_CLS", {}, "have the shape [2, 3]; SEQ_CLS needs [2]"),
        (labelled([2]), "TOKEN_CLS", {}, "have the shape [2]; TOKEN_CLS needs [2, tokens]"),
        (labelled([2, 3], torch.float), "TOKEN_CLS", {}, "the labels are no whole numbers, which TOKEN_CLS needs"),
    ],
)
def test_each_cause_is_named(
    collate: Callable[[list[Any]], Any], task_type: TaskType | None, options: dict[str, Any], clause: str
) -> None:
    found = why(collate, task_type, **options)
    assert clause in found
    assert bool(found) == bool(clause)


def test_the_task_type_that_is_advised_is_that_of_the_models_class(model_folder: Callable[..., Path]) -> None:
    tagger = AutoModelForTokenClassification.from_pretrained(model_folder("bert"), num_labels=3)
    assert "give task_type='TOKEN_CLS', with which PEFT trains the head" in why(next_tokens, None, tagger)
