"""LoRA sits where it was asked for; beside it the head is trained, and what lora.modules_to_save
names."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, TaskType
from transformers import AutoModelForSequenceClassification

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.engine.inputs import read_inputs
from autolora.problems.models.attach import attach, lora_config, lora_layers
from autolora.problems.models.layers import with_modules_to_save
from autolora.problems.models.load import BaseModel, load_base, load_tokenizer
from tests.helpers.stages import Stages

QUERY = ["query"]


def base_of(folder: Path) -> BaseModel:
    return load_base(
        ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2
    )


def attached(base: BaseModel, targets: list[str], **settings: float) -> PeftModel:
    """With LoRA of rank 4."""
    asked = lora_config(
        LoraSettings(**settings), TaskType.SEQ_CLS, base.trained_whole, r=4, target_modules=targets
    )
    return attach(base.model, asked)


def trained_beside_lora(model: PeftModel) -> set[str]:
    return {
        name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name
    }


@pytest.mark.parametrize(
    ("kind", "targets", "head", "layers"),
    [
        ("bert", ["query", "value"], ["classifier.{}.weight", "classifier.{}.bias"], 4),
        ("llama", ["q_proj", "v_proj", "mlp.down_proj"], ["score.{}.weight"], 6),
    ],
)
def test_only_lora_and_the_head_are_trained(
    model_folder: Callable[..., Path], kind: str, targets: list[str], head: list[str], layers: int
) -> None:
    model = attached(base_of(model_folder(kind)), targets, lora_alpha=6.0, dropout=0.25)
    found = lora_layers(model)
    assert len(found) == layers
    assert all(any(name.endswith(target) for target in targets) for name in found)
    for layer in found.values():
        assert layer.scaling["default"] == 1.5
        assert layer.lora_dropout["default"].p == 0.25
        assert all(p.requires_grad for n, p in layer.named_parameters() if "lora_" in n)
    whole = {f"base_model.model.{name.format('modules_to_save.default')}" for name in head}
    assert trained_beside_lora(model) == whole


def test_lora_inside_a_module_trained_whole_is_refused(model_folder: Callable[..., Path]) -> None:
    """PEFT would leave it out without a word, and a rank by hand would be none."""
    base = with_modules_to_save(base_of(model_folder("bert")), ["pooler"], QUERY)
    with pytest.raises(
        UserError, match=r"^--lora\.target_modules: PEFT takes bert\.pooler\.dense of "
    ):
        attached(base, ["query", "pooler.dense"])


def test_a_named_module_is_trained_beside_lora_and_the_head(
    model_folder: Callable[..., Path],
) -> None:
    """PEFT alone would take every module whose name ends so: input_layernorm and
    post_attention_layernorm here."""
    base = with_modules_to_save(base_of(model_folder("llama")), ["norm"], ["q_proj"])
    assert trained_beside_lora(attached(base, ["q_proj"])) == {
        f"base_model.model.{name}.modules_to_save.default.weight"
        for name in ("model.norm", "score")
    }


@pytest.mark.parametrize(
    ("kind", "targets", "more"),
    [
        ("bert", QUERY, ["bert.pooler"]),
        ("bert", ["pooler.dense"], []),  # LoRA trains it
        ("roberta", QUERY, []),  # its classification head has the layer, and is new
    ],
)
def test_a_pooler_that_was_never_trained_is_part_of_the_new_head(
    model_folder: Callable[..., Path], kind: str, targets: list[str], more: list[str]
) -> None:
    base = base_of(model_folder(kind))
    assert with_modules_to_save(base, None, targets).trained_whole == [*base.trained_whole, *more]
    if more:
        with torch.no_grad():
            base.model.bert.pooler.dense.bias[3] = 0.1
        assert with_modules_to_save(base, None, targets) == base, "a trained one stays as it is"


@pytest.mark.parametrize(
    ("key", "name", "method"),
    [("lora.target_modules", "qery", "autolora"), ("lora.modules_to_save", "poler", "lora")],
)
def test_names_that_match_nothing_are_told_before_the_weights_are_read(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Stages],
    model_folder: Callable[..., Path],
    tmp_path: Path,
    key: str,
    name: str,
    method: str,
) -> None:
    shutil.copytree(model_folder("bert"), tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    run = run_of(
        tiny_config(
            "--model.name", str(tmp_path / "base"), f"--{key}", f"[{name}]", "--method", method
        )
    )
    with pytest.raises(UserError, match=rf"^--{key}: {name} matches no "):
        run.base()


def test_rows_longer_than_the_tokenizers_limit_are_refused_before_they_are_read(
    tiny_config: Callable[..., RunConfig],
) -> None:
    config = tiny_config("--task.max_length", "17")
    tokenizer = load_tokenizer(config.model)
    tokenizer.model_max_length = 16
    with pytest.raises(UserError, match=r"^--task\.max_length: .* takes 16 tokens"):
        read_inputs(config, tokenizer=tokenizer)
