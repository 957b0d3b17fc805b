"""The loss that a model computes by itself."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from autolora.configs.tasks import Sample
from autolora.problems.tasks.kind import Kind, own_loss
from autolora.problems.tasks.texts import Texts


class Mean(nn.Module):
    """A model whose loss is the mean of its batch."""

    def forward(self, values: Tensor, labels: Tensor) -> Any:
        return SimpleNamespace(loss=(values - labels).mean(), logits=values)


def test_the_loss_is_that_of_the_model_and_has_its_gradient() -> None:
    values = torch.tensor([3.0, 5.0], requires_grad=True)
    loss = own_loss(Mean(), {"values": values, "labels": torch.ones(2)})
    assert loss.item() == 3.0
    loss.backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0.5]


def test_a_task_is_what_a_search_reads_of_it() -> None:
    kind: Kind = Texts(Sample(), seed=0)
    assert str(kind.peft_type) == "TaskType.SEQ_CLS"
    assert kind.head()["problem_type"] == "single_label_classification"
    assert "sample" in kind.origin()
