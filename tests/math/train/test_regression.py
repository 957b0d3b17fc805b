"""A run on numbers of any scale: they are learned alike, and the adapter predicts in the units of
the user's file."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autolora.engine.disk.files import read_json
from autolora.engine.interrupt import StopRequest
from autolora.engine.stages import run_stages
from autolora.engine.store.folder import RunFolder
from autolora.problems.tasks.texts import LabelScale
from tests.helpers.command import parse
from tests.helpers.shell import words
from tests.helpers.tiny import tiny_arguments

WORDS = ["good", "bad", "fine", "dull"]
ROWS = [
    (f"the film was {WORDS[i % 4]} {WORDS[i // 4 % 4]}", i % 4 + 0.1 * (i % 7)) for i in range(96)
]


def run_on(folder: Path, model: Path, mean: float, deviation: float) -> RunFolder:
    """A finished run on the numbers mean + deviation * y."""
    folder.mkdir()
    path = folder / "numbers.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((text, mean + deviation * y) for text, y in ROWS)]
        )
    data = (
        "--task.type",
        "text",
        "--task.path",
        str(path),
        "--task.kind",
        "regression",
        "--method",
        "lora",
    )
    more = words("--task.metrics [pearson,mse] --retrain.max_steps 40 --retrain.learning_rate 1e-2")
    return run_stages(
        parse([*tiny_arguments(model, folder), *data, *more]), StopRequest(), draw=False
    )


def predictions(run: RunFolder) -> Tensor:
    """What the saved model predicts for ROWS, loaded without this program."""
    settings = read_json(run.adapter / "adapter_config.json")
    base = AutoModelForSequenceClassification.from_pretrained(
        settings["base_model_name_or_path"], num_labels=1
    )
    tokens = AutoTokenizer.from_pretrained(run.adapter)(
        [text for text, _ in ROWS], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        found: Tensor = PeftModel.from_pretrained(base, run.adapter).eval()(**tokens).logits[:, 0]
    return found


@pytest.mark.trains
def test_the_scale_of_the_numbers_changes_nothing_but_the_units(
    tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    """Numbers with mean 57 once ended at a correlation of 0."""
    model = model_folder("bert")
    small = run_on(tmp_path / "small", model, 0.0, 1.0)
    large = run_on(tmp_path / "large", model, 1e4, 100.0)
    results = [read_json(run.metrics) for run in (small, large)]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-3)
    mse = [result["metrics"]["mse"] for result in results]
    assert mse[1] == pytest.approx(1e4 * mse[0], rel=1e-3)
    assert results[1]["label_scale"] == pytest.approx(
        {
            "mean": 1e4 + 100 * results[0]["label_scale"]["mean"],
            "in_head": True,
            "deviation": 100 * results[0]["label_scale"]["deviation"],
        }
    )
    said = predictions(large)
    assert ((said - torch.tensor([1e4 + 100 * y for _, y in ROWS])).abs() < 400).all(), (
        "in the units of the file"
    )
    assert said.tolist() == pytest.approx((1e4 + 100 * predictions(small)).tolist(), abs=1)


@pytest.mark.parametrize(
    ("kind", "wrapped"), [("bert", True), ("roberta", True), ("bert", False), ("gpt2", True)]
)
@torch.no_grad()
def test_a_head_with_a_bias_predicts_in_the_units_of_the_file_and_one_without_is_left(
    model_folder: Callable[..., Path], kind: str, wrapped: bool
) -> None:
    """LoRA is of rank 1, whose A has one output as the head has; gpt2's head has no bias."""
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        model_folder(kind), num_labels=1
    ).eval()
    if wrapped:
        targets = ["c_attn"] if kind == "gpt2" else ["query", "value"]
        model = get_peft_model(
            model, LoraConfig(r=1, target_modules=targets, task_type="SEQ_CLS")
        ).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # that of a new head is 0
            weight.normal_()
    inputs = torch.arange(5, 11)[None]
    before = model(inputs).logits
    assert LabelScale(1000.0, 50.0).into_head(model) == (kind != "gpt2")
    after = model(inputs).logits
    assert (
        torch.equal(after, before) if kind == "gpt2" else torch.allclose(after, before * 50 + 1000)
    )
