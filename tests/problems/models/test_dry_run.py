"""What a model shows before its training: which layers a batch reaches, whether it predicts the
next token."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
    set_seed,
)

from autolora.configs.errors import UserError
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.models.attach import attach_components, lora_layers
from autolora.problems.models.dry_run import mark_unreached
from autolora.problems.models.layers import layer_shapes, target_layers
from autolora.problems.tasks.chat import Conversations

BODY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WIDE = BODY | {"vocab_size": 64}
TOWER = BODY | {"image_size": 4, "patch_size": 2}

RIGHT: dict[str, Callable[[], Any]] = {
    "mixture of experts": lambda: MixtralForCausalLM(
        MixtralConfig(**WIDE, num_key_value_heads=1, num_local_experts=4, output_router_logits=True)
    ),
    "gemma3": lambda: Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=WIDE | {"num_key_value_heads": 1, "head_dim": 8},
            vision_config=TOWER,
            mm_tokens_per_image=4,
        )
    ),
}


def look(model: Any) -> None:
    """What the program does to a language model as soon as it is loaded."""
    task: Any = SimpleNamespace(config=SimpleNamespace(smoothing=0.0))
    Conversations.adapt(task, model)
    mark_unreached(model, lambda: model(input_ids=torch.arange(16).view(2, 8)))


@pytest.mark.parametrize("kind", RIGHT)
def test_a_next_token_model_is_taken_and_every_layer_of_all_linear_learns(kind: str) -> None:
    set_seed(0)
    model = RIGHT[kind]().train()
    state = torch.get_rng_state()
    look(model)
    assert model.training, "it is given back as it came"
    assert torch.equal(torch.get_rng_state(), state), "it draws no random numbers"
    adapted = attach_components(
        model, LoraSettings(target_modules=[ALL_LINEAR], k=1), TaskType.CAUSAL_LM, []
    )
    layers: dict[str, Any] = dict(lora_layers(adapted))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B["default"].weight)
    ids = torch.arange(16).view(2, 8)
    adapted(input_ids=ids, labels=ids).loss.backward()
    assert layers
    assert [
        name for name, layer in layers.items() if layer.lora_B["default"].weight.grad is None
    ] == []


def test_an_encoder_is_refused_in_one_line_and_is_taken_as_a_decoder() -> None:
    set_seed(0)
    with pytest.raises(UserError, match=r"^--model\.name: roberta sees the tokens"):
        look(RobertaForCausalLM(RobertaConfig(**WIDE)))
    look(RobertaForCausalLM(RobertaConfig(**WIDE, is_decoder=True)))


def test_a_tower_for_images_gets_no_lora() -> None:
    """Rows of text do not pass through it, but its layers would count in the budget and in the mean
    rank."""
    model = RIGHT["gemma3"]()
    assert any(
        "vision_tower" in name and name.endswith("q_proj") for name, _ in model.named_modules()
    )
    look(model)
    for targets, of_a_block in (([ALL_LINEAR], 7), (["q_proj", "v_proj"], 2)):
        found = target_layers(model, targets)
        assert {name.rpartition(".layers.")[0] for name in found} == {"model.language_model"}
        assert len(found) == 2 * of_a_block


def test_an_expert_without_a_token_counts_as_reached() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.unused = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.experts[1](x)  # type: ignore[no-any-return]

    model: Any = Experts()
    mark_unreached(model, lambda: model(torch.ones(2, 4)))
    assert target_layers(model, ["0", "1", "2"]) == ["experts.0", "experts.1", "experts.2"]
    with pytest.raises(UserError, match="unused matches no linear layer"):
        target_layers(model, ["unused"])


def stacked(**options: Any) -> Any:
    """Two of torch's encoder layers and an output layer."""
    torch.manual_seed(0)
    layers = [
        nn.TransformerEncoderLayer(8, **{"nhead": 2, "dim_feedforward": 16, **options})
        for _ in range(2)
    ]
    return nn.Sequential(*layers, nn.Linear(8, 3)).train()


def lora_acts(model: nn.Module, target: str) -> bool:
    """Whether, in evaluation, LoRA on the layers of this name changes what the model computes."""
    inputs = torch.randn(3, 5, 8)
    with torch.no_grad():
        before = model.eval()(inputs)
        adapted: Any = get_peft_model(
            model, LoraConfig(target_modules=[target], init_lora_weights=False)
        ).eval()
        return not torch.allclose(adapted.base_model.model(inputs), before, atol=1e-5)


@pytest.mark.parametrize("target", ["linear1", "out_proj"])
@pytest.mark.parametrize("options", [{"batch_first": True}, {}])
def test_what_torchs_own_layers_read_past_lora_gets_none(
    options: dict[str, Any], target: str
) -> None:
    """On the encoder's fast path an adapter acted in training alone: what it had learned did
    nothing afterwards."""
    model = stacked(**options)
    mark_unreached(model, lambda: model(torch.randn(2, 5, 8)))
    reached = any(name.endswith(target) for name in layer_shapes(model))
    assert reached is lora_acts(stacked(**options), target)
