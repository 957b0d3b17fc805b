"""The size of one component of each layer, and the budget."""

import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

from autolora.configs.errors import UserError
from autolora.configs.training import LoraInBudget
from autolora.engine.retrain.methods.base import budget_of, layer_sizes

SIZES = [100, 300]


def test_a_component_has_as_many_numbers_as_inputs_and_outputs_together() -> None:
    model = nn.ModuleDict(
        {
            "up": nn.Linear(3, 8),
            "c_attn": Conv1D(12, 4),
            "embedding": nn.Embedding(5, 3),
            "classifier": nn.Linear(8, 2),
        }
    )
    sizes = layer_sizes(model)
    assert sizes == {"up": 11, "c_attn": 16}


def test_a_budget_is_an_average_rank_in_parameters() -> None:
    assert budget_of(LoraInBudget(budget=0.5), SIZES) == 200
    assert budget_of(LoraInBudget(), SIZES) == 1600
    assert budget_of(LoraInBudget(budget=0.29), [100]) == 29, "no component is lost to rounding"


def test_a_budget_without_room_for_a_component_says_what_is_enough() -> None:
    least, said = 500, r"^--lora.budget: 0.1 is not allowed .*; allowed: 1\.25 or more, .* of 500 LoRA"
    with pytest.raises(UserError, match=said) as told:
        budget_of(LoraInBudget(budget=0.1), SIZES, least=least)
    allowed = float(str(told.value).split("allowed: ")[1].split()[0])
    assert budget_of(LoraInBudget(budget=allowed), SIZES, least=least) >= least
