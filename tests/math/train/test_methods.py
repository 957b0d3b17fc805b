"""Every method through the one trainer: what it trains, records and exports."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autolora.configs.requests import Request
from autolora.configs.schema import METHODS, RunConfig, WithLora
from autolora.engine.retrain.methods.adapter import load
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from tests.helpers.methods import HEAD, LAYERS, SIZE, Done, R
from tests.helpers.recomputed import of_sample


def exported(run: Done) -> Any:
    """The model that the run wrote, loaded again."""
    if run.result["method"] == "adapter":
        return load(run.plain_base(), run.folder.adapter)
    if run.folder.adapter.exists():
        return PeftModel.from_pretrained(run.plain_base(), run.folder.adapter)
    return AutoModelForSequenceClassification.from_pretrained(run.folder.merged)


@pytest.mark.trains
@pytest.mark.parametrize("method", ["adalora", "adapter", "eva", "full", "head", "lora", "para", "wide"])
def test_each_method_trains_reports_and_counts(done: Callable[..., Done], method: str) -> None:
    result, folder = done(method).result, done(method).folder
    assert result["method"] == method
    accuracy, loss = of_sample(exported(done(method)), AutoTokenizer.from_pretrained(done(method).base))
    assert result["metrics"]["accuracy"] == accuracy
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert result["steps"] == {"search": None, "retrain": 16}
    assert (result["seconds"]["search"] is None) == (method not in ("eva", "wide")), "which look for their ranks"
    assert folder.ranks.exists() == issubclass(METHODS[method], WithLora)
    assert not folder.search.exists()
    assert not [*folder.retrain.glob("checkpoint-*"), *folder.retrain.glob("wide-*")]


@pytest.mark.trains
def test_parameter_counts(done: Callable[..., Done]) -> None:
    def counts(method: str) -> tuple[int, int]:
        result = done(method).result
        return result["lora_parameters"], result["trainable_parameters"]

    assert counts("lora") == (LAYERS * R * SIZE, LAYERS * R * SIZE + HEAD)
    assert counts("adalora") == (LAYERS * R * SIZE, LAYERS * 3 * (SIZE + 1) + HEAD)
    assert counts("adapter") == (0, 2 * 2 * (2 * 32 * 4 + 4 + 32 + 2 * 32) + HEAD)
    assert counts("head") == (0, HEAD)
    whole = done("full").plain_base()
    assert counts("full") == (0, sum(p.numel() for p in whole.parameters()))


@pytest.mark.trains
@pytest.mark.parametrize(
    ("kind", "modules", "trained"),
    [
        ("bert", "[pooler]", {"classifier.weight", "classifier.bias", "pooler.dense.weight", "pooler.dense.bias"}),
        ("bert", "[]", {"classifier.weight", "classifier.bias"}),
        ("gpt2", "null", {"score.weight"}),
    ],
)
def test_the_head_alone_is_what_lora_trains_whole(
    tiny_config: Callable[..., RunConfig],
    model_folder: Callable[..., Path],
    kind: str,
    modules: str,
    trained: set[str],
) -> None:
    settings = ("--method", "head", "--lora.modules_to_save", modules, "--retrain.learning_rate", "3e-2")
    folder = run_stages(Request(tiny_config(*settings, kind=kind), "all", False, "x"), StopRequest(), draw=False)
    after = load_file(folder.merged / "model.safetensors")
    base = AutoModelForSequenceClassification.from_pretrained(model_folder(kind)).state_dict()
    moved = {name for name in after if not torch.equal(after[name], base[name])}
    assert {name.removeprefix("bert.") for name in moved} <= trained
    assert json.loads(folder.metrics.read_text())["trainable_parameters"] == sum(
        value.numel() for name, value in after.items() if name.removeprefix("bert.") in trained
    )
