"""lora.modules_to_save: what is trained whole beside LoRA and the head, and what cannot be."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import TaskType
from transformers import AutoModelForSequenceClassification

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.engine.run.context import Context
from autolora.problems.models.attach import attach, lora_config
from autolora.problems.models.layers import with_modules_to_save
from autolora.problems.models.load import BaseModel, load_base

QUERY = ["query"]


def base_of(folder: Path, auto_class: type = AutoModelForSequenceClassification) -> BaseModel:
    return load_base(ModelConfig(name=str(folder)), auto_class, num_labels=2)


def test_the_named_module_is_trained_beside_lora_and_the_head(model_folder: Callable[..., Path]) -> None:
    base = with_modules_to_save(base_of(model_folder("bert")), ["pooler"], QUERY)
    assert base.trained_whole == ["classifier", "bert.pooler"]
    model = attach(base.model, lora_config(LoraSettings(), TaskType.SEQ_CLS, base.trained_whole, target_modules=QUERY))
    trained = {name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert trained == {
        f"base_model.model.{module}.modules_to_save.default.{kind}"
        for module in ("bert.pooler", "classifier")
        for kind in ("dense.weight", "dense.bias", "weight", "bias")
        if ("dense" in kind) == ("pooler" in module)
    }


@pytest.mark.parametrize(
    ("kind", "targets", "more"),
    [
        ("bert", QUERY, ["bert.pooler"]),
        ("bert", ["pooler.dense"], []),  # LoRA trains it
        ("bert", ["q_proj", "nowhere"], ["bert.pooler"]),  # ranks by hand do not read the targets
        ("roberta", QUERY, []),  # its classification head has the layer, and is new
        ("gpt2", ["c_attn"], []),
    ],
)
def test_a_pooler_that_was_never_trained_is_part_of_the_new_head(
    model_folder: Callable[..., Path], kind: str, targets: list[str], more: list[str]
) -> None:
    base = base_of(model_folder(kind))
    assert with_modules_to_save(base, None, targets).trained_whole == [*base.trained_whole, *more]


@torch.no_grad()
def test_a_trained_pooler_stays_as_it_is(model_folder: Callable[..., Path]) -> None:
    base = base_of(model_folder("bert"))
    base.model.bert.pooler.dense.bias[3] = 0.1
    assert with_modules_to_save(base, None, QUERY) == base


def test_a_name_means_whole_words(model_folder: Callable[..., Path]) -> None:
    """PEFT alone would take every module whose name ends so: input_layernorm and post_attention_layernorm here."""
    base = with_modules_to_save(base_of(model_folder("llama")), ["norm"], ["q_proj"])
    model = attach(
        base.model, lora_config(LoraSettings(), TaskType.SEQ_CLS, base.trained_whole, target_modules=["q_proj"])
    )
    trained = {name for name, p in model.named_parameters() if p.requires_grad and "norm" in name}
    assert trained == {"base_model.model.model.norm.modules_to_save.default.weight"}


@pytest.mark.parametrize("method", ["autolora", "lora"])
@pytest.mark.parametrize(
    ("key", "name"), [("lora.target_modules", "qery"), ("lora.modules_to_save", "poler")]
)  # fmt: skip
def test_names_that_match_nothing_are_told_before_the_weights_are_read(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], model_folder: Callable[..., Path],
    tmp_path: Path, key: str, name: str, method: str,
) -> None:  # fmt: skip
    shutil.copytree(model_folder("bert"), tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    run = run_of(tiny_config("--model.name", str(tmp_path / "base"), f"--{key}", f"[{name}]", "--method", method))
    with pytest.raises(UserError, match=rf"^--{key}: {name} matches no "):
        run.base()
