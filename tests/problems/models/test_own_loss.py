"""A causal model that computes its loss by itself leaves out the label smoothing of the task."""

from functools import partial
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from autolora.problems.models.own_loss import tell_of_own_loss
from autolora.problems.tasks.token_loss import token_loss

pytestmark = pytest.mark.trains


class Own(GPT2LMHeadModel):
    """As the code in a repository has it: the loss is written out."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **_: Any) -> Any:
        found = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        found.loss = torch.nn.functional.cross_entropy(found.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return found


GPT = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=64)
WIDE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("make", "smoothing", "told"),
    [
        (lambda: Own(GPT), 0.1, True),
        (lambda: Own(GPT), 0.0, False),
        (lambda: GPT2LMHeadModel(GPT), 0.1, False),
        (lambda: LlamaForCausalLM(LlamaConfig(**WIDE, vocab_size=64)), 0.1, False),
    ],
)
def test_smoothing_that_the_model_leaves_out_is_told_of(
    make: Any, smoothing: float, told: bool, log_lines: list[str]
) -> None:
    """It was left out without a word."""
    model = make().train()
    loss = model.loss_function = partial(token_loss, smoothing=smoothing)
    state = torch.get_rng_state()
    tell_of_own_loss(model, smoothing, "org/x")
    assert log_lines == told * [
        "WARNING --task.label_smoothing: 0.1 has no effect, as org/x (Own) computes its loss by itself; it is trained "
        "without smoothing"
    ]
    assert model.training
    assert model.loss_function is loss, "it is given back as it came"
    assert torch.equal(torch.get_rng_state(), state)
