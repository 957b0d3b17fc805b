"""LoRA sits where it was asked for, and nothing else is trained but the head."""

from collections.abc import Callable
from pathlib import Path

import pytest
from peft import TaskType
from transformers import AutoModelForSequenceClassification, Qwen3MoeConfig, Qwen3MoeForCausalLM

from autolora.configs.errors import UserError
from autolora.configs.training import LoraSettings, ModelConfig
from autolora.problems.models.attach import attach, attach_components, lora_config, lora_layers
from autolora.problems.models.load import BaseModel, load_base


def base_of(folder: Path) -> BaseModel:
    return load_base(ModelConfig(name=str(folder)), AutoModelForSequenceClassification, num_labels=2)


def test_layers_whose_names_peft_takes_for_experts_are_refused_before_a_search() -> None:
    """The dense first layer of such models is an ordinary one, but PEFT puts LoRA on the experts of all layers. The
    search had failed at its end, where numbers of 24 experts met those of 6 layers."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "mlp_only_layers": [0]}
    config = Qwen3MoeConfig(vocab_size=20, num_key_value_heads=1, head_dim=8, **sizes, **experts)

    def with_lora(*targets: str) -> int:
        settings = LoraSettings(target_modules=list(targets), k=2)
        return len(lora_layers(attach_components(Qwen3MoeForCausalLM(config), settings, TaskType.CAUSAL_LM, [])))

    with pytest.raises(UserError, match=r"^--lora\.target_modules: .*PEFT takes this name for the experts;") as error:
        with_lora("all-linear")
    assert str(error.value).endswith('layers of other names, such as "[k_proj,o_proj,q_proj,v_proj]"')
    with pytest.raises(UserError, match=r"^--lora\.target_modules: PEFT refuses these layers: "):
        with_lora("gate_proj")
    assert with_lora("q_proj") == 2


@pytest.mark.parametrize(
    ("kind", "targets", "head", "layers"),
    [
        ("bert", ["query", "value"], "classifier", 4),
        ("roberta", ["query", "value"], "classifier", 4),
        ("gpt2", ["c_attn"], "score", 2),
        ("llama", ["q_proj", "v_proj", "mlp.down_proj"], "score", 6),
        ("bert", ["encoder.layer.1.attention.self.query"], "classifier", 1),
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


def test_a_target_that_matches_nothing_is_named_with_those_that_exist(model_folder: Callable[..., Path]) -> None:
    base = base_of(model_folder("bert"))
    targets = ["query", "q_proj", "uery"]
    asked = lora_config(LoraSettings(), TaskType.SEQ_CLS, base.trained_whole, target_modules=targets)
    with pytest.raises(UserError, match=r"--lora\.target_modules: q_proj, uery matches no module") as caught:
        attach(base.model, asked)
    there = str(caught.value).split("there are: ")[1].split(", ")
    assert {"query", "key", "value", "dense"} <= set(there)
    assert not {"LayerNorm", "dropout", "layer"} & set(there)


def test_lora_inside_a_module_trained_whole_is_refused(model_folder: Callable[..., Path]) -> None:
    """PEFT would leave it out without a word, and a rank by hand would be none."""
    base = base_of(model_folder("bert"))
    targets = ["query", "pooler.dense"]
    config = lora_config(LoraSettings(), TaskType.SEQ_CLS, ["bert.pooler"], target_modules=targets)
    with pytest.raises(UserError, match=r"LoRA on bert\.pooler\.dense is not allowed: bert\.pooler is trained whole"):
        attach(base.model, config)
