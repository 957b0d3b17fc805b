"""What a batch tells of a model before its training: which layers it reaches, whether it predicts the next token, and
how many positions it has."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaModel,
    set_seed,
)

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.data import Data
from autolora.problems.models.attach import attach_components, lora_layers
from autolora.problems.models.dry_run import mark_unreached, most_positions, refuse_long_rows, refuse_other_models
from autolora.problems.models.layers import layer_shapes, target_layers
from autolora.problems.tasks.base import PAD_TO
from tests.helpers.untouched import seen

V = 64
WIDE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": V
}  # fmt: skip
SMALL = {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2}
TOWER = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 4,
    "patch_size": 2,
}  # fmt: skip

RIGHT: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=V)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(**SMALL, state_size=4)),
    "mixture of experts": lambda: MixtralForCausalLM(
        MixtralConfig(**WIDE, num_key_value_heads=1, num_local_experts=4, output_router_logits=True)
    ),
    "gemma3": lambda: Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=WIDE | {"num_key_value_heads": 1, "head_dim": 8}, vision_config=TOWER, mm_tokens_per_image=4
        )
    ),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_a_next_token_model_is_taken_and_every_layer_of_all_linear_learns(kind: str) -> None:
    set_seed(0)
    model = RIGHT[kind]().train()
    state = torch.get_rng_state()
    refuse_other_models(model, "x")
    assert model.training, "it is given back as it came"
    assert torch.equal(torch.get_rng_state(), state), "it draws no random numbers"
    adapted = attach_components(model, LoraSettings(target_modules=[ALL_LINEAR], k=1), TaskType.CAUSAL_LM, [])
    layers: dict[str, Any] = dict(lora_layers(adapted))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B["default"].weight)
    ids = torch.arange(16).view(2, 8)
    adapted(input_ids=ids, labels=ids).loss.backward()
    assert layers
    assert [name for name, layer in layers.items() if layer.lora_B["default"].weight.grad is None] == []


def test_an_encoder_is_refused_in_one_line_and_is_taken_as_a_decoder() -> None:
    set_seed(0)
    with pytest.raises(UserError, match=r"^--model\.name: org/x \(\w+\) sees the tokens"):
        refuse_other_models(RobertaForCausalLM(RobertaConfig(**WIDE)), "org/x")
    refuse_other_models(RobertaForCausalLM(RobertaConfig(**WIDE, is_decoder=True)), "org/x")


def test_what_a_mamba_reads_past_lora_gets_none() -> None:
    """LoRA on dt_proj got no gradient, and the threshold then gave it the rank k. PEFT refuses out_proj."""
    model = RIGHT["mamba"]()
    refuse_other_models(model, "x")
    assert {name.rpartition(".")[2] for name in target_layers(model, [ALL_LINEAR])} == {"in_proj"}
    with pytest.raises(UserError, match=r"out_proj matches no linear layer .*; there are: in_proj, lm_head$"):
        target_layers(model, ["in_proj", "out_proj"])


def test_a_tower_for_images_gets_no_lora() -> None:
    """Rows of text do not pass through it, but its layers would count in the budget and in the mean rank."""
    model = RIGHT["gemma3"]()
    assert any("vision_tower" in name and name.endswith("q_proj") for name, _ in model.named_modules())
    refuse_other_models(model, "x")
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

    model: Any = Experts().train()
    before = seen(model)
    mark_unreached(model, lambda: model(torch.ones(2, 4)))
    after = seen(model)
    assert target_layers(model, ["0", "1", "2"]) == ["experts.0", "experts.1", "experts.2"]
    with pytest.raises(UserError, match="unused matches no linear layer"):
        target_layers(model, ["unused"])
    assert {part for part in before if before[part] != after[part]} == {"attributes"}


def stacked(**options: Any) -> Any:
    """Two of torch's encoder layers and an output layer."""
    torch.manual_seed(0)
    layers = [nn.TransformerEncoderLayer(8, **{"nhead": 2, "dim_feedforward": 16, **options}) for _ in range(2)]
    return nn.Sequential(*layers, nn.Linear(8, 3)).train()


def lora_acts(model: nn.Module, target: str) -> bool:
    """Whether, in evaluation, LoRA on the layers of this name changes what the model computes."""
    inputs = torch.randn(3, 5, 8)
    with torch.no_grad():
        before = model.eval()(inputs)
        adapted: Any = get_peft_model(model, LoraConfig(target_modules=[target], init_lora_weights=False)).eval()
        return not torch.allclose(adapted.base_model.model(inputs), before, atol=1e-5)


@pytest.mark.parametrize("target", ["linear1", "out_proj"])
@pytest.mark.parametrize("options", [{"batch_first": True}, {}])
def test_what_torchs_own_layers_read_past_lora_gets_none(options: dict[str, Any], target: str) -> None:
    """On the encoder's fast path an adapter acted in training alone: what it had learned did nothing afterwards."""
    model = stacked(**options)
    mark_unreached(model, lambda: model(torch.randn(2, 5, 8)))
    reached = any(name.endswith(target) for name in layer_shapes(model))
    assert reached is lora_acts(stacked(**options), target)


POSITIONS: dict[str, tuple[Callable[[], Any], int | None]] = {
    "bert": (lambda: BertModel(BertConfig(**WIDE, max_position_embeddings=24)), 24),
    "roberta": (lambda: RobertaModel(RobertaConfig(**WIDE, max_position_embeddings=26, pad_token_id=1)), 24),
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=V, n_positions=24)), 24),
    "opt": (
        lambda: OPTForCausalLM(OPTConfig(**WIDE, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=24)), 24,
    ),
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**WIDE, max_position_embeddings=24)), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", POSITIONS)
def test_the_positions_of_a_model_are_those_that_it_runs_on(kind: str) -> None:
    make, most = POSITIONS[kind]
    model = make().eval()
    assert most_positions(model) == most

    def run(length: int) -> None:
        ids = torch.full((1, length), 5)
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))

    run(24)
    if most is None:
        run(33)
    else:
        with pytest.raises((IndexError, RuntimeError)):
            run(25)


def test_a_row_is_refused_as_soon_as_its_batch_or_its_answer_would_be_too_long(
    tiny_config: Callable[..., RunConfig],
) -> None:
    model, config = RIGHT["gpt2"](), tiny_config()
    model.transformer.wpe = nn.Embedding(79, 16)

    def check(length: int, *prompts: list[int]) -> None:
        rows = Dataset.from_dict({"length": [3, length]})
        refuse_long_rows(model, Data(rows, {}, lambda found: {}), config, prompts)

    check(79 // PAD_TO * PAD_TO)
    with pytest.raises(UserError, match=r"^--task\.max_length: .* takes 79 tokens, and a row .* has 80"):
        check(79 // PAD_TO * PAD_TO + 1)
    with pytest.raises(UserError, match=r"^--task\.max_length: .* has 129"):
        check(3, [1])
