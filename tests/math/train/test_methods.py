"""Methods through the one trainer: what they train, and that the saved model is the one whose
result is reported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autolora.engine.disk.files import read_json
from autolora.engine.retrain.methods.adapter import load
from autolora.engine.store.folder import RunFolder
from tests.helpers.methods import HEAD
from tests.helpers.tiny import sample

pytestmark = pytest.mark.trains
HEAD_OF_BERT = {"classifier.weight", "classifier.bias"}
POOLER = {"pooler.dense.weight", "pooler.dense.bias"}
CASES: dict[str, tuple[str, tuple[str, ...], set[str] | None]] = {
    "adapter": ("bert", (), None),
    "full": ("bert", (), None),
    "head": ("bert", (), HEAD_OF_BERT),
    "head and pooler": ("bert", ("--lora.modules_to_save", "[pooler]"), HEAD_OF_BERT | POOLER),
    "head of a decoder": ("gpt2", ("--lora.modules_to_save", "null"), {"score.weight"}),
}
"""The base model, further settings, and the weights that are trained whole; None: of them it is
another number."""


def of_sample(model: Any, tokenizer: Any) -> tuple[float, float]:
    """Accuracy and mean loss on all test rows of the sample task, without the program's
    evaluation."""
    rows = sample("test")
    labels = torch.tensor(rows["label"])
    with torch.no_grad():
        logits = model.eval()(
            **tokenizer(rows["sentence"], padding=True, return_tensors="pt")
        ).logits
    accuracy = (logits.argmax(dim=-1) == labels).double().mean()
    return float(accuracy), float(nn.functional.cross_entropy(logits.double(), labels))


@pytest.mark.parametrize("case", CASES)
def test_the_saved_model_has_the_reported_result_and_trained_what_is_counted(
    run_all: Callable[..., RunFolder], model_folder: Callable[..., Path], case: str
) -> None:
    kind, more, whole = CASES[case]
    folder = run_all(
        "--method", case.split()[0], "--retrain.learning_rate", "3e-2", *more, kind=kind
    )
    result = read_json(folder.metrics)
    base = AutoModelForSequenceClassification.from_pretrained(model_folder(kind))
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    is_adapter = case == "adapter"
    model = load(base, folder.adapter) if is_adapter else type(base).from_pretrained(folder.merged)
    accuracy, loss = of_sample(model, AutoTokenizer.from_pretrained(model_folder(kind)))
    assert (result["metrics"]["accuracy"], result["loss"]) == (
        accuracy,
        pytest.approx(loss, rel=1e-5),
    )
    assert (result["lora_parameters"], result["steps"]) == (0, {"search": None, "retrain": 4})
    assert not folder.ranks.exists()
    if whole is None:
        all_of_it = sum(weight.numel() for weight in base.parameters())
        bottlenecks = 2 * 2 * (2 * 32 * 4 + 4 + 32 + 2 * 32) + HEAD
        assert result["trainable_parameters"] == (bottlenecks if is_adapter else all_of_it)
        return
    after = load_file(folder.merged / "model.safetensors")
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert {name.removeprefix("bert.") for name in moved} <= whole
    assert result["trainable_parameters"] == sum(
        value.numel() for name, value in after.items() if name.removeprefix("bert.") in whole
    )
