"""What all tasks of a causal language model share."""

import math

import pytest
import torch

from autolora.configs.tasks import Generation
from autolora.problems.tasks.data_to_text import E2E
from tests.helpers.generation_toys import make_causal


def test_perplexity_is_the_exponential_of_the_loss_and_never_overflows() -> None:
    task = E2E(Generation(type="generation", benchmark="e2e", metrics=["bleu"]))
    assert task.token_metrics(2.0, 0.5) == {"perplexity": pytest.approx(math.exp(2)), "token_accuracy": 0.5}
    assert math.isfinite(task.token_metrics(1e6, 0.0)["perplexity"])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_smoothed_as_configured_while_it_is_trained(smoothing: float) -> None:
    model = make_causal("gpt2", 50).eval()
    ids = torch.randint(50, (2, 9))
    config = Generation(type="generation", benchmark="e2e", metrics=["bleu"], label_smoothing=smoothing)
    E2E(config).adapt(model)
    logs = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    nll = -logs.gather(-1, ids[:, 1:, None]).mean()
    expected = (1 - smoothing) * nll - smoothing * logs.mean()
    torch.testing.assert_close(model(input_ids=ids, labels=ids).loss, expected)
