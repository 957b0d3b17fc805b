"""LoRA sits where it was asked for, and nothing else is trained but the head."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, TaskType
from torch import nn
from transformers import AutoModelForSequenceClassification

from autolora.configs.errors import UserError
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.problems.models.attach import attach, lora_config, lora_layers
from autolora.problems.models.load import BaseModel, load_base


def base_of(folder: Path) -> BaseModel:
    return load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2)


def test_layers_that_peft_takes_otherwise_are_refused_before_a_search() -> None:
    """PEFT puts LoRA on the experts of some models for the name of an ordinary layer. The search had failed at its
    end, where numbers of 24 experts met those of 6 layers."""
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(UserError, match=r"^--lora\.target_modules: PEFT takes 1\.0 of Sequential otherwise"):
        attach(model, LoraConfig(target_modules={"0"}, r=2, exclude_modules=["1.0"]))


@pytest.mark.parametrize(
    ("kind", "targets", "head", "layers"),
    [
        ("bert", ["query", "value"], "classifier", 4),
        ("gpt2", ["c_attn"], "score", 2),
        ("llama", ["q_proj", "v_proj", "mlp.down_proj"], "score", 6),
    ],
)
def test_only_lora_and_the_head_are_trained(
    model_folder: Callable[..., Path], kind: str, targets: list[str], head: str, layers: int
) -> None:
    base = base_of(model_folder(kind))
    settings = LoraSettings(lora_alpha=6.0, dropout=0.25)
    asked = lora_config(settings, TaskType.SEQ_CLS, base.trained_whole, r=4, target_modules=targets)
    model = attach(base.model, asked)
    found = lora_layers(model)
    assert len(found) == layers
    assert all(any(name.endswith(target) for target in targets) for name in found)
    for layer in found.values():
        assert layer.scaling["default"] == 1.5
        assert layer.lora_dropout["default"].p == 0.25
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(".lora_" in name or f".{head}.modules_to_save" in name for name in trained)
    assert sum(".lora_" in name for name in trained) == 2 * layers
    assert any(f".{head}." in name for name in trained)


def test_lora_inside_a_module_trained_whole_is_refused(model_folder: Callable[..., Path]) -> None:
    """PEFT would leave it out without a word, and a rank by hand would be none."""
    base = base_of(model_folder("bert"))
    targets = ["query", "pooler.dense"]
    config = lora_config(LoraSettings(), TaskType.SEQ_CLS, ["bert.pooler"], target_modules=targets)
    with pytest.raises(UserError, match=r"PEFT takes bert\.pooler\.dense of "):
        attach(base.model, config)
