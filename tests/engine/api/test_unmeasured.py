"""That shares are not measured on a script's rows is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from autolora.configs.search import Shares, Threshold
from autolora.engine.api import UserError, learn_ranks_from_trainer
from autolora.engine.api.unmeasured import NEEDS, with_task_type
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
def test_a_classifier_without_a_task_type_is_warned(model_folder: Callable[..., Path], log_lines: list[str]) -> None:
    config = lora(target_modules=["query"])
    learned = learn(classifier(model_folder("bert")), config=config)
    assert (learned.shares, learned.record.rule) == (None, "threshold")
    assert (
        "WARNING answer: shares and the curve are not measured, and rule threshold chooses the ranks by alpha: "
        f"{NEEDS}"
    ) in log_lines
    log_lines.clear()
    learn(classifier(model_folder("bert")), config=config, answer=Threshold())
    assert any(line.startswith("INFO answer: shares and the curve are not measured: this needs") for line in log_lines)
    with pytest.raises(UserError, match=r"not known here: this needs .*; allowed here: thres"):
        learn(classifier(model_folder("bert")), config=config, answer=Shares())


@pytest.mark.slow
@pytest.mark.trains
def test_trl_without_a_task_type_is_measured_and_its_packing_is_refused(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")

    def trainer(**changes: Any) -> Any:
        args = trl.SFTConfig(
            output_dir=str(tmp_path / "out"), report_to=[], use_cpu=True, bf16=False, max_length=64,
            per_device_train_batch_size=4, learning_rate=1e-2, **changes,
        )  # fmt: skip
        return trl.SFTTrainer(language_model(tmp_path), args, train_dataset=Dataset.from_list(chat_rows()))

    assert learn_ranks_from_trainer(trainer(), lora(target_modules="all-linear"), search=SHORT).shares is not None
    with pytest.raises(UserError, match=r"not known here: this needs"):
        learn_ranks_from_trainer(trainer(packing=True), lora(), search=SHORT, answer=Shares())
