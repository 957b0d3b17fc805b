"""Rows that a script must load itself, and the collator that it must give."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from autolora.engine.api import UserError, learn_ranks
from autolora.engine.api.rows_given import required_collate
from tests.helpers.api import class_rows, classifier, learn, padded, settings
from tests.helpers.chat_toys import save_chat_model


@pytest.mark.parametrize("text", ["rows.jsonl", b"rows"])
@pytest.mark.parametrize("name", ["train_dataset", "validation_dataset"])
def test_the_name_of_a_file_is_refused_as_rows(model_folder: Callable[..., Path], text: Any, name: str) -> None:
    """A text has a length and an index, too; the collator had ended in an AttributeError."""
    given: dict[str, Any] = {"rows": text} if name == "train_dataset" else {name: text}
    with pytest.raises(UserError, match=f"^{name}: the text b?'rows.*' is not allowed; allowed: rows that are loaded"):
        learn(classifier(model_folder("bert")), **given)


def test_a_missing_collator_is_a_line_with_what_to_write(model_folder: Callable[..., Path]) -> None:
    """It had been a bare TypeError."""
    with pytest.raises(UserError, match=r"^collate: is missing; .* transformers\.DataCollatorWithPadding\(tokenizer"):
        learn_ranks(classifier(model_folder("bert")), class_rows(), settings())


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM"])
@pytest.mark.parametrize("by_class", [True, False])
def test_the_collator_that_is_named_pads_the_labels_of_the_task(
    model_folder: Callable[..., Path], tmp_path: Path, task: str, by_class: bool
) -> None:
    """Whether the config names the task, or only the class of the model does."""
    folder = model_folder("bert")
    makers: dict[str, Callable[[], Any]] = {
        "SEQ_CLS": lambda: classifier(folder),
        "TOKEN_CLS": lambda: AutoModelForTokenClassification.from_pretrained(folder),
        "CAUSAL_LM": lambda: AutoModelForCausalLM.from_pretrained(save_chat_model(tmp_path / "model")),
    }
    config, model = (LoraConfig(), makers[task]()) if by_class else (LoraConfig(task_type=task), None)
    with pytest.raises(UserError) as caught:
        required_collate(None, config, model)
    (name,) = re.findall(r"transformers\.(\w+)\(tokenizer\)", str(caught.value))
    collate = getattr(transformers, name)(AutoTokenizer.from_pretrained(folder))
    rows: list[dict[str, Any]] = [
        {**row, "labels": row["labels"] if task == "SEQ_CLS" else row["input_ids"]} for row in class_rows(3)
    ]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == padded(class_rows(3))["input_ids"].tolist()
    wanted = batch["labels"].shape[:1] if task == "SEQ_CLS" else batch["input_ids"].shape
    assert batch["labels"].shape == wanted
    assert required_collate(padded, config, model) is padded
